"""The training loop with an objective small enough to follow by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cmcgns.errors import InputError
from cmcgns.objectives.base import Objective
from cmcgns.training import data, loop

TRAINING = {
    "epochs": 3, "batch_size_per_device": 4, "accumulate": 1, "optimizer": "adam", "lr": 0.01, "warmup_start_lr": 0.001,
    "warmup_epochs": 1, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "max_grad_norm": None,
    "precision": "32-true",
}  # fmt: skip


class Toy(Objective):
    """Grey mean and text length through a line with dropout: a loss that depends on everything random."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trunk = nn.Linear(2, 1)
        self.decoder = nn.Linear(1, 1)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, batch, phase, generator=None):
        if self.training:
            self.seen += len(batch.images)
        noise = torch.rand(len(batch.images), generator=generator)
        x = torch.stack([batch.images.mean((1, 2, 3)), batch.attention_mask.float().sum(1) / 10], 1)
        error = (self.trunk(self.dropout(x)).squeeze(1) - noise) ** 2
        return {"error": error.mean()}

    def weights(self, phase):
        return {"error": 2.0}

    def unused_parameters(self, phase):
        return list(self.decoder.parameters())


def pairs(n: int = 14, seed: int = 0) -> data.Pairs:
    rng = np.random.default_rng(seed)
    tokens = [
        (np.arange(length, dtype=np.int32), np.full(length, -1, np.int32))
        for length in rng.integers(3, 9, size=n)
    ]
    studies = np.arange(n) // 2
    return data.Pairs(
        pixels=rng.integers(0, 255, (n, 36, 36), dtype=np.uint8),
        rows=np.arange(n),
        studies=studies,
        tokens=tokens,
        pad_token_id=0,
        size=32,
        crop=True,
    )


def train(out: Path, objective: Objective | None = None, progress=lambda text: None, **changes):
    objective = objective or Toy()
    general = {"seed": 1, "pairing": "image", "identity": "x"} | {
        k: changes.pop(k) for k in ("identity",) if k in changes
    }
    history = loop.train_phase(
        objective,
        pairs(),
        pairs(6, seed=1),
        phase="stage1",
        training=TRAINING | changes,
        out=out,
        progress=progress,
        **general,
    )
    return objective, history


def test_outputs_and_history(tmp_path):
    objective, history = train(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.safetensors",
        "history.csv",
        "last.safetensors",
        "speed.csv",
    ]
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table["epoch"]) == [1, 2, 3]
    assert np.allclose(table["train_loss"], 2 * table["train_error"])
    assert table["lr"].iloc[-1] < table["lr"].iloc[0]
    last = load_file(tmp_path / "last.safetensors")
    assert int(last["seen"]) == 3 * 3 * 4  # three full batches an epoch; validation counts nothing
    best = load_file(tmp_path / "best.safetensors")
    assert (table["valid_loss"].idxmin() == 2) == torch.equal(best["trunk.weight"], last["trunk.weight"])


