"""Codes of films, and the pairs of films whose codes are alike: the first, cheap step of check A13.

A code is a thumbnail of 32 x 32. What is compared are its low frequencies, measured inside a soft window (crops and
padding change the border), made uncorrelated over the images at hand (what all chest films share says nothing) and
of unit length; two films are alike if the cosine is high. A crop moves low frequencies little, and each film is also
compared as if cropped in 16 ways. So that time does not grow with the square of their number, films are put into
cells around some of them, and a film is compared with those of its nearest cells only (an inverted file index).
"""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import product

import numpy as np

from cmcgns.images.place import Placement, resize_area

SIDE = 32  # px of a code
ALIKE = 0.7  # cosine of a candidate pair; benchmarks/near_duplicates.py shows what it loses
ALL_PAIRS = 128  # fewer images: every pair is a candidate, they are too few for statistics
CELL = 256  # images in a cell, on average
NEAREST = 4  # cells that a film is compared with
ALL_CELLS = 20_000  # up to so many images each is compared with all, in half a minute: the audit of all sources together should find
# no pair in one of them that its split, which is drawn from that source alone, has not known. The codes are whitened over the set that
# is compared, so a pair whose cosine is all but ALIKE may still be in one of the two only.
_FLAT = 24  # grey levels: a border line that spans no more is padding or bare film, compressed
_MOST = 0.1  # of a side: more is not trimmed
_CYCLES = 6  # the highest frequency, cycles in a side
_WINDOW = 0.22  # standard deviation of the soft window, sides
_CROP = 0.033  # of a side: what the compared crops take off a border
_KEPT = 96  # uncorrelated features
_SAMPLE = 8192  # images that the statistics are of
_CHUNK = 2048  # images at a time


def thumbnails(
    pixels: Iterable[np.ndarray], placements: Iterable[Placement], size: int = 2 * SIDE
) -> np.ndarray:
    """Images without their padding and flat borders, squashed to squares; blank ones are all 0.

    Args:
        pixels: n squares, (S, S) uint8, of an image store.
        placements: where the image lies in each.

    Returns:
        (n, size, size) uint8.
    """
    result = []
    for square, place in zip(pixels, placements, strict=True):
        image = square[place.top : place.top + place.new_height, place.left : place.left + place.new_width]
        image = image[_content(image, 1), _content(image, 0)]
        result.append(resize_area(image, size, size) * (np.ptp(image) > _FLAT))
    return np.array(result, np.uint8).reshape(-1, size, size)


