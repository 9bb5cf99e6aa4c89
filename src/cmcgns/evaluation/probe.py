"""Linear classification on frozen features (data.md 7.1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcgns.errors import InputError
from cmcgns.evaluation.features import Features, cached_features
from cmcgns.evaluation.fit import batches_of, fit
from cmcgns.models.seeding import seeded

TASKS = ("multilabel", "multiclass", "binary")


def fit_probe(
    features: Features | np.ndarray | Tensor,
    targets: np.ndarray | Tensor,
    train: Sequence[int] | np.ndarray,
    valid: Sequence[int] | np.ndarray,
    *,
    task: str,
    classes: int | None = None,
    batch_size: int = 48,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **training: Any,
) -> tuple[nn.Linear, list[dict[str, Any]]]:
    """Train a linear layer; the epoch with the lowest validation loss wins.

    Args:
        features: a callable (`live_features`, `cached_features`), or the table that `cached_features` takes.
        targets: per image: "multilabel" (images, classes) 0 or 1; "binary" (images,) 0 or 1; "multiclass"
            (images,) class numbers.
        train, valid: indices into `features` and `targets`.
        classes: number of classes of a multiclass task; by default the largest number in `targets` + 1.
        training: see `fit`.

    Returns:
        The layer, in eval mode with its best weights, and the history of `fit`.

    Raises:
        InputError: an unknown task, an empty split, or a loss that is not finite.
    """
    if not len(train) or not len(valid):
        raise InputError("no training image" if not len(train) else "no validation image")
    features = features if callable(features) else cached_features(features, device=device)
    target, loss_of = _target_and_loss(task, torch.as_tensor(targets), device)
    # features of the centre crops never change, so the validation set is encoded once
    valid = np.asarray(valid, np.int64)
    valid_features = torch.cat([features(part, None, None) for part in batches_of(valid, batch_size)])
    outputs = target.shape[1] if target.ndim == 2 else classes or int(target.max()) + 1
    with seeded(seed, "probe"):
        head = nn.Linear(valid_features.shape[1], outputs)

    def batch_loss(indices: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
        return loss_of(head(features(indices, epoch, generator)), target[indices])

    def validate() -> dict[str, float | None]:
        return {"valid_loss": float(loss_of(head(valid_features), target[valid]))}

    training |= {"monitor": "valid_loss", "batch_size": batch_size, "seed": seed, "device": device}
    history = fit(head, batch_loss, train, validate, **training)
    return head, history


def predict_probe(
    head: nn.Linear,
    features: Features | np.ndarray | Tensor,
    indices: Sequence[int] | np.ndarray,
    *,
    task: str,
    batch_size: int = 48,
    device: str | torch.device = "cpu",
) -> np.ndarray:
    """Probabilities of the centre crops, (n, classes) float32; (n, 1) for a binary task."""
    features = features if callable(features) else cached_features(features, device=device)
    head.to(device).eval()
    with torch.no_grad():
        logits = torch.cat([head(features(part, None, None)) for part in batches_of(indices, batch_size)])
    return (logits.softmax(1) if task == "multiclass" else logits.sigmoid()).cpu().numpy()


def _target_and_loss(task: str, targets: Tensor, device: str | torch.device):
    """Targets as the loss wants them, (images,) class numbers or (images, classes) floats, and the loss."""
    if task == "multiclass":
        return targets.to(device, torch.int64), F.cross_entropy
    if task in TASKS:
        return targets.to(device, torch.float32).reshape(len(targets), -1), F.binary_cross_entropy_with_logits
    raise InputError(f"unknown task {task!r}", expected=f"one of {', '.join(TASKS)}")
