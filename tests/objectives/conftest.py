"""Tiny encoders and batches."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import pytest
import torch
from torch import Tensor

from cmcgns.methods import METHODS
from cmcgns.models.image import build_trunk
from cmcgns.models.text import build_text_encoder
from cmcgns.objectives.base import Batch, Objective
from cmcgns.objectives.cm_cgns import CMCGNS

SIZES = {"hidden": 64, "layers": 2, "heads": 2, "vocab_size": 60, "max_positions": 40, "dropout": 0.0}
REPORTS = ((4, 3), (2,), (3, 2, 4), (5, 2), (2, 2, 2), (6,), (3, 3), (2, 4))
"""Tokens of each sentence of each report."""


def make_objective(**options) -> CMCGNS:
    """CM-CGNS over ResNet-10 at 64 px and a BERT of 2 x 64 without dropout."""
    return CMCGNS(
        build_trunk("resnet10", "random", seed=3),
        build_text_encoder("random", seed=3, config=SIZES),
        **{
            "image_size": 64,
            "dim": 32,
            "heads": 4,
            "num_clusters": 4,
            "predictor_hidden": 16,
            "decoder_widths": (16, 16, 8, 8),
            **options,
        },
    )


def make_batch(reports: Sequence[Sequence[int]] = REPORTS, *, pad: int = 0, seed: int = 0) -> Batch:
    """One image of 4 x 4 random tiles and random tokens per report; `pad` more columns of padding than needed.

    Every third token continues the word before it. The second view is the first, shifted and darker.
    """
    longest = max(sum(sentences) for sentences in reports) + 2 + pad
    token_ids = torch.zeros(len(reports), longest, dtype=torch.int64)
    sentence_index = torch.full_like(token_ids, -1)
    word_index = torch.full_like(token_ids, -1)
    mask = torch.zeros(token_ids.shape, dtype=torch.bool)
    images: list[Tensor] = []
    for row, sentences in enumerate(reports):
        draw = torch.Generator().manual_seed(1000 * seed + row)
        length = sum(sentences)
        token_ids[row, 0], token_ids[row, length + 1] = 1, 2
        token_ids[row, 1 : length + 1] = torch.randint(5, SIZES["vocab_size"], (length,), generator=draw)
        sentence_index[row, 1 : length + 1] = torch.arange(len(sentences)).repeat_interleave(
            torch.tensor(sentences)
        )
        word_index[row, 1 : length + 1] = (
            torch.tensor([i for n in sentences for i in [j % 3 != 2 for j in range(n)]]).cumsum(0) - 1
        )
        mask[row, : length + 2] = True
        tiles = torch.rand(3, 4, 4, generator=draw) * 2 - 1
        images.append(tiles.repeat_interleave(16, 1).repeat_interleave(16, 2))
    views = torch.stack(images)
    return Batch(
        views,
        token_ids,
        mask,
        sentence_index,
        word_index,
        torch.arange(len(reports)),
        second=views.roll(8, -1) * 0.8,
    )


TINY: dict[str, dict] = {
    "moco": {"dim": 16, "queue_size": 64, "bn_splits": 1},
    "moco_v2": {"dim": 16, "queue_size": 64, "bn_splits": 1, "head": "mlp", "tau": 0.2},
    "simclr": {"dim": 16},
    "lovt": {"dim": 16, "hidden": 24, "frozen_layers": 1},
    # [CLS] of a random BERT hardly differs between texts; batch norm blows that up, and a low temperature its rounding
    "mgca": {
        "dim": 32,
        "hidden": 64,
        "prototypes": 6,
        "word_slots": 14,
        "freeze_steps": 0,
        "tau_global": 0.5,
    },
    "prior": {
        # with the official 0.01, 0.01 and 10, at the step size of a short test, all sentences fall into one prototype
        "tau_global": 0.1,
        "tau_local": 0.1,
        "lambda_prototype": 1.0,
        "dim": 32,
        "heads": 4,
        "prototypes": 24,
        "slots": 4,
        "decoder_layers": 2,
        "decoder_heads": 4,
        "decoder_dropout": 0.0,
    },
    "cm_cgns": {
        "dim": 32,
        "heads": 4,
        "num_clusters": 4,
        "predictor_hidden": 16,
        "decoder_widths": (16, 16, 8, 8),
    },
    "convirt": {"dim": 16, "hidden": 24, "frozen_layers": 1},
    "clip": {"dim": 16},
    "gloria": {"last_layers": 2, "chunk": 3},
}
"""Options that make each method small; what is not named keeps its default."""


def make_method(name: str, **options) -> Objective:
    """The method `name` over ResNet-10 at 64 px and a BERT of 2 x 64 without dropout."""
    module, kind = METHODS[name].objective.split(".")
    objective = getattr(import_module(f"cmcgns.objectives.{module}"), kind)
    trunk = build_trunk("resnet10", "random", seed=3)
    text = None if objective.text == "none" else build_text_encoder("random", seed=3, config=SIZES)
    return objective(trunk, text, **{"image_size": 64, "seed": 5, **TINY[name], **options})


def revive(objective: CMCGNS) -> CMCGNS:
    """Lift the decoder's output: with preset `official` its last ReLU may start dead, and all would be 0."""
    with torch.no_grad():
        objective.decoder.layers[12].bias.fill_(0.5)
    return objective


@pytest.fixture
def objective():
    """Builds a tiny `CMCGNS` from its options."""
    return lambda **options: revive(make_objective(**options))


@pytest.fixture
def method():
    """Builds a tiny method from its name and options."""
    return make_method


@pytest.fixture
def batch_of():
    """Builds a batch from the sentence lengths of its reports."""
    return make_batch


@pytest.fixture
def float64(monkeypatch):
    """All that a test makes is float64, and stays it where a method asks for fp32: `.float()` gives float64 too.

    For tests that compute one thing in two ways. Each CPU rounds float32 in its own way, and a batch norm over a few
    rows or a low temperature magnifies that without bound: with 1e-7 on the images, gradients of MGCA move by 1e-4 of
    themselves. In float64 the two ways agree on every CPU, to many more digits.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
