"""The step `finetune` for detection: a YOLOv3 head on a frozen trunk (data specification 7.2)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cmcgns.errors import InputError
from cmcgns.evaluation.cell import load_images, positions, prepare, write_run
from cmcgns.evaluation.detect import fit_detector, predict_detections
from cmcgns.evaluation.features import CACHE_BYTES
from cmcgns.evaluation.fit import by_epoch
from cmcgns.evaluation.metrics import detection_metrics
from cmcgns.images.store import ImageStore
from cmcgns.images.transforms import to_network
from cmcgns.models.image import build_trunk


def relative_boxes(images: pd.DataFrame, store: ImageStore) -> list[np.ndarray]:
    """Per image its boxes, (n, 4) x1, y1, x2, y2 as fractions of the original image, clipped to it.

    Raises:
        InputError: for a box that lies outside its image.
    """
    places = store.placement(images["row"].to_numpy())
    scales = places[["width", "height", "width", "height"]].to_numpy(np.float64)
    boxes = []
    for name, found, scale in zip(images["image_id"], images["boxes"], scales, strict=True):
        box = (np.array(list(found), np.float64).reshape(-1, 4) / scale).clip(0, 1)
        if ((box[:, 2] <= box[:, 0]) | (box[:, 3] <= box[:, 1])).any():
            raise InputError(f"a box of {name} lies outside the image", remedy="correct it in the label file")
        boxes.append(box)
    return boxes


def finetune(
    *,
    fraction: int,
    seed: int,
    head: dict[str, Any],
    trunk: Path,
    progress: Callable[[int, int], None] | None = None,
    **run: Any,
) -> dict[str, Any]:
    """Train and test one detector; write its predictions of the test images and its metrics.

    Args:
        head: settings.
        trunk: the frozen encoder.
        run: see `cell`.
        progress: called with (epochs done, epochs at most).
    """
    device = prepare(run)
    images, pictures = load_images(run, "detection", fraction)
    boxes = relative_boxes(images, pictures)
    pixels = pictures.content(images["row"].to_numpy(), run["size"])
    encoder = build_trunk(run["arch"], str(trunk))

    def load(chosen: np.ndarray) -> torch.Tensor:
        return to_network(torch.from_numpy(pixels[chosen]))

    shared = {"device": device, "precision": run["precision"]}
    detector, history = fit_detector(
        encoder,
        load,
        boxes,
        positions(images, "train"),
        positions(images, "valid"),
        seed=seed,
        cache_bytes=CACHE_BYTES,
        **shared,
        callback=by_epoch(progress, head["max_epochs"]),
        **head,
    )
    test = positions(images, "test")
    after = {key: head[key] for key in ("min_score", "nms_iou", "max_detections")}
    found = predict_detections(encoder, detector, load, test, **shared, **after)
    truth = [boxes[i] for i in test]
    values = detection_metrics(found, truth)
    measured = {
        "metric": "mAP",
        "primary": values["map"],
        "further": {"mAP official_filter": values["map_official_filter"]},
        "images_official_filter": values["images_official_filter"],
    }
    predicted = {
        "boxes": [d["boxes"].tolist() for d in found],
        "scores": [d["scores"].tolist() for d in found],
        "target_boxes": [box.tolist() for box in truth],
    }
    return write_run(run, images, predicted, measured, history)
