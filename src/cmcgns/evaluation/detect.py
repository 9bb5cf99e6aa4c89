"""Detection with a YOLOv3 head on a frozen trunk (data.md 7.2). Boxes are x1, y1, x2, y2 as fractions of the image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import nms

from cmcgns.errors import InputError
from cmcgns.evaluation.average_precision import Detections, mean_average_precision
from cmcgns.evaluation.features import Images, autocast, frozen_maps
from cmcgns.evaluation.fit import batches_of, fit
from cmcgns.losses.yolo import yolo_loss
from cmcgns.models.seeding import seeded
from cmcgns.models.yolo import LAYERS, YoloHead, anchors, decode

_OUTSIDE = 1e-4  # how far a box may reach over the border through rounding


def fit_detector(
    trunk: nn.Module,
    images: Images,
    boxes: Sequence[np.ndarray],
    train: Sequence[int] | np.ndarray,
    valid: Sequence[int] | np.ndarray,
    *,
    width: float = 1.0,
    batch_size: int = 16,
    min_score: float = 0.001,
    nms_iou: float = 0.5,
    max_detections: int = 100,
    seed: int = 0,
    cache_bytes: int = 0,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
    **training: Any,
) -> tuple[YoloHead, list[dict[str, Any]]]:
    """Train a head; the epoch with the highest validation mAP wins.

    Without any box in the validation set mAP does not exist, and the lowest validation loss wins.

    Args:
        trunk: a torchvision ResNet; it is frozen in place and its batch norm stays in eval mode.
        images: indices (n,) -> (n, 3, H, W), H and W multiples of 32 and at least 64, always the same per image.
        boxes: per image (n, 4); n may be 0. Never changed.
        train, valid: indices into `images` and `boxes`.
        width: multiplies the head's channels; 1 = YOLOv3's.
        cache_bytes: memory for the trunk's maps of images, which are computed anew each epoch beyond it.
        training: see `fit`.

    Returns:
        The head, in eval mode with its best weights, and the history of `fit`.

    Raises:
        InputError: an empty split, a bad box or image size, or a loss that is not finite.
    """
    if not len(train) or not len(valid):
        raise InputError("no training image" if not len(train) else "no validation image")
    truth = [_checked(part, i) for i, part in enumerate(boxes)]
    maps = frozen_maps(trunk, images, LAYERS, cache_bytes=cache_bytes, device=device, precision=precision)
    first = maps(np.asarray(train[:1], np.int64))
    if min(first[-1].shape[-2:]) < 2:
        raise InputError("the images are too small for the detector", expected="64 pixels a side or more")
    with seeded(seed, "detector"):
        head = YoloHead([part.shape[1] for part in first], width=width)
    shapes = anchors()

    def batch_loss(indices: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
        return yolo_loss(head(maps(indices)), [truth[i] for i in indices], shapes)

    def validate() -> dict[str, float | None]:
        found, losses = [], []
        for part in batches_of(valid, batch_size):
            outputs = head(maps(part))
            losses.append(float(yolo_loss(outputs, [truth[i] for i in part], shapes)) * len(part))
            found += select(*decode(outputs, shapes), min_score, nms_iou, max_detections)
        score = mean_average_precision(found, [boxes[i] for i in valid])
        return {"valid_loss": sum(losses) / len(valid), "valid_map": score}

    measurable = any(len(boxes[i]) for i in valid)
    training |= {"monitor": "valid_map", "mode": "max"} if measurable else {"monitor": "valid_loss"}
    training |= {"batch_size": batch_size, "seed": seed, "device": device, "precision": precision}
    history = fit(head, batch_loss, train, validate, **training)
    return head, history


def predict_detections(
    trunk: nn.Module,
    head: YoloHead,
    images: Images,
    indices: Sequence[int] | np.ndarray,
    *,
    batch_size: int = 16,
    min_score: float = 0.001,
    nms_iou: float = 0.5,
    max_detections: int = 100,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
) -> list[Detections]:
    """Per image its detections, best first: `boxes` (k, 4) float32 and `scores` (k,) float32."""
    maps = frozen_maps(trunk, images, LAYERS, device=device, precision=precision)
    head.to(device).eval()
    found = []
    with torch.no_grad(), autocast(device, precision):
        for part in batches_of(indices, batch_size):
            found += select(*decode(head(maps(part)), anchors()), min_score, nms_iou, max_detections)
    return found


def select(
    boxes: Tensor, scores: Tensor, min_score: float, nms_iou: float, max_detections: int
) -> list[Detections]:
    """Per image the boxes that score `min_score` or more, greedily thinned at `nms_iou`, at most `max_detections`.

    Args:
        boxes: (B, N, 4)
        scores: (B, N)
    """
    found: list[Detections] = []
    for image_boxes, image_scores in zip(boxes, scores, strict=True):
        ranked, order = image_scores.sort(descending=True, stable=True)
        likely = int((ranked >= min_score).sum())
        ranked, candidates = ranked[:likely], image_boxes[order[:likely]]
        # A box is thinned out by better ones only, so the best few give the same answer as all of them as soon
        # as enough of them are left; an untrained head calls thousands likely, and the cost is quadratic.
        tried, kept = 0, order[:0]
        while len(kept) < max_detections and tried < likely:
            tried = max(4 * max_detections, 4 * tried)
            kept = nms(candidates[:tried], ranked[:tried], nms_iou)[:max_detections]
        found.append({"boxes": candidates[kept].cpu().numpy(), "scores": ranked[kept].cpu().numpy()})
    return found


def _checked(boxes: np.ndarray, image: int) -> Tensor:
    """A copy of one image's boxes as (n, 4) float32, or `InputError` naming the image."""
    # a float64 copy: the caller's boxes are read again every epoch (data.md 10, trap 13)
    part = np.array(boxes, np.float64).reshape(-1, 4)
    inside = (part >= -_OUTSIDE).all(1) & (part <= 1 + _OUTSIDE).all(1)  # False for NaN as well
    part = part.clip(0, 1)
    bad = ~inside | (part[:, 2:] <= part[:, :2]).any(1)
    if bad.any():
        raise InputError(
            f"image {image}: box {int(bad.argmax())} is not a box",
            expected="x1 < x2, y1 < y2, all between 0 and 1 (fractions of the image)",
            remedy="correct or remove it in the label file",
        )
    return torch.from_numpy(part).float()
