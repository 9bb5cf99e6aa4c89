"""Pairs of images that show one film, and images grouped by film where nobody has published patients.

The first step, by hashes, is in `hashing`. The second: one film is moved onto the other by a scale and a shift in x and in y,
found by Gauss-Newton from coarse to fine (Lucas and Kanade 1981). The score is the normalised cross-correlation of the details
where both films are. Brightness and contrast drop out of it; two exams of one patient agree in their coarse shades, not in details.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cmcgns.images.decode import read_grey8
from cmcgns.images.hashing import SIDE, codes, find_pairs, thumbnails
from cmcgns.images.place import Placement, letterbox
from cmcgns.images.store import ImageStore

_STEPS = ((4, 8, 8.0), (2, 4, 4.0), (1, 2, 4.0))  # shrink by, iterations, blur that is taken off (px)
_DETAIL = (1.0, 3.0)  # the score's band: blurs in px, between which details are compared
_HOPELESS = 0.8  # correlation of two shrunk films, below which there is no next step
_AGAIN = 0.85  # the least score one way round that is worth trying the other
_FURTHEST = (0.25, 0.12)  # of a scale from 1, and of a shift in sides: twice what crops of 5 % do
_BLACK, _WHITE = 12, 243  # grey levels: beyond, a change of brightness or contrast has cut the details off
_LEAST = 0.2  # of the frame: a smaller overlap shows nothing
_CHUNK = 64  # pairs at a time: they fit into a processor's cache


class _Overlap(NamedTuple):
    """Two films in one frame, (n, side, side); `inside` is 1 where both are and neither is black or white."""

    a: np.ndarray
    b: np.ndarray
    inside: np.ndarray


def confirm(
    thumbnails: np.ndarray,
    pairs: np.ndarray,
    enough: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """How well the details of the films of each pair agree.

    Args:
        thumbnails: (n, 64, 64) uint8, see `hashing.thumbnails`.
        pairs: (k, 2) rows.
        enough: a pair that reaches this one way round is not tried the other way round.
        progress: called with (pairs compared, pairs in all).

    Returns:
        (k,) float32, the better of the two ways round: 1 for the same film, about 0.5 for any two of the chest, 0 for a hopeless pair.
    """
    scores = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        scores[chunk] = _score(*(thumbnails[pairs[chunk, side]].astype(np.float32) for side in (0, 1)))
        again = start + np.flatnonzero((scores[chunk] >= _AGAIN) & (scores[chunk] < enough))
        if len(again):
            other = _score(*(thumbnails[pairs[again, side]].astype(np.float32) for side in (1, 0)))
            scores[again] = np.maximum(scores[again], other)
        if progress:
            progress(min(start + _CHUNK, len(pairs)), len(pairs))
    return scores


def _score(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) correlations of (n, 64, 64) films; 0 where a coarse step finds them unlike."""
    scores = np.zeros(len(a), np.float32)
    left = np.arange(len(a))
    frame = np.tile(np.float32([1, 0, 1, 0]), (len(a), 1))  # scale and shift in x, in y
    for shrink, iterations, blur in _STEPS:
        small_a, small_b = _shrink(a[left], shrink), _shrink(b[left], shrink)
        frame = _align(small_a, small_b, frame, iterations, blur)
        if shrink > 1:
            hopeful = _correlate(_move(small_a, small_b, frame), 0, blur) >= _HOPELESS
            left, frame = left[hopeful], frame[hopeful]
            if not len(left):
                return scores
    scores[left] = _correlate(_move(a[left], b[left], frame), *_DETAIL)
    return scores


def _align(a: np.ndarray, b: np.ndarray, frame: np.ndarray, iterations: int, blur: float) -> np.ndarray:
    """(n, 4): where b's film lies in a's, from a first guess."""
    side = a.shape[-1]
    place = _places(side)
    for _ in range(iterations):
        both = _move(a, b, frame)
        first, second = (_details(film, both, 0, blur) for film in (both.a, both.b))
        slope_y, slope_x = np.gradient((first + second) / 2, 1 / side, axis=(1, 2))
        slopes = (
            np.stack([slope_x * place, slope_x, slope_y * place[:, None], slope_y], axis=1)
            * both.inside[:, None]
        )
        slopes = slopes.reshape(len(a), 4, -1)
        normal = slopes @ slopes.transpose(0, 2, 1)
        # A little damping: a film without details has no slopes.
        damping = 1e-3 * np.trace(normal, axis1=1, axis2=2) / 4 + 1e-9
        normal += damping[:, None, None] * np.eye(4, dtype=np.float32)
        step = np.linalg.solve(normal, slopes @ (first - second).reshape(len(a), -1, 1))[:, :, 0]
        furthest = np.tile(_FURTHEST, 2)
        frame = frame + np.clip(step, -furthest / 2, furthest / 2)
        frame = np.clip(frame, [1, 0, 1, 0] - furthest, [1, 0, 1, 0] + furthest).astype(np.float32)
    return frame


def _places(side: int) -> np.ndarray:
    """Centres of the pixels, the film from -0.5 to 0.5."""
    return ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)