def codes(thumbnails: np.ndarray) -> np.ndarray:
    """(n, 32, 32) uint8, the codes of n thumbnails of 64 x 64."""
    sums = thumbnails.reshape(-1, SIDE, 2, SIDE, 2).sum(axis=(2, 4), dtype=np.uint16)
    return ((sums + 2) // 4).astype(np.uint8)


def _content(image: np.ndarray, axis: int) -> slice:
    """The lines that remain without flat borders; `axis` is the one along which a line runs."""
    flat = np.ptp(image, axis=axis) <= _FLAT
    if flat.all():
        return slice(None)
    most = int(_MOST * len(flat))
    # One line more: the edge of padding is blurred.
    before, after = (min(edge + 1, most) if edge else 0 for edge in (flat.argmin(), flat[::-1].argmin()))
    return slice(before, len(flat) - after)


def find_pairs(
    codes: np.ndarray, alike: float = ALIKE, cell: int = CELL, nearest: int | None = None
) -> np.ndarray:
    """Candidates: pairs of images whose codes are alike.

    Memory: 1.2 GB at the peak for 300,000 codes with 4.7 million pairs, the codes included.

    Args:
        codes: (n, 32, 32) uint8.
        alike: the least cosine.
        cell, nearest: images in a cell, and cells that an image is compared with; by default all up to `ALL_CELLS` images,
            `NEAREST` beyond.

    Returns:
        (k, 2) int64 rows, i < j, sorted.
    """
    if len(codes) < ALL_PAIRS:
        return np.column_stack(np.triu_indices(len(codes), 1)).astype(np.int64)
    describe = _uncorrelated(codes)
    if nearest is None:
        nearest = len(codes) if len(codes) <= ALL_CELLS else NEAREST
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(codes), _CHUNK)]
    films = np.concatenate([describe(codes[chunk], (0, 0, 0, 0)) for chunk in chunks])
    centres = films[_even(len(films), max(1, len(films) // cell))]
    home = np.concatenate([np.argmax(films[chunk] @ centres.T, axis=1) for chunk in chunks])
    members = np.split(
        np.argsort(home, kind="stable"), np.cumsum(np.bincount(home, minlength=len(centres)))[:-1]
    )
    crops = list(product((0, _CROP), repeat=4))
    found = [np.empty(0, np.int64)]
    for chunk in chunks:
        cropped = np.concatenate([describe(codes[chunk], crop) for crop in crops])
        rows = np.tile(np.arange(len(codes))[chunk], len(crops))
        near = _top(cropped, centres, min(nearest, len(centres)))
        asked = np.argsort(near.ravel(), kind="stable")
        bounds = np.searchsorted(near.ravel()[asked], np.arange(len(centres) + 1))
        hits = []
        for number, inside in enumerate(members):
            query = asked[bounds[number] : bounds[number + 1]] // near.shape[1]
            q, m = np.nonzero(cropped[query] @ films[inside].T >= alike)
            i, j = rows[query[q]], inside[m]
            hits.append((np.minimum(i, j) * len(codes) + np.maximum(i, j))[i != j])
        found.append(np.unique(np.concatenate(hits)))
    return np.column_stack(np.divmod(np.unique(np.concatenate(found)), len(codes)))


def _top(queries: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """(q, count), the centres most alike to each query."""
    parts = np.array_split(queries, max(1, len(queries) // _CHUNK))
    return np.concatenate(
        [np.argpartition(-(part @ centres.T), count - 1, axis=1)[:, :count] for part in parts]
    )


def _even(n: int, count: int) -> np.ndarray:
    """`count` of the rows 0..n-1, evenly spread."""
    return np.linspace(0, n - 1, min(n, count)).astype(np.int64)


def _uncorrelated(codes: np.ndarray) -> Callable[[np.ndarray, tuple[float, ...]], np.ndarray]:
    """What turns codes (n, 32, 32) and a crop into (n, d) features, uncorrelated over a sample, of unit length."""
    sample = _unit(_frequencies(codes[_even(len(codes), _SAMPLE)], (0, 0, 0, 0)))
    mean = sample.mean(axis=0)
    variance, axes = np.linalg.eigh(np.cov((sample - mean).T))
    variance, axes = variance[::-1][:_KEPT], axes[:, ::-1][:, :_KEPT]
    # Axes that hardly vary would be scaled up to noise.
    whiten = (axes / np.sqrt(np.maximum(variance, max(1e-3 * variance[0], 1e-12)))).astype(np.float32)

    def describe(codes: np.ndarray, crop: tuple[float, ...]) -> np.ndarray:
        features = _frequencies(codes, crop)
        blank = ~features.any(axis=1, keepdims=True)
        return _unit((_unit(features) - mean) @ whiten * ~blank)

    return describe


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _frequencies(codes: np.ndarray, crop: tuple[float, ...]) -> np.ndarray:
    """(n, d) float32: how much of each wave is in the images, each cropped by (left, right, top, bottom) sides."""
    return codes.reshape(len(codes), -1).astype(np.float32) @ _waves(crop).T


@cache
def _waves(crop: tuple[float, ...]) -> np.ndarray:
    """(d, 1024) float32: products of windowed sines and cosines in x and y, each of mean 0 and length 1."""
    number = np.arange(2 * _CYCLES + 1)
    cycles = (number + 1) // 2

    def axis(before: float, after: float) -> np.ndarray:
        place = ((np.arange(SIDE) + 0.5) / SIDE - before) / (1 - before - after) - 0.5
        phase = 2 * np.pi * cycles[:, None] * place
        wave = np.where(number[:, None] % 2 == 1, np.sin(phase), np.cos(phase))
        return wave * np.exp(-(place**2) / (2 * _WINDOW**2))

    waves = np.einsum("iy,jx->ijyx", axis(*crop[2:]), axis(*crop[:2])).reshape(len(number) ** 2, -1)
    radius = np.hypot(*np.meshgrid(cycles, cycles, indexing="ij")).ravel()
    waves = waves[(radius > 0) & (radius <= _CYCLES)]
    waves -= waves.mean(axis=1, keepdims=True)
    return _unit(waves).astype(np.float32)
