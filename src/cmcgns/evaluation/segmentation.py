"""The step `finetune` for segmentation: a U-Net decoder on a frozen trunk (data specification 7.3)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cmcgns.evaluation.cell import load_images, positions, prepare, write_run
from cmcgns.evaluation.features import CACHE_BYTES
from cmcgns.evaluation.fit import by_epoch
from cmcgns.evaluation.metrics import dice_metrics, dice_per_image, mask_counts
from cmcgns.evaluation.segment import fit_segmenter, predict_masks
from cmcgns.images.place import resize_area
from cmcgns.images.transforms import shift_scale_rotate, to_network
from cmcgns.models.image import build_trunk
from cmcgns.sources.siim import MASK_SHAPE, decode_rle


def siim_mask(rle: list[str], size: int) -> np.ndarray:
    """The union of an image's masks, area-averaged to (size, size) uint8: soft at the edges."""
    mask = np.zeros(MASK_SHAPE, bool)
    for text in rle:
        mask |= decode_rle(text, MASK_SHAPE)
    return resize_area(mask.astype(np.uint8) * 255, size, size)


def box_mask(boxes: np.ndarray, height: int, width: int, size: int) -> np.ndarray:
    """The union of filled boxes of an image, area-averaged to (size, size) uint8 (data specification 3c)."""
    mask = np.zeros((height, width), np.uint8)
    for x1, y1, x2, y2 in np.array(list(boxes), np.float64).reshape(-1, 4).clip(0).astype(int):
        mask[y1:y2, x1:x2] = 255
    return resize_area(mask, size, size)


def split_masks(image: Any) -> list[str]:
    """The codes of an image of siim that its split has: all, but under scheme `official` only its own rows'."""
    parts = getattr(image, "parts", None)
    return list(image.rle) if parts is None else [image.rle[i] for i in parts]


def load_masks(source: str, images: pd.DataFrame, places: pd.DataFrame, size: int) -> np.ndarray:
    """(n, size, size) uint8, 255 inside."""
    masks = np.zeros((len(images), size, size), np.uint8)
    shapes = places[["height", "width"]].itertuples(index=False)
    for i, (image, shape) in enumerate(zip(images.itertuples(index=False), shapes, strict=True)):
        if source == "siim" and len(image.rle):
            masks[i] = siim_mask(split_masks(image), size)
        elif source == "rsna" and len(image.boxes):
            masks[i] = box_mask(image.boxes, shape.height, shape.width, size)
    return masks


def finetune(
    *,
    source: str,
    fraction: int,
    seed: int,
    head: dict[str, Any],
    trunk: Path,
    progress: Callable[[int, int], None] | None = None,
    **run: Any,
) -> dict[str, Any]:
    """Train and test one segmenter; write its predictions of the test images and its metrics.

    Args:
        head: settings.
        trunk: the frozen encoder.
        run: see `cell`.
        progress: called with (epochs done, epochs at most).
    """
    device = prepare(run)
    images, pictures = load_images(run, "segmentation", fraction)
    rows, size = images["row"].to_numpy(), run["size"]
    pixels = pictures.content(rows, size)
    masks = load_masks(source, images, pictures.placement(rows), size)
    head = dict(head)
    motion = {"scale": head.pop("scale"), "rotate": head.pop("rotate"), "p": head.pop("augment_probability")}
    threshold = head.pop("threshold")
    encoder = build_trunk(run["arch"], str(trunk))

    def load(chosen: np.ndarray) -> Tensor:
        return to_network(torch.from_numpy(pixels[chosen]))

    def load_mask(chosen: np.ndarray) -> Tensor:
        return torch.from_numpy(masks[chosen]).float() / 255

    def augment(batch: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        # Moved with black, -1 after normalising, coming in at the borders.
        grey, moved = shift_scale_rotate((batch[:, 0] + 1) / 2, target, generator, **motion)
        return (2 * grey - 1).unsqueeze(1).expand(-1, 3, -1, -1), moved

    shared = {"device": device, "precision": run["precision"]}
    decoder, history = fit_segmenter(
        encoder,
        load,
        load_mask,
        positions(images, "train"),
        positions(images, "valid"),
        augment=augment if motion["p"] else None,
        cache_bytes=CACHE_BYTES,
        seed=seed,
        **shared,
        callback=by_epoch(progress, head["max_epochs"]),
        **head,
    )
    test = positions(images, "test")
    predicted = predict_masks(encoder, decoder, load, test, threshold=threshold, **shared)
    counts = mask_counts(predicted, masks[test] > 127)
    values = dice_metrics(counts)
    measured = {
        "metric": "Dice",
        "primary": values["dice_official"],
        "further": {
            "Dice positives only": values["dice_positive"],
            "Dice all-empty floor": values["dice_all_empty_floor"],
            "positives with a prediction": values["detection_rate"],
            "negatives with a prediction": values["false_positive_rate"],
        },
    }
    predicted = {
        "intersection": counts[:, 0],
        "predicted": counts[:, 1],
        "target": counts[:, 2],
        "dice": dice_per_image(counts),
    }
    return write_run(run, images, predicted, measured, history)