def _move(a: np.ndarray, b: np.ndarray, frame: np.ndarray) -> _Overlap:
    """b in a's frame, interpolated linearly along both axes."""
    side = a.shape[-1]

    def axis(scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixel = (_places(side) * scale[:, None] + shift[:, None] + 0.5) * side - 0.5
        inside = (pixel >= -0.25) & (pixel <= side - 0.75)
        pixel = np.clip(pixel, 0, side - 1)
        weights = np.maximum(0, 1 - np.abs(pixel[:, :, None] - np.arange(side, dtype=np.float32)))
        return weights.astype(np.float32), inside.astype(np.float32)

    (across, columns), (down, rows) = axis(frame[:, 0], frame[:, 1]), axis(frame[:, 2], frame[:, 3])
    moved = down @ b @ across.transpose(0, 2, 1)
    shades = (np.minimum(a, moved) > _BLACK) & (np.maximum(a, moved) < _WHITE)
    return _Overlap(a, moved, rows[:, :, None] * columns[:, None, :] * shades)


def _correlate(both: _Overlap, fine: float, coarse: float) -> np.ndarray:
    """(n,) normalised cross-correlation of the details of two films."""
    return (_details(both.a, both, fine, coarse) * _details(both.b, both, fine, coarse)).sum(axis=(1, 2))


def _details(film: np.ndarray, both: _Overlap, fine: float, coarse: float) -> np.ndarray:
    """The film between two blurs, only inside the overlap; of mean 0 and length 1, or all 0 in a small overlap."""
    inside = both.inside
    area = inside.sum(axis=(1, 2), keepdims=True)
    detail = (_blur(film, inside, fine) - _blur(film, inside, coarse)) * inside
    detail = (detail - detail.sum(axis=(1, 2), keepdims=True) / np.maximum(area, 1)) * inside
    length = np.sqrt((detail**2).sum(axis=(1, 2), keepdims=True))
    return detail / (length + 1e-6) * (area >= _LEAST * film.shape[1] * film.shape[2])


def _blur(film: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian blur that takes nothing from outside."""
    if not width:
        return film
    kernel = _gauss(film.shape[-1], width)
    return kernel @ (film * inside) @ kernel / np.maximum(kernel @ inside @ kernel, 1e-3)


@cache
def _gauss(side: int, width: float) -> np.ndarray:
    away = np.subtract.outer(np.arange(side), np.arange(side))
    return np.exp(-(away**2) / (2 * width**2)).astype(np.float32)


def _shrink(films: np.ndarray, factor: int) -> np.ndarray:
    side = films.shape[-1] // factor
    return films.reshape(-1, side, factor, side, factor).mean(axis=(2, 4))


# Chosen on the real radiographs of benchmarks/near_duplicates.py: no two exams among the originals reach it (0.965 at
# most), at least 99.5 % of the changed copies of usual size do; a few exams reach it once they are changed.
SAME_FILM = 0.967
_CHUNK = 1024  # images at a time
Images = ImageStore | Mapping[str, Path]  # a store, or image ids and their files


def find_duplicates(
    sources: Mapping[str, Images],
    same: float = SAME_FILM,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """All pairs of images that show one film: recompressed, rescaled, cropped or padded by up to 5 % a border,
    brightness or contrast changed. Not found: mirrored, turned or inverted copies, and larger crops.

    Memory: 5 kB an image, and what `find_pairs` takes.

    Args:
        sources: by name, an image store or {image id: file}; ids are unique in a source.
        same: the least score of a pair, see `alignment.confirm`.
        progress: called with (images read, images in all), then with (pairs compared, pairs in all).

    Returns:
        `source_a, image_a, source_b, image_b, score`, the surest first. Blank images have no duplicates.

    Raises:
        InputError: a file cannot be decoded.
    """
    names = pd.DataFrame(
        [(name, image) for name, images in sources.items() for image in _ids(images)],
        columns=["source", "image"],
    )
    films = np.empty((len(names), 2 * SIDE, 2 * SIDE), np.uint8)
    done = 0
    for images in sources.values():
        for part in _read(images):
            small = thumbnails(*part)
            films[done : done + len(small)] = small
            done += len(small)
            if progress:
                progress(done, len(names))
    pairs = find_pairs(codes(films))
    score = confirm(films, pairs, enough=same, progress=progress)
    best = np.flatnonzero(score >= same)
    best = best[np.argsort(-score[best], kind="stable")]
    a, b = (
        names.iloc[pairs[best, side]].reset_index(drop=True).add_suffix(f"_{'ab'[side]}") for side in (0, 1)
    )
    return pd.concat([a, b], axis=1).assign(score=score[best])


def _ids(images: Images) -> Sequence[str]:
    return images.ids if isinstance(images, ImageStore) else list(images)


def _read(images: Images) -> Iterator[tuple[Sequence[np.ndarray], Sequence[Placement]]]:
    """Squares and placements, some images at a time."""
    files = [] if isinstance(images, ImageStore) else list(images.values())
    for start in range(0, len(_ids(images)), _CHUNK):
        if isinstance(images, ImageStore):
            rows = np.arange(start, min(start + _CHUNK, len(images.ids)))
            places = images.placement(rows).itertuples(index=False)
            yield images.pixels[start : start + _CHUNK], [Placement(*place) for place in places]
        else:
            squares, placements = zip(
                *(letterbox(read_grey8(file)) for file in files[start : start + _CHUNK]), strict=True
            )
            yield squares, placements


def film_groups(images: Images, progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """Image id -> the first id, in order of names, of all images that show its film or are linked to it by such pairs."""
    pairs = find_duplicates({"": images}, progress=progress)
    return unite(_ids(images), pairs[["image_a", "image_b"]].to_numpy())


def unite(names: Iterable[str], linked: Iterable[Sequence[str]]) -> dict[str, str]:
    """Name -> the first, in alphabetical order, of all names that `linked` ties to it, directly or through others."""
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for together in linked:
        first, *others = sorted({root(name) for name in together})
        for other in others:
            parent[other] = first
    return {name: root(name) for name in parent}
