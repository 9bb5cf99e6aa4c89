"""What the step `pretrain` hands to the loop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cmcgns.training import run
from cmcgns.training.data import Demand


@pytest.fixture
def handed_over(monkeypatch, tmp_path):
    """Runs `pretrain` with a model and pairs that are none, and gives what was asked of its helpers."""

    def call(views: int, text: str, files: dict) -> dict:
        seen = {}
        objective = SimpleNamespace(views=views, text=text)

        def load_pairs(**options):
            seen["tokens"] = options["tokens"]
            return {"train": [], "valid": []}

        def build_objective(*_, **options):
            seen["vocab_size"] = options["vocab_size"]
            return objective

        monkeypatch.setattr(run, "build_objective", build_objective)
        monkeypatch.setattr(run, "load_pairs", load_pairs)
        monkeypatch.setattr(run, "train_phase", lambda *_, **options: seen.update(options))
        monkeypatch.setattr(run, "read_meta", lambda path: {"vocab_size": 77})
        monkeypatch.setattr(run, "sha256_file", lambda path: "abc")
        settings = {
            "class": "some.Method", "encoders": {}, "objective": {}, "augmentation": "moco_v2", "training": {"epochs": 1},
            "images": {"size": 64, "resize": "direct224"},
            "pretraining": {"seed": 3, "pairing": "image", "devices": 1, "threads": 1},
        }  # fmt: skip
        run.pretrain(
            arm="some", phase="stage1", start=None, files=files, settings=settings, code="", out=tmp_path
        )
        return seen

    return call


FILES = {"store": "a.npy", "store_table": "a.parquet", "index": "i.parquet", "split": "s.parquet"}


def test_a_method_of_images_alone_asks_for_no_text(handed_over):
    seen = handed_over(2, "none", FILES)
    assert seen["demand"] == Demand(views=2, text="none", augmentation="moco_v2")
    assert seen["tokens"] is None and seen["vocab_size"] is None


def test_a_method_with_text_gets_the_tokens_and_their_vocabulary(handed_over):
    seen = handed_over(1, "sentence", {**FILES, "tokens": "t.parquet"})
    assert seen["demand"] == Demand(views=1, text="sentence", augmentation="moco_v2")
    assert seen["tokens"] == "t.parquet" and seen["vocab_size"] == 77
