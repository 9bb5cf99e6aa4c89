"""Pairs of images that show one film, and images grouped by film where nobody has published patients."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cmcgns.images.alignment import confirm
from cmcgns.images.decode import read_grey8
from cmcgns.images.hashing import SIDE, codes, find_pairs, thumbnails
from cmcgns.images.place import Placement, letterbox
from cmcgns.images.store import ImageStore

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
