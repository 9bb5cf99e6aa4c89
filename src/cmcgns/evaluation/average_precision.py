"""COCO's mean average precision for one class, in NumPy.

The tests hold it against torchmetrics with pycocotools. That library is not used here because it takes seconds to
import and 4 ms an image, which over 50 epochs of validation is more than the training of a head.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

MAP_THRESHOLDS = tuple(round(0.40 + 0.05 * step, 2) for step in range(8))  # 0.40 ... 0.75, data.md 7.2
RECALLS = np.linspace(0, 1, 101)


class Detections(TypedDict):
    """One image's detections: boxes (k, 4) x1, y1, x2, y2 and scores (k,), best first."""

    boxes: np.ndarray
    scores: np.ndarray


def mean_average_precision(
    detections: Sequence[Detections],
    boxes: Sequence[np.ndarray],
    *,
    thresholds: Sequence[float] = MAP_THRESHOLDS,
    max_detections: int = 100,
) -> float | None:
    """Average precision at 101 recall levels over all images, mean over the IoU `thresholds`.

    Args:
        detections: per image; the `max_detections` best of each count.
        boxes: per image the true ones, (n, 4) in the same unit as the detections; n may be 0.

    Returns:
        A number in [0, 1], or None when there is no true box at all.
    """
    total = sum(len(part) for part in boxes)
    if not total:
        return None
    levels = np.asarray(thresholds, np.float64)
    scores, hits = [], []
    for found, truth in zip(detections, boxes, strict=True):
        order = np.argsort(-found["scores"], kind="stable")[:max_detections]
        scores.append(found["scores"][order])
        hits.append(match(box_iou(found["boxes"][order], truth), levels))
    ranked = np.argsort(-np.concatenate(scores), kind="stable")
    right = np.concatenate(hits, axis=1)[:, ranked].cumsum(1)  # (T, N) hits among the best 1 ... N
    precision = right / np.arange(1, right.shape[1] + 1)
    # at a recall level counts the best precision at that recall or a higher one; 0 if it is never reached
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))
    # the small step back lets 1 of 10 boxes reach the level 0.1 whatever its last bit is
    at = [np.searchsorted(row / total, RECALLS - 1e-9) for row in right]
    return float(np.take_along_axis(envelope, np.stack(at), axis=1).mean())


def match(iou: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which detections find a true box, at each threshold.

    Detections choose in order, each the free box it overlaps most, if by the threshold or more.

    Args:
        iou: (k, n) of detections, best first, and true boxes.
        thresholds: (T,)

    Returns:
        (T, k) bool.
    """
    hits = np.zeros((len(thresholds), len(iou)), bool)
    free = np.ones((len(thresholds), iou.shape[1]), bool)
    # most detections reach no box at any threshold: only the others are walked through
    for d in np.flatnonzero((iou >= thresholds.min()).any(1)):
        overlap = np.where(free, iou[d], -1.0)
        best = overlap.argmax(1)
        right = overlap.max(1) >= thresholds
        hits[right, d] = True
        free[right, best[right]] = False
    return hits


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (k, 4) and (n, 4) corner boxes -> (k, n), float64."""
    a, b = (np.asarray(part, np.float64).reshape(-1, 4) for part in (first, second))
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = (high - low).clip(0).prod(-1)
    area_a, area_b = ((part[:, 2:] - part[:, :2]).prod(1) for part in (a, b))
    return overlap / np.maximum(area_a[:, None] + area_b[None] - overlap, np.finfo(np.float64).tiny)