def test_same_seed_same_bytes(tmp_path):
    for name in ("a", "b"):
        train(tmp_path / name)
    for file in ("best.safetensors", "last.safetensors", "history.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop_at", [2, 3, 5, 7])
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, monkeypatch, stop_at):
    train(tmp_path / "whole")
    real, calls = loop.total_loss, 0

    def total_loss(terms, weights):
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls > stop_at:
            raise Killed
        return real(terms, weights)

    monkeypatch.setattr(loop, "total_loss", total_loss)
    monkeypatch.setattr(
        loop.time, "monotonic", iter(range(0, 10**7, 10**3)).__next__
    )  # a checkpoint after every step
    with pytest.raises(Killed):
        train(tmp_path / "cut")
    monkeypatch.undo()
    said = []
    train(tmp_path / "cut", progress=said.append)
    assert said[0] == f"stage1: resumed at epoch {stop_at // 3 + 1}, batch {stop_at % 3}"
    for file in ("best.safetensors", "last.safetensors", "history.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_a_resumed_run_whose_best_weights_are_gone_starts_again(tmp_path):
    objective, _ = train(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    state = loop.State(epoch=1, history=[{"epoch": 1}], best=0.0)
    checkpoint = {"identity": "x", "model": objective.state_dict(), "optimizer": {}, "state": state.dumps()}
    torch.save(checkpoint, tmp_path / "cut/resume.pt")
    train(tmp_path / "cut")
    for file in ("best.safetensors", "last.safetensors", "history.csv"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@pytest.mark.parametrize("damage", ["other identity", "half a file"])
def test_a_checkpoint_of_another_run_or_a_broken_one_is_not_resumed(tmp_path, damage):
    objective, _ = train(tmp_path / "first")
    torch.save({"identity": "y", "model": objective.state_dict()}, tmp_path / "first/resume.pt")
    if damage == "half a file":
        whole = (tmp_path / "first/resume.pt").read_bytes()
        (tmp_path / "first/resume.pt").write_bytes(whole[: len(whole) // 2])
    _, again = train(tmp_path / "first")
    _, fresh = train(tmp_path / "second")
    drop = [{k: v for k, v in row.items() if k != "pairs_per_second"} for row in again]
    assert drop == [{k: v for k, v in row.items() if k != "pairs_per_second"} for row in fresh]


def test_unused_parameters_stay_as_they_are(tmp_path):
    objective = Toy()
    before = objective.decoder.weight.clone()
    train(tmp_path, objective, weight_decay=0.1)
    assert torch.equal(before, objective.decoder.weight)
    assert not torch.equal(load_file(tmp_path / "last.safetensors")["trunk.weight"], Toy().trunk.weight)


def test_accumulating_two_batches_steps_half_as_often(tmp_path):
    lrs = [row["lr"] for row in train(tmp_path / "a", accumulate=3)[1]]
    assert lrs[0] == pytest.approx(0.001)  # one update an epoch: the first is the whole warm-up
    assert lrs[1] == pytest.approx(0.01)


def test_a_loss_that_is_not_finite_stops_with_its_name(tmp_path):
    class Bad(Toy):
        def forward(self, batch, phase, generator=None):
            return {"error": super().forward(batch, phase, generator)["error"] * float("nan")}

    with pytest.raises(InputError, match="not finite at step 0.*error"):
        train(tmp_path, Bad())


def test_weights_of_another_model_are_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(InputError, match="do not fit the model"):
        loop.load_weights(nn.Linear(2, 2), tmp_path / "last.safetensors")


def test_study_random_takes_one_image_of_each_study():
    chosen = data.epoch_order(pairs(), seed=0, key=("stage1", 0), pairing="study_random")
    assert sorted(pairs().studies[chosen]) == list(range(7))
    other = data.epoch_order(pairs(), seed=0, key=("stage1", 1), pairing="study_random")
    assert sorted(chosen) != sorted(other)


def test_ranks_share_every_batch_without_overlap():
    order = np.arange(22)
    parts = [loop._share(order, 4, rank, 2) for rank in (0, 1)]
    assert [len(p) for p in parts] == [8, 8]
    for step in (0, 1):
        batch = np.concatenate([p[4 * step : 4 * step + 4] for p in parts])
        assert sorted(batch) == list(range(8 * step, 8 * step + 8))


def test_padding_is_marked_and_longest_of_the_batch():
    batch = data.collate(pairs(), np.array([0, 1, 2]), None)
    lengths = [len(pairs().tokens[s][0]) for s in pairs().studies[:3]]
    assert batch.token_ids.shape == (3, max(lengths))
    assert batch.attention_mask.sum(1).tolist() == lengths
    assert batch.images.shape == (3, 3, 32, 32)
    assert -1 <= float(batch.images.min()) < float(batch.images.max()) <= 1
