"""The one pre-training loop: a phase of an objective, from its start weights to its best and last ones.

It knows batches, learning rates, precision, accumulation, validation, checkpoints and resuming. It names no method.
Randomness is seeded by (seed, phase, step), so a resumed run repeats an undisturbed one without stored generator states.
"""

import json
import math
import pickle
import platform
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor

from cmcgns.errors import InputError
from cmcgns.files import atomic, write_json, write_text
from cmcgns.objectives.base import Objective, total_loss
from cmcgns.objectives.build import save_weights
from cmcgns.randomness import derive, torch_generator
from cmcgns.training.data import Demand, Pairs, batches, epoch_order
from cmcgns.training.optimizers import build_optimizer, learning_rate


def _costs(
    *,
    device: torch.device,
    devices: int,
    passes: tuple[int, int],
    pairs: int,
    updates: int,
    seconds: list[float],
    validation_seconds: float,
    peak_mib: float,
) -> dict[str, Any]:
    """What a phase cost, for `compute.json`, which no table compares, as times differ between equal runs; of validation its seconds alone, of work lost to a kill nothing.

    Args:
        passes: images a pair that go through an image encoder with a gradient, and without.
        pairs: of all epochs and devices.
        seconds: of training, an epoch each.
    """
    cuda = device.type == "cuda"
    cpu = f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu,
        "devices": devices,
        "pairs": pairs,
        "updates": updates,
        "image_passes_with_gradient": pairs * passes[0],
        "image_passes_without_gradient": pairs * passes[1],
        "seconds": sum(seconds),
        "validation_seconds": validation_seconds,
        "pairs_per_second": [pairs / len(seconds) / epoch for epoch in seconds],
        "peak_memory_mib": peak_mib,
        "peak_memory_of": "the allocator of one GPU" if cuda else "one process, resident",
    }


