"""The training loop with objectives small enough to follow by hand."""

from __future__ import annotations

import copy
import json
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from safetensors.torch import load_file
from torch import nn

from cmcgns.errors import InputError
from cmcgns.objectives.base import Objective
from cmcgns.objectives.build import load_weights
from cmcgns.training import data, loop

TRAINING = {
    "epochs": 3, "batch_size_per_device": 4, "accumulate": 1, "optimizer": "adam", "lr": 0.01, "warmup_start_lr": 0.001,
    "warmup_epochs": 1, "schedule": "cosine", "milestones": [], "betas": [0.9, 0.999], "eps": 1e-8, "momentum": 0.9,
    "weight_decay": 0.0, "decay_norm_and_bias": True, "max_grad_norm": None, "precision": "32-true",
}  # fmt: skip
WEIGHTS = ("best.safetensors", "last.safetensors", "history.csv")  # what two equal runs have alike


class Toy(Objective):
    """Grey mean and text length through a line with dropout: a loss that depends on everything random."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.trunk, self.decoder = nn.Linear(2, 1), nn.Linear(1, 1)
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


class Memory(Toy):
    """Two views, one random sentence, a slow copy of the trunk and a ring of its outputs: all in the loss."""

    views, text, passes = 2, "sentence", (1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.slow = copy.deepcopy(self.trunk)
        self.register_buffer("queue", torch.zeros(8))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, batch, phase, generator=None):
        words = (batch.token_ids * batch.attention_mask).float().sum(1) / 100
        query, key = (torch.stack([x.mean((1, 2, 3)), words], 1) for x in (batch.images, batch.second))
        with torch.no_grad():
            if self.training:
                for old, new in zip(self.slow.parameters(), self.trunk.parameters(), strict=True):
                    old.lerp_(new, 0.1)
            keys = self.slow(key).squeeze(1)
            target = keys + self.queue.mean()
            if self.training:
                at = (self.pointer + torch.arange(len(keys))) % len(self.queue)
                self.queue[at] = keys
                self.pointer += len(keys)
        return {"error": ((self.trunk(self.dropout(query)).squeeze(1) - target) ** 2).mean()}

    def unused_parameters(self, phase):
        return [*self.decoder.parameters(), *self.slow.parameters()]


def pairs(n: int = 14, seed: int = 0) -> data.Pairs:
    """n random images, two a study, with reports of three sentences between a first and a last token."""
    rng = np.random.default_rng(seed)
    tokens = []
    for _ in range(n):
        lengths = rng.integers(1, 4, size=3)
        sentences = np.repeat(np.arange(3), lengths)
        ids = np.concatenate([[1], rng.integers(5, 50, size=len(sentences)), [2]])
        framed = [np.concatenate([[-1], x, [-1]]) for x in (sentences, np.arange(len(sentences)))]
        tokens.append(tuple(x.astype(np.int32) for x in (ids, *framed)))
    return data.Pairs(
        pixels=rng.integers(0, 255, (n, 36, 36), dtype=np.uint8),
        rows=np.arange(n),
        studies=np.arange(n) // 2,
        tokens=tokens,
        pad_token_id=0,
        size=32,
    )


def train(
    out: Path,
    objective: Objective | None = None,
    progress=lambda text: None,
    log=lambda row: None,
    train=None,
    asked=(),
    **changes,
):
    objective = objective or Toy()
    history = loop.train_phase(
        objective,
        train or pairs(),
        pairs(6, seed=1),
        demand=data.Demand(objective.views, objective.text),
        phase="stage1",
        training=TRAINING | changes,
        seed=1,
        pairing="image",
        out=out,
        identity="x",
        progress=progress,
        log=log,
        asked=asked,
    )
    return objective, history


def same(first: Path, second: Path) -> bool:
    return all((first / file).read_bytes() == (second / file).read_bytes() for file in WEIGHTS)


def test_outputs_and_history(tmp_path):
    objective, history = train(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*WEIGHTS, "compute.json"}
    table = pd.read_csv(tmp_path / "history.csv")
    assert list(table["epoch"]) == [1, 2, 3]
    assert np.allclose(table["train_loss"], 2 * table["train_error"])
    assert table["lr"].iloc[-1] < table["lr"].iloc[0]
    last = load_file(tmp_path / "last.safetensors")
    assert int(last["seen"]) == 3 * 3 * 4  # three full batches an epoch; validation counts nothing
    best = load_file(tmp_path / "best.safetensors")
    assert (table["valid_loss"].idxmin() == 2) == torch.equal(best["trunk.weight"], last["trunk.weight"])


def test_every_row_is_logged_once_though_the_run_is_stopped(tmp_path):
    logged, asked = [], []

    def log(row):
        logged.append(row)
        asked.append(15)  # as if SIGTERM arrived

    with pytest.raises(SystemExit):
        train(tmp_path, log=log, asked=asked)
    assert [row["epoch"] for row in logged] == [1]
    _, history = train(tmp_path, log=logged.append)
    assert logged == history and [row["epoch"] for row in logged] == [1, 2, 3]


@pytest.mark.parametrize("kind", [Toy, Memory])
def test_same_seed_same_bytes(tmp_path, kind):
    for name in ("a", "b"):
        train(tmp_path / name, kind())
    assert same(tmp_path / "a", tmp_path / "b")


class Killed(Exception):
    pass


def kill(monkeypatch, stop_at: int, run) -> None:
    """`run` with a checkpoint after every step, killed after step `stop_at`; a second passes at every look."""
    real, calls = loop.total_loss, 0

    def total_loss(terms, weights):
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls > stop_at:
            raise Killed
        return real(terms, weights)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "total_loss", total_loss)
        patch.setattr(loop.time, "monotonic", iter(range(0, 10**7, 10**3)).__next__)
        with pytest.raises(Killed):
            run()


@pytest.fixture(scope="module", params=[(Toy, {}), (Memory, {"optimizer": "sgd", "accumulate": 2})])
def whole(request, tmp_path_factory):
    """An objective's class, options of training, and the folder of an undisturbed run."""
    kind, options = request.param
    out = tmp_path_factory.mktemp("whole")
    train(out, kind(), **options)
    return kind, options, out


