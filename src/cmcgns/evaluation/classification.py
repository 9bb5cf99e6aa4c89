"""The step `finetune` for classification: a linear probe on frozen features (data specification 7.1)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cmcgns.evaluation.cell import load_images, positions, prepare, write_run
from cmcgns.evaluation.encode import crop
from cmcgns.evaluation.features import cached_features, live_features
from cmcgns.evaluation.fit import by_epoch
from cmcgns.evaluation.metrics import accuracy, auroc_metrics, bootstrap_interval, macro_auroc, weighted_mean
from cmcgns.evaluation.probe import fit_probe, predict_probe
from cmcgns.evaluation.targets import targets
from cmcgns.images import transforms
from cmcgns.models.image import build_trunk


def finetune(
    *,
    source: str,
    fraction: int,
    seed: int,
    head: dict[str, Any],
    trunk: Path | None = None,
    features: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    **run: Any,
) -> dict[str, Any]:
    """Train and test one probe; write its predictions of the test images and its metrics.

    Args:
        head: settings.
        trunk, features: the frozen encoder, or what it said of stored views (`head["views"]` above 0).
        run: see `cell`.
        progress: called with (epochs done, epochs at most).
    """
    device = prepare(run)
    images, pictures = load_images(run, "classification", fraction)
    task, names, target = targets(source, images)
    head = dict(head)
    views, augmentation = head.pop("views"), head.pop("augmentation")
    rows = images["row"].to_numpy()
    if views:
        encoded = cached_features(np.load(features, mmap_mode="r")[rows], device=device)
    else:
        pixels, size = pictures.work_array(run["size"], run["resize"]), run["size"]

        def load(chosen: np.ndarray, epoch: int | None, generator: torch.Generator | None) -> torch.Tensor:
            batch = torch.from_numpy(np.ascontiguousarray(pixels[rows[chosen]])).to(device)
            training = generator is not None
            return transforms.to_network(
                crop(batch, size, augmentation, generator)
                if training
                else transforms.center_crop(batch, size)
            )

        encoded = live_features(
            build_trunk(run["arch"], str(trunk)), load, device=device, precision=run["precision"]
        )
    probe, history = fit_probe(
        encoded,
        target,
        positions(images, "train"),
        positions(images, "valid"),
        task=task,
        classes=len(names),
        seed=seed,
        device=device,
        callback=by_epoch(progress, head["max_epochs"]),
        **head,
    )
    test = positions(images, "test")
    probability = predict_probe(probe, encoded, test, task=task, device=device)
    measured = measure(
        task, names, probability, target[test], images["group_id"].iloc[test], run["bootstrap"]
    )
    return write_run(run, images, _columns(task, names, probability, target[test]), measured, history)


def measure(
    task: str,
    names: tuple[str, ...],
    probability: np.ndarray,
    target: np.ndarray,
    groups: pd.Series,
    resamples: int,
) -> dict[str, Any]:
    """AUROC (macro over classes) or accuracy, the value a class, and an interval by resampling patients."""
    if task == "multiclass":
        right = (probability.argmax(1) == target).astype(float)
        value, metric = accuracy(probability, target), "ACC"
        further = {f"recall {n}": _mean(right[target == i]) for i, n in enumerate(names)}

        def statistic(weights: np.ndarray) -> np.ndarray:
            return weighted_mean(right, weights)
    else:
        truth = target.reshape(len(target), -1)
        found = auroc_metrics(probability, truth, names)
        value, metric = found["auroc"], "AUC"
        further = {f"AUC {name}": score for name, score in found["auroc_per_class"].items()}

        def statistic(weights: np.ndarray) -> np.ndarray:
            return macro_auroc(probability, truth, weights)

    interval = bootstrap_interval(statistic, groups.to_numpy(), resamples=resamples) if resamples else None
    return {"metric": metric, "primary": value, "further": further, "interval": interval}


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _columns(
    task: str, names: tuple[str, ...], probability: np.ndarray, target: np.ndarray
) -> dict[str, np.ndarray]:
    columns = {f"probability {name}": probability[:, i] for i, name in enumerate(names)}
    if task == "multiclass":
        return columns | {"target": target}
    truth = target.reshape(len(target), -1)
    return columns | {f"target {name}": truth[:, i] for i, name in enumerate(names)}