def peak_mib(device: torch.device) -> float:
    """The highest use of memory so far, MiB: of the GPU's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


CHECK_EVERY = 20  # steps between looks at the loss, because looking waits for the device


@dataclass
class State:
    """What a resumed run needs besides weights and optimiser.

    Attributes:
        seconds: of training, an epoch each, the running one last; validation has its own sum.
        peak_mib: the highest peak of memory of all the processes that worked on the phase.
    """

    epoch: int = 0
    batch: int = 0
    best: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Any] = field(default_factory=dict)
    pairs: int = 0
    seconds: list[float] = field(default_factory=list)
    validation_seconds: float = 0.0
    peak_mib: float = 0.0

    def dumps(self) -> str:
        return json.dumps({**vars(self), "sums": {name: float(value) for name, value in self.sums.items()}})


def train_phase(
    objective: Objective,
    train: Pairs,
    valid: Pairs,
    *,
    demand: Demand,
    phase: str,
    training: dict[str, Any],
    seed: int,
    pairing: str,
    out: Path,
    identity: str,
    devices: int = 1,
    checkpoint_minutes: float = 10,
    progress: Callable[[str], None] = print,
    tick: Callable[[int, int], None] | None = None,
    log: Callable[[dict[str, float]], None] = lambda row: None,
    asked: Sequence[int] = (),
) -> list[dict[str, float]]:
    """Train one phase; write `best.safetensors`, `last.safetensors`, `history.csv` and `compute.json` into `out`.

    Args:
        demand: what the batches hold.
        training: the section `training.<phase>` of the settings.
        identity: a text that names code, data and settings; a checkpoint of another identity is not resumed.
        progress: called with a line of text after every validation.
        tick: called with (batches done, batches in all) after every batch, in one of the processes.
        log: called with every new row of the history (`training.trackers`).
        asked: of `stop_requests`: as soon as it has an entry, the run saves and ends the process.

    Returns:
        One row an epoch: mean training and validation loss terms, learning rate.

    Raises:
        InputError: when a loss is not finite, naming the step and the term.
    """
    fabric = Fabric(accelerator="auto", devices=devices, precision=training["precision"])
    fabric.launch()
    scaler = fabric.strategy.precision  # without a state unless the precision is fp16
    say = progress if fabric.is_global_zero else (lambda text: None)
    size, accumulate, epochs = (training[k] for k in ("batch_size_per_device", "accumulate", "epochs"))
    running_best = out / "resume-best.safetensors"
    state, saved = State(), _resumable(out / "resume.pt", identity)
    if saved and json.loads(saved["state"])["history"] and not running_best.exists():
        saved = None  # its best weights are lost: only a whole run gives them back
    unused = {id(parameter) for parameter in objective.unused_parameters(phase)}
    for parameter in objective.parameters():
        parameter.requires_grad_(id(parameter) not in unused)
    model, optimizer = fabric.setup(objective, build_optimizer(objective.parameters(), training))
    if saved:
        objective.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        state = State(**json.loads(saved["state"]))
        say(f"{phase}: resumed at epoch {state.epoch + 1}, batch {state.batch}")
    order = epoch_order(train, seed=seed, key=(phase, 0), pairing=pairing)
    per_epoch = max(1, len(order) // (size * devices))
    updates = math.ceil(per_epoch / accumulate)
    rate = {
        "total": updates * epochs,
        "warmup": round(updates * training["warmup_epochs"]),
        "lr": training["lr"],
        "start_lr": training["warmup_start_lr"],
        "schedule": training["schedule"],
        "milestones": [updates * epoch for epoch in training["milestones"]],
    }

    def checkpoint() -> None:
        state.peak_mib = max(state.peak_mib, peak_mib(fabric.device))
        if fabric.is_global_zero:
            with atomic(out / "resume.pt") as path:
                torch.save(
                    {
                        "identity": identity,
                        "model": objective.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "scaler": scaler.state_dict(),
                        "state": state.dumps(),
                    },
                    path,
                )

    def lap() -> float:
        """Seconds since the last call."""
        nonlocal since
        before, since = since, time.monotonic()
        return since - before

    since = saved_at = time.monotonic()
    while state.epoch < epochs:
        if len(state.seconds) == state.epoch:
            state.seconds.append(0.0)
        order = epoch_order(train, seed=seed, key=(phase, state.epoch), pairing=pairing)
        order = _share(order, size, fabric.global_rank, fabric.world_size)
        key = (phase, state.epoch, fabric.global_rank)
        options = {"demand": demand, "first": state.batch, "seed": seed, "key": key, "train": True}
        for batch in batches(train, order, size, **options):
            step = state.epoch * per_epoch + state.batch
            lr = learning_rate(state.epoch * updates + state.batch // accumulate, **rate)
            for group in optimizer.param_groups:
                group["lr"] = lr
            opened = state.batch - state.batch % accumulate  # the first batch of this update
            together = min(accumulate, per_epoch - opened)  # the last update of an epoch may have fewer
            closes = state.batch + 1 == opened + together
            torch.manual_seed(derive(seed, "dropout", phase, step, fabric.global_rank))
            generator = torch_generator(seed, "masks", phase, step, fabric.global_rank)
            with fabric.no_backward_sync(model, enabled=not closes):
                terms = model(fabric.to_device(batch), phase, generator)
                total = total_loss(terms, objective.weights(phase))
                fabric.backward(total / together)
            if closes:
                if training["max_grad_norm"]:
                    fabric.clip_gradients(model, optimizer, max_norm=training["max_grad_norm"])
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            _accumulate(state.sums, {"loss": total, **terms})
            if step % CHECK_EVERY == 0:
                _check_finite(state.sums, f"at step {step} or up to {CHECK_EVERY} steps before")
            state.batch += 1
            state.pairs += len(batch.images) * fabric.world_size
            state.seconds[-1] += lap()
            if tick and fabric.is_global_zero:
                tick(step + 1, per_epoch * epochs)
            timed = since - saved_at > 60 * checkpoint_minutes
            if closes and (timed or asked) and state.batch < per_epoch:  # the end of an epoch has its own
                checkpoint()
                saved_at = time.monotonic()
                _stop(asked, say)
        row = {"epoch": state.epoch + 1, "lr": lr}
        _check_finite(state.sums, f"up to {CHECK_EVERY} steps before the end of epoch {state.epoch + 1}")
        row |= {f"train_{name}": float(value) / state.batch for name, value in state.sums.items()}
        state.seconds[-1] += lap()
        row |= validate(model, objective, valid, fabric, demand=demand, phase=phase, size=size, seed=seed)
        state.validation_seconds += lap()
        state.history.append(row)
        log(row)
        speed = state.batch * size * fabric.world_size / state.seconds[-1]
        say(_line(phase, row, epochs, speed))
        if row["valid_loss"] <= state.best and fabric.is_global_zero:
            save_weights(objective, running_best)
        state.best = min(state.best, row["valid_loss"])
        state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
        checkpoint()
        if state.epoch < epochs:
            _stop(asked, say)
        lap()
        saved_at = since
    if fabric.is_global_zero:
        save_weights(objective, out / "last.safetensors")
        passes = objective.passes or (objective.views, 0)
        spent = {key: getattr(state, key) for key in ("pairs", "seconds", "validation_seconds", "peak_mib")}
        devices = {"device": fabric.device, "devices": fabric.world_size}
        write_json(out / "compute.json", _costs(**spent, **devices, passes=passes, updates=updates * epochs))
        write_text(out / "history.csv", pd.DataFrame(state.history).to_csv(index=False))
        running_best.replace(out / "best.safetensors")
        (out / "resume.pt").unlink()
    return state.history


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that inside the block gets the number of each SIGTERM and SIGUSR1 that arrives: a scheduler's wish to have the
    device back. To be called in the main thread.
    """
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda arrived, _: asked.append(arrived))
        for number in (signal.SIGTERM, signal.SIGUSR1)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(asked: Sequence[int], say: Callable[[str], None]) -> None:
    """End the process, if it was asked to, with the status that says by which signal."""
    if asked:
        say(f"stopped by signal {asked[0]}, saved: the same command goes on from here")
        raise SystemExit(128 + asked[0])


