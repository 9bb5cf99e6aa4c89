"""The one pre-training loop: a phase of an objective, from its start weights to its best and last ones.

It knows batches, learning rates, precision, accumulation, validation, checkpoints and resuming. It names no method.
Randomness is seeded by (seed, phase, step), so a resumed run repeats an undisturbed one without stored generator states.
"""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cmcgns.errors import InputError
from cmcgns.files import atomic, write_text
from cmcgns.objectives.base import Objective, total_loss
from cmcgns.randomness import derive, torch_generator
from cmcgns.training.data import Pairs, batches, epoch_order
from cmcgns.training.schedule import warmup_cosine

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@dataclass
class State:
    """What a resumed run needs besides weights and optimiser."""

    epoch: int = 0
    batch: int = 0
    best: float = float("inf")
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, Any] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps({**vars(self), "sums": {name: float(value) for name, value in self.sums.items()}})


def train_phase(
    objective: Objective,
    train: Pairs,
    valid: Pairs,
    *,
    phase: str,
    training: dict[str, Any],
    seed: int,
    pairing: str,
    out: Path,
    identity: str,
    devices: int = 1,
    checkpoint_minutes: float = 10,
    progress: Callable[[str], None] = print,
) -> list[dict[str, float]]:
    """Train one phase and write `best.safetensors`, `last.safetensors` and `history.csv` into `out`.

    Args:
        training: the section `training.<phase>` of the settings.
        identity: a text that names code, data and settings; a checkpoint of another identity is not resumed.
        progress: called with a line of text after every validation.

    Returns:
        One row an epoch: mean training and validation loss terms, learning rate, pairs per second.

    Raises:
        InputError: when a loss is not finite, naming the step and the term.
    """
    fabric = Fabric(accelerator="auto", devices=devices, precision=training["precision"])
    fabric.launch()
    say = progress if fabric.is_global_zero else (lambda text: None)
    size = training["batch_size_per_device"]
    running_best = out / "resume-best.safetensors"
    state, saved = State(), _resumable(out / "resume.pt", identity)
    if saved and json.loads(saved["state"])["history"] and not running_best.exists():
        saved = None  # its best weights are lost: only a whole run gives them back
    unused = {id(parameter) for parameter in objective.unused_parameters(phase)}
    for parameter in objective.parameters():
        parameter.requires_grad_(id(parameter) not in unused)
    optimizer = OPTIMIZERS[training["optimizer"]](
        [p for p in objective.parameters() if p.requires_grad],
        lr=training["lr"],
        betas=tuple(training["betas"]),
        eps=training["eps"],
        weight_decay=training["weight_decay"],
    )
    model, optimizer = fabric.setup(objective, optimizer)
    if saved:
        objective.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state = State(**json.loads(saved["state"]))
        say(f"{phase}: resumed at epoch {state.epoch + 1}, batch {state.batch}")
    per_epoch = max(
        1, len(epoch_order(train, seed=seed, key=(phase, 0), pairing=pairing)) // (size * devices)
    )
    updates = max(1, per_epoch // training["accumulate"])
    rate = {
        "total": updates * training["epochs"],
        "warmup": round(updates * training["warmup_epochs"]),
        "lr": training["lr"],
        "start_lr": training["warmup_start_lr"],
    }

    def checkpoint() -> None:
        if fabric.is_global_zero:
            with atomic(out / "resume.pt") as path:
                torch.save(
                    {
                        "identity": identity,
                        "model": objective.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "state": state.dumps(),
                    },
                    path,
                )

    saved_at = time.monotonic()
    while state.epoch < training["epochs"]:
        began, first = time.monotonic(), state.batch
        order = epoch_order(train, seed=seed, key=(phase, state.epoch), pairing=pairing)
        order = _share(order, size, fabric.global_rank, fabric.world_size)
        key = (phase, state.epoch, fabric.global_rank)
        for batch in batches(train, order, size, first=first, seed=seed, key=key, train=True):
            step = state.epoch * per_epoch + state.batch
            lr = warmup_cosine(min(step // training["accumulate"], rate["total"] - 1), **rate)
            for group in optimizer.param_groups:
                group["lr"] = lr
            closes = (state.batch + 1) % training["accumulate"] == 0 or state.batch + 1 == per_epoch
            torch.manual_seed(derive(seed, "dropout", phase, step, fabric.global_rank))
            generator = torch_generator(seed, "masks", phase, step, fabric.global_rank)
            with fabric.no_backward_sync(model, enabled=not closes):
                terms = model(fabric.to_device(batch), phase, generator)
                total = total_loss(terms, objective.weights(phase))
                fabric.backward(total / training["accumulate"])
            if closes:
                if training["max_grad_norm"]:
                    fabric.clip_gradients(model, optimizer, max_norm=training["max_grad_norm"])
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            _accumulate(state.sums, {"loss": total, **terms}, step)
            state.batch += 1
            timed = time.monotonic() - saved_at > 60 * checkpoint_minutes
            if closes and timed and state.batch < per_epoch:  # the end of an epoch has its own
                checkpoint()
                saved_at = time.monotonic()
        done = state.batch - first
        row = {"epoch": state.epoch + 1, "lr": lr}
        _check_finite(state.sums, state.epoch * per_epoch + state.batch)
        row |= {f"train_{name}": float(value) / state.batch for name, value in state.sums.items()}
        row |= validate(model, objective, valid, fabric, phase=phase, size=size, seed=seed)
        row["pairs_per_second"] = done * size * fabric.world_size / (time.monotonic() - began)
        state.history.append(row)
        say(_line(phase, row, training["epochs"]))
        if row["valid_loss"] <= state.best and fabric.is_global_zero:
            save_weights(objective, running_best)
        state.best = min(state.best, row["valid_loss"])
        state.epoch, state.batch, state.sums = state.epoch + 1, 0, {}
        checkpoint()
        saved_at = time.monotonic()
    if fabric.is_global_zero:
        save_weights(objective, out / "last.safetensors")
        # Times differ between equal runs; they go to a file that nothing is compared by.
        history = pd.DataFrame(state.history)
        write_text(out / "speed.csv", history[["epoch", "pairs_per_second"]].to_csv(index=False))
        write_text(out / "history.csv", history.drop(columns="pairs_per_second").to_csv(index=False))
        running_best.replace(out / "best.safetensors")
        (out / "resume.pt").unlink()
    return state.history


@torch.no_grad()
def validate(
    model: torch.nn.Module,
    objective: Objective,
    valid: Pairs,
    fabric: Fabric,
    *,
    phase: str,
    size: int,
    seed: int,
) -> dict[str, float]:
    """Means of loss terms and statistics over the validation batches; changes nothing in the model."""
    model.eval()
    order = torch.arange(len(valid)).numpy()
    sums: dict[str, float] = {}
    count = 0
    for count, batch in enumerate(batches(valid, order, size, train=False), start=1):
        generator = torch_generator(seed, "masks", "valid", phase, count)
        terms = model(fabric.to_device(batch), phase, generator)
        _accumulate(
            sums, {"loss": total_loss(terms, objective.weights(phase)), **terms, **objective.logs()}, count
        )
    model.train()
    return {f"valid_{name}": float(value) / count for name, value in sums.items()}


def save_weights(objective: Objective, path: Path) -> None:
    """Write the objective's whole state, buffers included."""
    with atomic(path) as temporary:
        save_file(
            {
                name: value.detach().cpu().clone().contiguous()
                for name, value in objective.state_dict().items()
            },
            temporary,
        )


def load_weights(objective: Objective, path: Path) -> None:
    """Read what `save_weights` wrote; every name must fit.

    Raises:
        InputError: when the file belongs to another model.
    """
    try:
        objective.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the weights do not fit the model: {reason}", file=path, remedy="run the phase again"
        ) from None


def _accumulate(sums: dict[str, Any], values: dict[str, Tensor], step: int) -> None:
    """Add to running sums on the device; look at them only now and then, because looking waits for the device."""
    for name, value in values.items():
        sums[name] = sums.get(name, 0.0) + value.detach().float()
    if step % 20 == 0:
        _check_finite(sums, step)


def _check_finite(sums: dict[str, Any], step: int) -> None:
    bad = [name for name, value in sums.items() if not math.isfinite(float(value))]
    if bad:
        raise InputError(
            f"not finite at step {step} or up to 20 steps before: {', '.join(bad)}",
            remedy="lower the learning rate",
        )


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


def _line(phase: str, row: dict[str, float], epochs: int) -> str:
    return (
        f"{phase} epoch {row['epoch']}/{epochs}: train {row['train_loss']:.4f}, valid {row['valid_loss']:.4f}, "
        f"{row['pairs_per_second']:.0f} pairs/s"
    )
