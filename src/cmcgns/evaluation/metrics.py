"""The paper's metrics and what they hide. All values are fractions in [0, 1]; None means "not defined" (safe in JSON)."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from cmcgns.errors import InputError
from cmcgns.evaluation.average_precision import Detections, mean_average_precision
from cmcgns.randomness import numpy_rng

_CHUNK = 4_000_000  # numbers held at once by a bootstrap


def class_auroc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Area under the ROC curve of one class, ties counting half; NaN without positives or without negatives.

    Args:
        scores: (n,)
        targets: (n,) 0 or 1.
        weights: (R, n) how often each image counts, one row a resample; by default every image once.

    Returns:
        (R,), or (1,) without weights.
    """
    weights = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    ranked, positive = scores[order], np.asarray(targets)[order] > 0.5
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # the first of each run of equal scores
    positives = np.add.reduceat(weights[:, order] * positive, starts, axis=1)
    negatives = np.add.reduceat(weights[:, order] * ~positive, starts, axis=1)
    below = negatives.cumsum(1) - negatives
    pairs = positives.sum(1) * negatives.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (positives * (below + negatives / 2)).sum(1) / pairs, np.nan)


def macro_auroc(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean of the classes' AUROC over the classes that have both values; (n, C) each -> (R,) as `class_auroc`."""
    values = np.stack([class_auroc(scores[:, c], targets[:, c], weights) for c in range(scores.shape[1])])
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(0) / np.where(defined.any(0), defined.sum(0), np.nan)


def auroc_metrics(scores: np.ndarray, targets: np.ndarray, names: Sequence[str]) -> dict:
    """`auroc` (macro), `auroc_per_class` by name, and how many of the classes the macro is over.

    Args:
        scores: (n, C), any monotone score.
        targets: (n, C) 0 or 1.
        names: of the C classes.
    """
    scores, targets = _matching(scores, targets, len(names))
    per_class = [_number(class_auroc(scores[:, c], targets[:, c])[0]) for c in range(len(names))]
    return {
        "auroc": _number(macro_auroc(scores, targets)[0]),
        "auroc_per_class": dict(zip(names, per_class, strict=True)),
        "auroc_classes": sum(value is not None for value in per_class),
        "classes": len(names),
    }


def accuracy(probabilities: np.ndarray, targets: np.ndarray) -> float | None:
    """Share of images whose most probable class is the right one: (n, C) and (n,) class numbers."""
    return _mean(np.argmax(probabilities, 1) == targets)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of per-image values (n,) such as hits or Dice under weights (R, n) -> (R,), NaN where all weigh 0.

    With `bootstrap_interval` it gives the interval of an accuracy or a mean Dice.
    """
    with np.errstate(invalid="ignore"):
        return weights @ np.asarray(values, np.float64) / weights.sum(1)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[str] | np.ndarray,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict:
    """Percentile interval of a statistic when whole groups (patients) are drawn with replacement.

    Args:
        statistic: weights (R, n), how often each image was drawn -> (R,) values; NaN where not defined.
        groups: (n,) the group of each image.

    Returns:
        `low`, `high`, and `resamples`: how many had a defined value. A resample without one is left out.
    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    rng = numpy_rng(seed, "bootstrap")
    at_once = max(1, _CHUNK // max(1, len(member)))
    values = [np.empty(0)]
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=rows)
        values.append(statistic(drawn[:, member].astype(float)))
    kept = np.concatenate(values)
    kept = kept[~np.isnan(kept)]
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2]) if len(kept) else (math.nan, math.nan)
    return {"low": _number(low), "high": _number(high), "resamples": len(kept)}


def detection_metrics(
    detections: Sequence[Detections], boxes: Sequence[np.ndarray], *, official_score: float = 0.5
) -> dict:
    """`map` over all images, and `map_official_filter` as the released code counts (data.md, fact 6).

    The filter drops detections below `official_score`, then every image that has no true box or no detection left:
    misses and false alarms on those images vanish, so the second number is far too good.
    """
    confident = [
        {key: found[key][found["scores"] >= official_score] for key in ("boxes", "scores")}
        for found in detections
    ]
    kept = [i for i, part in enumerate(boxes) if len(part) and len(confident[i]["boxes"])]
    return {
        "map": mean_average_precision(detections, boxes),
        "images": len(boxes),
        "map_official_filter": mean_average_precision([confident[i] for i in kept], [boxes[i] for i in kept]),
        "images_official_filter": len(kept),
    }


def mask_counts(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pixels of each image in both masks, in the prediction and in the target: (n, 3) int64.

    Args:
        predicted, target: (n, H, W) masks at the network's resolution; above 0.5 is inside.
    """
    if predicted.shape != target.shape:
        raise InputError(f"masks of shape {predicted.shape}", expected=f"the targets' shape, {target.shape}")
    inside, wanted = predicted > 0.5, target > 0.5
    return np.stack(
        [np.count_nonzero(part, axis=(1, 2)) for part in (inside & wanted, inside, wanted)], axis=1
    )


def dice_per_image(counts: np.ndarray) -> np.ndarray:
    """2 |P and T| / (|P| + |T|) for the (n, 3) of `mask_counts`; two empty masks agree (1), one does not (0)."""
    both, predicted, target = np.asarray(counts, np.float64).T
    return np.where(predicted + target > 0, 2 * both / np.maximum(predicted + target, 1), 1.0)


def dice_metrics(counts: np.ndarray) -> dict:
    """The official Dice beside what it hides, from the (n, 3) of `mask_counts` (data.md, fact 7).

    Returns:
        `dice_official`: mean over images. `dice_positive`: mean over images with a target.
        `dice_all_empty_floor`: what `dice_official` is when nothing is ever predicted.
        `detection_rate`: share of images with a target where anything is predicted, wherever it lies.
        `false_positive_rate`: share of images without a target where anything is predicted.
    """
    dice, predicted, positive = dice_per_image(counts), counts[:, 1] > 0, counts[:, 2] > 0
    return {
        "dice_official": _mean(dice),
        "dice_positive": _mean(dice[positive]),
        "dice_all_empty_floor": _mean(~positive),
        "detection_rate": _mean(predicted[positive]),
        "false_positive_rate": _mean(predicted[~positive]),
        "images": len(counts),
        "positives": int(positive.sum()),
    }


def _matching(scores: np.ndarray, targets: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    scores, targets = np.asarray(scores, np.float64), np.asarray(targets)
    if scores.shape != targets.shape or scores.ndim != 2 or scores.shape[1] != classes or not len(scores):
        raise InputError(
            f"scores of shape {scores.shape} for targets of shape {targets.shape}",
            expected=f"(images, {classes}) both, with one image or more",
        )
    if np.isnan(scores).any():
        raise InputError("a prediction is NaN", row=int(np.isnan(scores).any(1).argmax()), expected="numbers")
    return scores, targets


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