@torch.no_grad()
def validate(
    model: torch.nn.Module,
    objective: Objective,
    valid: Pairs,
    fabric: Fabric,
    *,
    demand: Demand,
    phase: str,
    size: int,
    seed: int,
) -> dict[str, float]:
    """Means of loss terms and statistics over the validation batches; changes nothing in the model."""
    model.eval()
    order = torch.arange(len(valid)).numpy()
    sums: dict[str, Any] = {}
    logs: dict[str, Any] = {}
    count = 0
    for count, batch in enumerate(batches(valid, order, size, demand=demand, train=False), start=1):
        generator = torch_generator(seed, "masks", "valid", phase, count)
        terms = model(fabric.to_device(batch), phase, generator)
        _accumulate(sums, {"loss": total_loss(terms, objective.weights(phase)), **terms})
        _accumulate(logs, objective.logs())
    model.train()
    _check_finite(sums, f"in the validation of {phase}")
    return {f"valid_{name}": float(value) / count for name, value in (sums | logs).items()}


def _accumulate(sums: dict[str, Any], values: dict[str, Tensor]) -> None:
    """Add to running sums on the device."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value.detach().float()


def _check_finite(sums: dict[str, Any], where: str) -> None:
    bad = [name for name, value in sums.items() if not math.isfinite(float(value))]
    if bad:
        raise InputError(f"not finite {where}: {', '.join(bad)}", remedy="lower the learning rate")


def _share(order: Any, size: int, rank: int, world: int) -> Any:
    """This rank's part of every global batch, in order."""
    if world == 1:
        return order
    whole = len(order) // (size * world)
    return order[: whole * size * world].reshape(whole, world, size)[:, rank].ravel()


def _resumable(path: Path, identity: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError):
        return None  # half a file: start the phase again, as if it had not been there
    return saved if saved["identity"] == identity else None


def _line(phase: str, row: dict[str, float], epochs: int, speed: float) -> str:
    return (
        f"{phase} epoch {row['epoch']}/{epochs}: train {row['train_loss']:.4f}, valid {row['valid_loss']:.4f}, "
        f"{speed:.0f} pairs/s"
    )
