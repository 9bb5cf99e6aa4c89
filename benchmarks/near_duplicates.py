"""How well near-duplicates are found: recall per change, false pairs, seconds and memory.

    python benchmarks/near_duplicates.py --files DIR [--same PAIRS.csv] [--store IMAGES.npy ...] [--codes N ...]

* `--files`: a folder of real radiographs. Every image gets a changed copy, for each change, before it is shrunk for the
  store; recall is over the copies, false pairs are all found pairs of two films. `--same` names pairs of files that are
  one film from the outset (columns a, b, paths below DIR); what else is found among the originals counts as false.
* `--store`: image stores (the table beside it), for false pairs alone: `<data>/truth/images.parquet` tells the films.
* `--codes`: time and memory of the search among N codes, which are made: mixtures of a film of the first store and a
  mirrored one. Two with a film in common are more alike than real films, so there are more candidates than in life.
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cmcgns.images.decode import read_grey8
from cmcgns.images.duplicates import SAME_FILM, confirm
from cmcgns.images.hashing import codes, find_pairs, thumbnails
from cmcgns.images.place import Placement, letterbox
from cmcgns.images.store import ImageStore

SMALL = 128  # px: thumbnails below are counted apart, as they hold less than the store would


def jpeg(grey: np.ndarray, quality: int) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream))


def rescale(grey: np.ndarray, factor: float) -> np.ndarray:
    height, width = (max(8, round(side * factor)) for side in grey.shape)
    return np.array(Image.fromarray(grey).resize((width, height), Image.Resampling.BICUBIC))


def borders(grey: np.ndarray, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    """Cut off shares of the sides; negative ones are padding with black."""
    height, width = grey.shape
    left, right, top, bottom = (
        round(x) for x in (left * width, right * width, top * height, bottom * height)
    )
    kept = grey[max(0, top) : height - max(0, bottom), max(0, left) : width - max(0, right)]
    return np.pad(kept, [(max(0, -top), max(0, -bottom)), (max(0, -left), max(0, -right))])


def tone(grey: np.ndarray, contrast: float, brightness: float) -> np.ndarray:
    return np.clip(np.rint((grey - 127.5) * contrast + 127.5 + brightness), 0, 255).astype(np.uint8)


def gamma(grey: np.ndarray, power: float) -> np.ndarray:
    return np.rint(255 * (grey / 255) ** power).astype(np.uint8)


def combined(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grey = rescale(grey, rng.uniform(0.5, 2))
    grey = borders(grey, *(rng.choice([-1, 1]) * rng.uniform(0, 0.05, 4)))
    return jpeg(tone(grey, rng.uniform(0.8, 1.25), rng.uniform(-25, 25)), int(rng.integers(30, 96)))


CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "JPEG, quality 30": lambda grey, rng: jpeg(grey, 30),
    "JPEG, quality 31 to 95": lambda grey, rng: jpeg(grey, int(rng.integers(31, 96))),
    "rescaled to 50 %": lambda grey, rng: rescale(grey, 0.5),
    "rescaled to 51 to 200 %": lambda grey, rng: rescale(grey, rng.uniform(0.51, 2)),
    "cropped, 0 to 5 % a border": lambda grey, rng: borders(grey, *rng.uniform(0, 0.05, 4)),
    "cropped, 5 % every border": lambda grey, rng: borders(grey, 0.05, 0.05, 0.05, 0.05),
    "cropped, 5 % left and top": lambda grey, rng: borders(grey, 0.05, 0, 0.05, 0),
    "padded, 0 to 5 % a border": lambda grey, rng: borders(grey, *-rng.uniform(0, 0.05, 4)),
    "padded, 5 % every border": lambda grey, rng: borders(grey, -0.05, -0.05, -0.05, -0.05),
    "cropped and padded": lambda grey, rng: borders(grey, *rng.uniform(-0.05, 0.05, 4)),
    "brightness -40 to 40": lambda grey, rng: tone(grey, 1, rng.uniform(-40, 40)),
    "contrast 0.6 to 1.5": lambda grey, rng: tone(grey, rng.uniform(0.6, 1.5), 0),
    "gamma 0.7 or 1.4": lambda grey, rng: gamma(grey, rng.choice([0.7, 1.4])),
    "all together": combined,
}


def search(squares: Sequence[np.ndarray], placements: Sequence[Placement]) -> tuple[np.ndarray, np.ndarray]:
    """Candidates (k, 2) and their scores, as `find_duplicates` has them."""
    films = thumbnails(squares, placements)
    pairs = find_pairs(codes(films))
    return pairs, confirm(films, pairs, SAME_FILM)


def measure_files(folder: Path, same: Path | None) -> None:
    paths = sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".dcm")
    )
    greys = [read_grey8(path) for path in paths]
    small = np.array([max(grey.shape) < SMALL for grey in greys])
    film = np.arange(len(paths))
    rows = {path.relative_to(folder).as_posix(): row for row, path in enumerate(paths)}
    if same:
        for pair in pd.read_csv(same).itertuples():
            film[rows[pair.b]] = film[rows[pair.a]]
    print(f"{len(paths):,} images, {small.sum():,} of them below {SMALL} px; {len(set(film)):,} films")
    originals = [letterbox(grey) for grey in greys]
    false_all = total_all = 0
    for number, (name, change) in enumerate(CHANGES.items()):
        rng = np.random.default_rng([13, number])
        both = originals + [letterbox(change(grey, rng)) for grey in greys]
        pairs, scores = search(*zip(*both, strict=True))
        films = np.tile(film, 2)
        found, total = pairs[scores >= SAME_FILM], len(both) * (len(both) - 1) // 2
        copies = found[found[:, 1] - found[:, 0] == len(greys), 0]
        is_candidate = pairs[pairs[:, 1] - pairs[:, 0] == len(greys), 0]
        recall = [f"{np.isin(np.flatnonzero(of), copies).mean():.4f}" for of in (~small, small) if of.any()]
        false, total = (films[found[:, 0]] != films[found[:, 1]]).sum(), total - _pairs_of_one_film(films)
        false_all, total_all = false_all + false, total_all + total
        print(f"{name:28} recall {len(copies) / len(greys):.4f} ({', below: '.join(recall)}), of which lost by the codes "
              f"{len(greys) - len(is_candidate)}; false {false} of {total:,}; {len(pairs):,} candidates", flush=True)  # fmt: skip
    print(f"false pairs, all changes: {false_all} of {total_all:,} = {false_all / total_all:.1e}")
    pairs, scores = search(*zip(*originals, strict=True))
    for (i, j), score in sorted(zip(pairs.tolist(), scores, strict=True), key=lambda pair: -pair[1]):
        if score >= SAME_FILM - 0.01:
            known = "one film" if film[i] == film[j] else ""
            print(f"  {score:.4f} {paths[i].relative_to(folder)} {paths[j].relative_to(folder)} {known}")


def _pairs_of_one_film(films: np.ndarray) -> int:
    sizes = np.unique(films, return_counts=True)[1]
    return int((sizes * (sizes - 1) // 2).sum())


def measure_stores(paths: Sequence[Path]) -> None:
    squares, placements, films = [], [], []
    for path in paths:
        store = ImageStore(path, path.with_suffix(".parquet"))
        truth = pd.read_parquet(path.parents[1] / "truth" / "images.parquet")
        of = truth[truth["source"] == path.stem].drop_duplicates("image_id").set_index("image_id")["film_id"]
        squares += list(store.pixels)
        placements += [
            Placement(*p) for p in store.placement(np.arange(len(store.ids))).itertuples(index=False)
        ]
        films += of[list(store.ids)].to_list()
    start = time.perf_counter()
    pairs, scores = search(squares, placements)
    films = pd.factorize(np.array(films))[0]
    one = films[pairs[:, 0]] == films[pairs[:, 1]]
    found, truly = scores >= SAME_FILM, _pairs_of_one_film(films)
    total = len(films) * (len(films) - 1) // 2 - truly
    print(f"stores: {len(films):,} images in {time.perf_counter() - start:.0f} s, {len(pairs):,} candidates; false "
          f"{(found & ~one).sum()} of {total:,} = {(found & ~one).sum() / total:.1e}; of {truly:,} pairs of one film "
          f"found {(found & one).sum():,}, lost by the codes {truly - one.sum():,}; best false score "
          f"{scores[~one].max():.3f}, lowest true {scores[one].min() if one.any() else 1:.3f}")  # fmt: skip


def measure_codes(seeds: np.ndarray, count: int) -> None:
    rng = np.random.default_rng(13)
    made = np.empty((count, *seeds.shape[1:]), np.uint8)
    for start in range(0, count, 4096):
        stop = min(count, start + 4096)
        a, b = rng.integers(0, len(seeds), (2, stop - start))
        share = rng.uniform(0.3, 0.7, (stop - start, 1, 1))
        made[start:stop] = seeds[a] * share + seeds[b][:, :, ::-1] * (1 - share)
    planted = min(1000, count // 2)
    for row in range(planted):  # the last ones are copies of the first, cropped
        left, top, right, bottom = rng.uniform(0, 0.05 * made.shape[1], 4)
        box = (left, top, made.shape[1] - right, made.shape[1] - bottom)
        made[count - planted + row] = Image.fromarray(made[row]).resize(
            made.shape[1:], Image.Resampling.BILINEAR, box
        )
    start, cpu = time.perf_counter(), time.process_time()
    pairs = find_pairs(made)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = (pairs[pairs[:, 0] < planted] @ [-1, 1] == count - planted).sum()
    print(f"{count:,} made codes: {seconds:.1f} s ({cpu:.1f} s of processor), {len(pairs):,} candidates, {found:,} of "
          f"{planted:,} planted crops among them; peak {peak:.2f} GB", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=Path)
    parser.add_argument("--same", type=Path)
    parser.add_argument("--store", type=Path, nargs="*", default=[])
    parser.add_argument("--codes", type=int, nargs="*", default=[])
    options = parser.parse_args()
    if options.files:
        measure_files(options.files, options.same)
    if options.store:
        measure_stores(options.store)
    if options.codes and options.store:
        store = ImageStore(options.store[0], options.store[0].with_suffix(".parquet"))
        places = [Placement(*p) for p in store.placement(np.arange(len(store.ids))).itertuples(index=False)]
        seeds = codes(thumbnails(store.pixels, places))
        for count in options.codes:
            measure_codes(seeds, count)


if __name__ == "__main__":
    main()
