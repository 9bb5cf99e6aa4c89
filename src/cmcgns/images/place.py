"""Images of any size into squares of one size: exact area averaging, longest side first, zero padding."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix


class Placement(NamedTuple):
    """Where an image lies in its square, pixels.

    A point (x, y) of the original is at (left + x * new_width / width, top + y * new_height / height).
    """

    height: int
    width: int
    top: int
    left: int
    new_height: int
    new_width: int


def fit(height: int, width: int, size: int = 256) -> Placement:
    """Where an image goes: its longest side becomes `size`, the other is cut to a whole number, 1 or more.

    It is centred, with an odd row or column of padding at the bottom or right; of equal sides the height is
    the long one (spec method.md 8.6).
    """
    if height >= width:
        new_height, new_width = size, max(1, size * width // height)
    else:
        new_height, new_width = max(1, size * height // width), size
    return Placement(height, width, (size - new_height) // 2, (size - new_width) // 2, new_height, new_width)


def letterbox(grey: np.ndarray, size: int = 256) -> tuple[np.ndarray, Placement]:
    """Area-average an image so that its longest side is `size`, on a black square.

    Args:
        grey: (H, W) uint8.

    Returns:
        (size, size) uint8, and where the image lies in it.
    """
    placement = fit(*grey.shape, size)
    square = np.zeros((size, size), np.uint8)
    rows = slice(placement.top, placement.top + placement.new_height)
    columns = slice(placement.left, placement.left + placement.new_width)
    square[rows, columns] = resize_area(grey, placement.new_height, placement.new_width)
    return square, placement


def resize_area(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every new pixel is the mean of the area it covers, parts of pixels included, rounded half up.

    The sums are whole numbers and exact, so the result is the same on every machine; enlarging works too.

    Args:
        grey: (H, W) uint8, H below 65,000.

    Returns:
        (height, width) uint8.
    """
    old_height, old_width = grey.shape
    if (old_height, old_width) == (height, width):
        return grey.copy()
    # float32 holds whole numbers up to 2^24, and a column's sum is at most 255 * H; float64 holds the rest.
    columns = _cover(old_height, height, np.float32) @ grey.astype(np.float32)  # (height, W)
    sums = (_cover(old_width, width, np.float64) @ columns.T).T.astype(np.int64)  # (height, width)
    area = old_height * old_width
    return ((2 * sums + area) // (2 * area)).astype(np.uint8)


@lru_cache(maxsize=256)
def _cover(old: int, new: int, dtype: type) -> csr_matrix:
    """(new, old): the part of old pixel j in new pixel i, in units of 1/new old pixels; rows sum to `old`."""
    # On the common grid old pixel j is [j * new, (j + 1) * new) and new pixel i is [i * old, (i + 1) * old).
    edges = np.union1d(np.arange(old + 1) * new, np.arange(new + 1) * old)
    starts, lengths = edges[:-1], np.diff(edges)
    return csr_matrix((lengths.astype(dtype), (starts // old, starts // new)), shape=(new, old))
