"""The one training loop of the downstream heads: epochs, learning rate, early stopping, the best weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmcgns.errors import InputError
from cmcgns.evaluation.features import autocast
from cmcgns.randomness import torch_generator

Callback = Callable[[int, dict[str, Any]], None]  # epoch, its row of the history


def by_epoch(progress: Callable[[int, int], None] | None, max_epochs: int) -> Callback | None:
    """A callback that tells (epochs done, epochs at most)."""
    return progress and (lambda epoch, _: progress(epoch + 1, max_epochs))


def fit(
    head: nn.Module,
    batch_loss: Callable[[np.ndarray, int, torch.Generator], Tensor],
    train: Sequence[int] | np.ndarray,
    validate: Callable[[], dict[str, float | None]],
    *,
    monitor: str,
    mode: str = "min",
    lr: float = 5e-4,
    weight_decay: float = 1e-6,
    batch_size: int,
    max_epochs: int = 50,
    patience: int = 10,
    validate_every: int = 1,
    schedule: str = "cosine",
    seed: int = 0,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
    callback: Callback | None = None,
) -> list[dict[str, Any]]:
    """Train `head` with AdamW until the monitored score has not improved for `patience` epochs.

    The best weights are kept in memory; at the end `head` holds them and is in eval mode.

    Args:
        batch_loss: indices (n,), epoch, generator for what is drawn at random -> the batch's mean loss.
        train: indices of the training images; the order is drawn anew each epoch from `seed`.
        validate: scores of the head as it is; called in eval mode, without gradients, after every `validate_every`
            epochs and after the last.
        monitor: the score that decides; `mode` says whether "min" or "max" is best.
        schedule: "cosine" (from `lr` to 0 over `max_epochs`, one step an epoch) or "constant".
        callback: gets every row of the history when its epoch has ended.

    Returns:
        The history: a row an epoch with `epoch`, `lr`, `train_loss`, the scores and `best`.

    Raises:
        InputError: no training image, or a loss or score that is not finite.
    """
    train = np.asarray(train, np.int64)
    if not len(train):
        raise InputError("no training image", remedy="use a larger fraction of the training set")
    head.to(device)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=weight_decay)
    best_epoch, best_score, best_state = 0, math.inf, {}
    history: list[dict[str, Any]] = []
    for epoch in range(max_epochs):
        rate = _rate(lr, epoch, max_epochs, schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        head.train()
        batches = shuffled_batches(train, batch_size, torch_generator(seed, "order", epoch))
        draws = torch_generator(seed, "augmentation", epoch)
        loss = _train_epoch(
            optimizer, batches, lambda b, e=epoch, g=draws: batch_loss(b, e, g), device, precision
        )
        head.eval()
        scores: dict[str, float | None] = {}
        if (epoch + 1) % validate_every == 0 or epoch + 1 == max_epochs:
            with torch.no_grad(), autocast(device, precision):
                scores = validate()
        row = {"epoch": epoch, "lr": rate, "train_loss": loss, **scores, "best": False}
        history.append(row)
        _check_finite(row, "train_loss", *([monitor] if scores else []))
        score = math.inf if not scores else scores[monitor] if mode == "min" else -scores[monitor]
        if score < best_score:
            best_epoch, best_score = epoch, score
            best_state = {name: value.detach().clone() for name, value in head.state_dict().items()}
        if callback is not None:
            callback(epoch, row)
        if epoch - best_epoch >= patience:
            break
    head.load_state_dict(best_state)
    history[best_epoch]["best"] = True
    return history


def batches_of(indices: Sequence[int] | np.ndarray, size: int) -> Iterator[np.ndarray]:
    """`indices` in order, `size` at a time; the last batch may be smaller."""
    indices = np.asarray(indices, np.int64)
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def shuffled_batches(indices: np.ndarray, size: int, generator: torch.Generator) -> Iterator[np.ndarray]:
    """`indices` in a drawn order, in full batches; one smaller batch when there are fewer than `size`.

    The rest that fills no batch is left out, because batch statistics of a few images are noise.
    """
    order = indices[torch.randperm(len(indices), generator=generator).numpy()]
    full = len(order) - len(order) % size
    return batches_of(order[:full] if full else order, size)


def _train_epoch(
    optimizer: torch.optim.Optimizer,
    batches: Iterator[np.ndarray],
    batch_loss: Callable[[np.ndarray], Tensor],
    device: str | torch.device,
    precision: str,
) -> float:
    """One pass over `batches`; the mean of the batches' losses."""
    losses = []
    for indices in batches:
        with autocast(device, precision):
            loss = batch_loss(indices)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def _rate(lr: float, epoch: int, max_epochs: int, schedule: str) -> float:
    if schedule == "cosine":
        return lr * (1 + math.cos(math.pi * epoch / max_epochs)) / 2
    if schedule == "constant":
        return lr
    raise InputError(f"unknown schedule {schedule!r}", expected="'cosine' or 'constant'")


def _check_finite(row: dict[str, Any], *names: str) -> None:
    for name in names:
        if not math.isfinite(row[name]):
            raise InputError(
                f"{name} is {row[name]} in epoch {row['epoch']}",
                expected="a finite number",
                remedy="use a lower learning rate, or precision 32-true",
            )
