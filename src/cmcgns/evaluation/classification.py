"""The step `finetune` for classification: a linear probe on frozen features (data specification 7.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cmcgns.evaluation.cell import load_images, positions, prepare, write_run
from cmcgns.evaluation.encode import crop
from cmcgns.evaluation.features import cached_features, live_features
from cmcgns.evaluation.fit import Callback
from cmcgns.evaluation.metrics import accuracy, auroc_metrics, bootstrap_interval, macro_auroc, weighted_mean
from cmcgns.evaluation.probe import fit_probe, predict_probe
from cmcgns.evaluation.targets import targets
from cmcgns.images import transforms
from cmcgns.models.image import build_trunk


def run_cell(
    *,
    source: str,
    fraction: int,
    seed: int,
    files: dict[str, Path],
    settings: dict[str, Any],
    out: Path,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Train and test one probe; write `predictions.parquet` and `metrics.json` into `out`."""
    device = prepare(settings)
    images, store = load_images(files, "classification", fraction)
    task, names, target = targets(source, images)
    head_settings = dict(settings["head"])
    views, augmentation = head_settings.pop("views"), head_settings.pop("augmentation")
    rows = images["row"].to_numpy()
    if views:
        features = cached_features(np.load(files["features"], mmap_mode="r")[rows], device=device)
    else:
        pixels, size = store.work_array(settings["size"], settings["resize"]), settings["size"]

        def load(chosen: np.ndarray, epoch: int | None, generator: torch.Generator | None) -> torch.Tensor:
            batch = torch.from_numpy(np.ascontiguousarray(pixels[rows[chosen]])).to(device)
            training = generator is not None
            return transforms.to_network(
                crop(batch, size, augmentation, generator)
                if training
                else transforms.center_crop(batch, size)
            )

        trunk = build_trunk(settings["arch"], str(files["trunk"]))
        features = live_features(trunk, load, device=device, precision=settings["precision"])
    head, history = fit_probe(
        features,
        target,
        positions(images, "train"),
        positions(images, "valid"),
        task=task,
        classes=len(names),
        seed=seed,
        device=device,
        callback=callback,
        **head_settings,
    )
    test = positions(images, "test")
    probability = predict_probe(head, features, test, task=task, device=device)
    metrics = measure(
        task, names, probability, target[test], images["group_id"].iloc[test], settings["bootstrap"]
    )
    return write_run(out, images, _columns(task, names, probability, target[test]), metrics, history, files)


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
