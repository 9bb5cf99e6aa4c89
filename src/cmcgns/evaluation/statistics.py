"""Is one method better than another? Paired comparisons from the kept predictions of finished runs.

Two things vary between repetitions of a study: which patients are in the test set, and the seed of a run (training
subset, start of the head). The variance of the difference between two methods' seed means is the sum of two parts:

- patients: the variance of that difference when the test set's patients are drawn with replacement, the same draw for
  all runs of both methods, and the metric is computed anew from every draw;
- seeds: the variance of the per-seed differences over the number of seeds, S. It is what drawing S - 1 of the S seeds
  with replacement tends to (drawing all S would give (S - 1) / S of it); in closed form it needs no draws.

Interval and p-value are those of a t distribution with this variance and Satterthwaite's degrees of freedom. The
percentiles of draws know no more than the S seeds they are drawn from and reject far too often for few of them, and
their smallest p-value, 1 / draws, is too large for a correction over hundreds of comparisons. How much two patients of
one seed resemble each other is counted in both parts, so the test errs to the safe side.

It says nothing of another pre-training: all seeds of a method stand on the same one.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, stdtr, stdtrit

from cmcgns.evaluation.average_precision import MAP_THRESHOLDS, RECALLS, box_iou, match
from cmcgns.evaluation.metrics import macro_auroc, weighted_mean
from cmcgns.randomness import numpy_rng

Statistic = Callable[[np.ndarray], np.ndarray]  # weights of the images (R, n) -> (R,), NaN where not defined
POWER = 0.8  # of finding a difference that is called resolvable
_CHUNK = 4_000_000  # numbers held at once


class Comparison(NamedTuple):
    """Two methods on one test set; None where the metric is not defined.

    Attributes:
        difference: of the means over seeds, the first method's minus the second's.
        low, high: 95 % interval of it.
        p: two-sided, of no difference.
        resolvable: the true difference that this test would find at 5 % in 80 % of such studies, from the error and
            the degrees of freedom seen here: their noncentral t distribution, (1.96 + 0.84) errors if there are many
            degrees (Bloom 1995, "Minimum detectable effects"). None where nothing varies.
        groups, seeds: how many patients and runs a method it rests on.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    resolvable: float | None
    groups: int
    seeds: int


def draw_weights(groups: Sequence[str] | np.ndarray, resamples: int, seed: int = 0) -> np.ndarray:
    """(resamples, n) int16, how often each image counts when as many groups as there are are drawn with replacement.

    Args:
        groups: (n,) the group (patient) of each image. What they are called does not count, only which images share one:
            names are hashed with a key that is another one for each copy of the data.
    """
    member, names = pd.factorize(np.asarray(groups, dtype=str))
    share = np.full(len(names), 1 / len(names))
    drawn = numpy_rng(seed, "comparison").multinomial(len(names), share, size=resamples)
    return drawn.astype(np.int16)[:, member]


def resampled_metric(predictions: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    """A run's primary metric on the whole test set, then on each resample.

    Args:
        predictions: a run's `predictions.parquet`.
        weights: (R, n) of `draw_weights`.

    Returns:
        (1 + R,) fractions, NaN where not defined.
    """
    measure = statistic(predictions)
    rows = np.concatenate([np.ones((1, weights.shape[1]), weights.dtype), weights])
    at_once = max(1, _CHUNK // rows.shape[1])
    parts = [measure(rows[i : i + at_once].astype(float)) for i in range(0, len(rows), at_once)]
    return np.concatenate(parts)


def statistic(predictions: pd.DataFrame) -> Statistic:
    """The primary metric of a run's predictions, whichever task they are of, as a function of the images' weights."""
    if "boxes" in predictions:
        return _average_precision(predictions)
    if "dice" in predictions:
        return lambda weights: weighted_mean(predictions["dice"].to_numpy(), weights)
    scores = predictions.filter(regex="^probability ").to_numpy()
    if "target" in predictions:  # classes exclude each other
        right = scores.argmax(1) == predictions["target"].to_numpy()
        return lambda weights: weighted_mean(right, weights)
    targets = predictions.filter(regex="^target ").to_numpy()
    return lambda weights: macro_auroc(scores, targets, weights)


def compare(first: np.ndarray, second: np.ndarray, groups: int) -> Comparison:
    """First method minus second.

    Args:
        first, second: (S, 1 + R), for the same S seeds the rows of `resampled_metric`, with the same weights.
        groups: number of patients in the test set.
    """
    differences = first - second
    seeds, mean = len(differences), float(differences[:, 0].mean())
    resampled = differences[:, 1:].mean(0)
    resampled = resampled[~np.isnan(resampled)]
    if math.isnan(mean) or groups < 2 or 2 * len(resampled) < differences.shape[1] - 1 or len(resampled) < 2:
        return Comparison(None if math.isnan(mean) else mean, None, None, None, None, groups, seeds)
    # draws of n patients have (n - 1) / n of the variance of n patients
    patients = resampled.var(ddof=1) * groups / (groups - 1)
    runs = differences[:, 0].var(ddof=1) / seeds if seeds > 1 else 0.0
    error = math.sqrt(patients + runs)
    if error < 1e-12:  # every patient and seed gives the same difference, up to rounding
        return Comparison(mean, mean, mean, float(abs(mean) < 1e-12), None, groups, seeds)
    freedom = error**4 / (patients**2 / (groups - 1) + runs**2 / max(1, seeds - 1))
    quantile = stdtrit(freedom, 0.975)
    reach = quantile * error
    p = 2 * stdtr(freedom, -abs(mean) / error)
    resolvable = nctdtrinc(freedom, 1 - POWER, quantile) * error
    return Comparison(mean, mean - reach, mean + reach, float(p), float(resolvable), groups, seeds)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p-values of all that are not None, each at least as large as the one before it in rank."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[i] = highest
    return adjusted


def _average_precision(predictions: pd.DataFrame, max_detections: int = 100) -> Statistic:
    """`mean_average_precision` when an image counts as often as its weight says, its copies one after another.

    Which detections find a box does not depend on other images, so it is computed once; and only at those that do
    can precision reach a new height, so only there is it looked at.
    """
    scores, hits, image = [], [], []
    boxes = [np.array(list(part), np.float64).reshape(-1, 4) for part in predictions["target_boxes"]]
    for i, (score, found) in enumerate(zip(predictions["scores"], predictions["boxes"], strict=True)):
        score, found = np.array(score, np.float64), np.array(list(found), np.float64).reshape(-1, 4)
        order = np.argsort(-score, kind="stable")[:max_detections]
        scores.append(score[order])
        hits.append(match(box_iou(found[order], boxes[i]), np.asarray(MAP_THRESHOLDS)))
        image.append(np.full(len(order), i))
    ranked = np.argsort(-np.concatenate(scores), kind="stable")
    image_of, found_at = np.concatenate(image)[ranked], np.concatenate(hits, axis=1)[:, ranked]
    true_boxes = np.array([len(part) for part in boxes], float)
    levels = RECALLS - 1e-9  # as in `mean_average_precision`

    def one(weights: np.ndarray) -> float:
        total = weights @ true_boxes
        if not total:
            return math.nan
        counted = weights[image_of]
        seen, value = counted.cumsum(), 0.0
        for row in found_at:
            at = np.flatnonzero(row)
            right = counted[at].cumsum()
            precision = right / np.maximum(seen[at], 1)
            envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
            value += envelope[np.searchsorted(right / total, levels)].mean()
        return value / len(found_at)

    return lambda weights: np.array([one(row) for row in weights])