@pytest.mark.parametrize("stop_at", range(1, 9))
def test_a_run_killed_after_any_step_continues_to_the_same_bytes(tmp_path, monkeypatch, whole, stop_at):
    kind, options, undisturbed = whole
    kill(monkeypatch, stop_at, lambda: train(tmp_path, kind(), **options))
    said = []
    train(tmp_path, kind(), progress=said.append, **options)
    epoch, batch = divmod(stop_at, 3)
    if batch == 1 and options:  # the first of two batches that share an update: no checkpoint after it
        batch = 0
    assert ("resumed" in said[0]) is bool(epoch or batch)
    if epoch or batch:
        assert said[0] == f"stage1: resumed at epoch {epoch + 1}, batch {batch}"
    assert same(tmp_path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_a_run_asked_to_stop_saves_and_continues_to_the_same_bytes(tmp_path, monkeypatch, stop_at, number):
    train(tmp_path / "whole")
    real, calls = loop.total_loss, 0

    def total_loss(terms, weights):
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls == stop_at and torch.is_grad_enabled():
            os.kill(os.getpid(), number)
        return real(terms, weights)

    handler = signal.getsignal(number)
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped, loop.stop_requests() as asked:
        patch.setattr(loop, "total_loss", total_loss)
        train(tmp_path / "cut", asked=asked)
    assert stopped.value.code == 128 + number and signal.getsignal(number) is handler
    said = []
    train(tmp_path / "cut", progress=said.append)
    epoch, batch = divmod(stop_at, 3)
    assert said[0] == f"stage1: resumed at epoch {epoch + 1}, batch {batch}"
    assert same(tmp_path / "cut", tmp_path / "whole")


def test_memory_has_changed_in_training_and_is_in_the_weights(tmp_path):
    train(tmp_path, Memory())
    last = load_file(tmp_path / "last.safetensors")
    assert int(last["pointer"]) == 3 * 3 * 4 and (last["queue"] != 0).all()
    assert not torch.equal(last["slow.weight"], Memory().slow.weight)


def test_the_ledger_counts_what_was_done(tmp_path):
    train(tmp_path, Memory(), accumulate=2)
    found = json.loads((tmp_path / "compute.json").read_text())
    assert found["devices"] == 1 and found["pairs"] == 36 and found["updates"] == 6
    assert found["image_passes_with_gradient"] == found["image_passes_without_gradient"] == 36
    assert len(found["pairs_per_second"]) == 3
    assert 36 / found["seconds"] == pytest.approx(3 / sum(1 / x for x in found["pairs_per_second"]))
    assert found["peak_memory_mib"] > 10
    if not torch.cuda.is_available():
        assert found["peak_memory_of"] == "one process, resident" and found["device"].startswith("CPU")


def test_image_passes_are_the_views_unless_the_method_says_otherwise(tmp_path):
    class TwoViews(Toy):
        views = 2

    train(tmp_path, TwoViews())
    found = json.loads((tmp_path / "compute.json").read_text())
    assert (found["image_passes_with_gradient"], found["image_passes_without_gradient"]) == (72, 0)


def test_the_ledger_goes_on_after_a_kill(tmp_path, monkeypatch):
    """1000 s pass at each look at the clock: one a step, one at a checkpoint, one after the validation."""
    kill(monkeypatch, 5, lambda: train(tmp_path))
    before = loop.State(**json.loads(torch.load(tmp_path / "resume.pt")["state"]))
    assert before.pairs == 5 * 4 and len(before.seconds) == 2 and min(before.seconds) >= 2000
    train(tmp_path)
    found = json.loads((tmp_path / "compute.json").read_text())
    assert found["pairs"] == 9 * 4
    assert 0 <= found["seconds"] - sum(before.seconds) < 1000
    assert 1000 <= found["validation_seconds"] < 2000
    assert found["peak_memory_mib"] >= before.peak_mib > 0


def test_the_loss_scale_of_fp16_is_resumed(tmp_path, monkeypatch):
    """On a CPU Fabric would take bf16 instead, so it is given its own fp16 plugin, whose scale doubles every 2 steps."""
    scales = []

    def fabric(**options):
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
        scales.append(scaler)
        options.pop("precision")
        return Fabric(**options | {"accelerator": "cpu"}, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])

    monkeypatch.setattr(loop, "Fabric", fabric)
    train(tmp_path / "whole")
    kill(monkeypatch, 5, lambda: train(tmp_path / "cut"))
    train(tmp_path / "cut")
    assert [scaler.get_scale() for scaler in scales] == [64.0, 16.0, 64.0]
    assert same(tmp_path / "cut", tmp_path / "whole")


