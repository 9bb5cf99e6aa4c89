"""Phrase grounding: does the attention of a sentence lie where its finding is?

A map has one number a cell of the image the network saw; boxes are in the original radiograph. Both are brought to the
pixels of the network's input.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Of a map scaled to [0, 1]; MS-CXR's authors take the mean IoU over these thresholds of a cosine."""


class Place(Protocol):
    """A row of `ImageStore.placement`: where an image lies in its square of the store, pixels."""

    top: int
    left: int
    new_height: int
    new_width: int


def field_of_view(place: Place, store_size: int, size: int, resize: str) -> tuple[float, float, float, float]:
    """The rectangle (x1, y1, x2, y2) of the store's square, in its pixels, that is the network's centre crop.

    As `ImageStore.work_array` followed by `transforms.center_crop`: the square of `round(size * 256 / 224)` pixels is
    cut to `size`; with `direct224` the image without its padding is squashed instead.
    """
    if resize == "direct224":
        right, bottom = place.left + place.new_width, place.top + place.new_height
        return float(place.left), float(place.top), float(right), float(bottom)
    side = round(size * 256 / 224)
    scale = store_size / side
    first = (side - size) // 2
    return (first * scale,) * 2 + ((first + size) * scale,) * 2


def to_store(boxes: Sequence[Sequence[float]], place: Place) -> np.ndarray:
    """Boxes (n, 4) x1, y1, x2, y2 as fractions of the original image -> pixels of the store's square."""
    scale = np.array([place.new_width, place.new_height] * 2)
    return np.asarray(boxes, np.float64).reshape(-1, 4) * scale + np.array([place.left, place.top] * 2)


def box_mask(boxes: np.ndarray, field: tuple[float, float, float, float], size: int) -> np.ndarray:
    """The union of boxes in the network's input: a pixel is inside if its centre is.

    Args:
        boxes: (n, 4) in pixels of the store's square.
        field: what the input shows of the square (`field_of_view`).

    Returns:
        (size, size) bool; empty if the crop cuts every box away.
    """
    x = field[0] + (np.arange(size) + 0.5) * (field[2] - field[0]) / size
    y = field[1] + (np.arange(size) + 0.5) * (field[3] - field[1]) / size
    mask = np.zeros((size, size), bool)
    for x1, y1, x2, y2 in boxes:
        mask |= ((y >= y1) & (y < y2))[:, None] & ((x >= x1) & (x < x2))
    return mask


def upsample(maps: np.ndarray, size: int) -> np.ndarray:
    """(n, h, w) -> (n, size, size) float64, bilinear between the centres of the cells, each from 0 to 1.

    A map without any contrast becomes 0 everywhere.
    """
    tensor = torch.from_numpy(np.array(maps, np.float64))
    fine = (
        F.interpolate(tensor.unsqueeze(1), (size, size), mode="bilinear", align_corners=False)
        .squeeze(1)
        .numpy()
    )
    low, high = (extreme(fine, axis=(1, 2), keepdims=True) for extreme in (np.min, np.max))
    contrast = high - low
    return np.where(contrast > 0, (fine - low) / np.where(contrast > 0, contrast, 1), 0.0)


def pointing_game(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(n,) whether the middle of a map's highest cell is inside its mask; of several highest cells, the share inside.

    Bilinear up-sampling has its maximum there too, but is flat from the outermost cells to the border, where the first
    highest pixel would be a corner of the image. A flat map scores the area's share, which is chance.

    Args:
        maps: (n, h, w)
        masks: (n, S, S) bool.
    """
    (_, height, width), side = maps.shape, masks.shape[-1]
    rows = ((np.arange(height) + 0.5) * side / height).astype(int)
    columns = ((np.arange(width) + 0.5) * side / width).astype(int)
    inside = masks[:, rows[:, None], columns]
    highest = maps >= maps.max(axis=(1, 2), keepdims=True)
    return (highest & inside).sum((1, 2)) / highest.sum((1, 2))


def mean_iou(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(n,) intersection over union of a map's pixels above a threshold and its mask, mean over `THRESHOLDS`.

    Args:
        maps: (n, h, w), up-sampled here.
        masks: (n, S, S) bool, none of them empty.
    """
    fine = upsample(maps, masks.shape[-1])
    scores = []
    for threshold in THRESHOLDS:
        region = fine > threshold
        scores.append((region & masks).sum((1, 2)) / (region | masks).sum((1, 2)))
    return np.mean(scores, axis=0)


def grounding_scores(maps: np.ndarray, masks: np.ndarray, *, chunk: int = 64) -> dict[str, np.ndarray]:
    """`pointing` and `mIoU` of each of n maps (n, h, w) with its mask (n, S, S); `chunk` maps are up-sampled at a time."""
    parts = [slice(start, start + chunk) for start in range(0, len(maps), chunk)]
    return {
        name: np.concatenate([score(maps[part], masks[part]) for part in parts])
        for name, score in (("pointing", pointing_game), ("mIoU", mean_iou))
    }


def centre_map(side: int = 8) -> np.ndarray:
    """(side, side), a cone over the middle of the image: the guess of one who has not read the sentence."""
    axis = np.arange(side) - (side - 1) / 2
    return -np.hypot(axis[:, None], axis)


def exchange(images: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """(n,) for each phrase a phrase of another image, every one once; None if one image has more than half of them.

    The score of exchanged maps is the chance level of a map that knows where findings are on average but neither this
    image nor this sentence.
    """
    numbers, counts = np.unique(images, return_inverse=True, return_counts=True)[1:]
    most = int(counts.max())
    if 2 * most > len(images):
        return None
    place = rng.permutation(len(counts))[numbers]
    order = np.lexsort(
        (rng.permutation(len(images)), place)
    )  # images in random order, each one's phrases together
    other = np.empty(len(images), np.int64)
    other[order] = np.roll(order, -most)
    return other