def test_a_resumed_run_whose_best_weights_are_gone_starts_again(tmp_path):
    objective, _ = train(tmp_path / "whole")
    (tmp_path / "cut").mkdir()
    state = loop.State(epoch=1, history=[{"epoch": 1}], best=0.0)
    checkpoint = {"identity": "x", "model": objective.state_dict(), "optimizer": {}, "state": state.dumps()}
    torch.save(checkpoint, tmp_path / "cut/resume.pt")
    train(tmp_path / "cut")
    assert same(tmp_path / "cut", tmp_path / "whole")


@pytest.mark.parametrize("damage", ["other identity", "half a file"])
def test_a_checkpoint_of_another_run_or_a_broken_one_is_not_resumed(tmp_path, damage):
    objective, _ = train(tmp_path / "first")
    torch.save({"identity": "y", "model": objective.state_dict()}, tmp_path / "first/resume.pt")
    if damage == "half a file":
        whole = (tmp_path / "first/resume.pt").read_bytes()
        (tmp_path / "first/resume.pt").write_bytes(whole[: len(whole) // 2])
    assert train(tmp_path / "first")[1] == train(tmp_path / "second")[1]


def test_unused_parameters_stay_as_they_are(tmp_path):
    objective = Toy()
    before = objective.decoder.weight.clone()
    train(tmp_path, objective, weight_decay=0.1)
    assert torch.equal(before, objective.decoder.weight)
    assert not torch.equal(load_file(tmp_path / "last.safetensors")["trunk.weight"], Toy().trunk.weight)


def test_one_update_an_epoch_takes_one_step_of_the_schedule(tmp_path):
    lrs = [row["lr"] for row in train(tmp_path, accumulate=3)[1]]
    assert lrs == pytest.approx([0.001, 0.01, 0.005])  # the first is the whole warm-up


@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_accumulated_gradients_are_means_over_their_batches(tmp_path, accumulate):
    """One epoch without dropout by SGD against the batches by hand; of 3 batches, 2 and 1 share an update."""
    objective = Toy()
    objective.dropout.p = 0.0
    reference = copy.deepcopy(objective)
    seen = []
    forward = Toy.forward

    class Watched(Toy):
        def forward(self, batch, phase, generator=None):
            if self.training:
                seen.append((batch, generator.get_state()))
            return forward(self, batch, phase, generator)

    objective.__class__ = Watched
    changes = {"optimizer": "sgd", "momentum": 0.0, "warmup_epochs": 0, "schedule": "constant", "epochs": 1}
    train(tmp_path, objective, accumulate=accumulate, **changes)
    optimizer = torch.optim.SGD(reference.trunk.parameters(), lr=0.01)
    assert len(seen) == 3
    for start in range(0, 3, accumulate):
        group = seen[start : start + accumulate]
        optimizer.zero_grad()
        for batch, state in group:
            generator = torch.Generator()
            generator.set_state(state)
            (2 * reference(batch, "stage1", generator)["error"] / len(group)).backward()
        optimizer.step()
    torch.testing.assert_close(objective.trunk.weight, reference.trunk.weight)


def test_milestones_are_epochs(tmp_path):
    changes = {"schedule": "step", "milestones": [2], "warmup_epochs": 0}
    lrs = [row["lr"] for row in train(tmp_path, **changes)[1]]
    assert lrs == pytest.approx([0.01, 0.01, 0.001])


def test_a_loss_that_is_not_finite_stops_with_its_name(tmp_path):
    class Bad(Toy):
        def forward(self, batch, phase, generator=None):
            return {"error": super().forward(batch, phase, generator)["error"] * float("nan")}

    with pytest.raises(InputError, match="not finite at step 0.*error"):
        train(tmp_path, Bad())


def test_a_validation_loss_that_is_not_finite_stops_too(tmp_path):
    class Bad(Toy):
        def forward(self, batch, phase, generator=None):
            error = super().forward(batch, phase, generator)["error"]
            return {"error": error if self.training else error * float("inf")}

    with pytest.raises(InputError, match="not finite in the validation of stage1: loss, error"):
        train(tmp_path, Bad())


def test_weights_of_another_model_are_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(InputError, match="do not fit the model"):
        load_weights(nn.Linear(2, 2), tmp_path / "last.safetensors")


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
    chosen, draw = np.array([0, 1, 2]), torch.Generator().manual_seed(0)
    batch = data.collate(pairs(), chosen, draw, data.Demand(), train=False)
    lengths = [len(pairs().tokens[s][0]) for s in pairs().studies[:3]]
    assert batch.token_ids.shape == (3, max(lengths))
    assert batch.attention_mask.sum(1).tolist() == lengths
    assert batch.images.shape == (3, 3, 32, 32) and batch.second is None
    assert -1 <= float(batch.images.min()) < float(batch.images.max()) <= 1
