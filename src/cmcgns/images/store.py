"""The image store: every frontal image decoded once, in one memory-mapped file with a table beside it."""

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.files import atomic, sha256_file
from cmcgns.images.decode import read_bytes, read_grey8, read_view
from cmcgns.images.place import Placement, letterbox, resize_area
from cmcgns.parquet import read_parquet, write_parquet

_CHUNK = 16  # images a worker takes at a time: about 1 MB of pixels comes back
_NOWHERE = Placement(0, 0, 0, 0, 0, 0)


class _Loaded(NamedTuple):
    """One image as the store keeps it; `square` is None and `reason` is set when it cannot be used."""

    square: np.ndarray | None
    placement: Placement
    sha256: str
    view: str
    reason: str


def store_source(
    *,
    source: str,
    raw: Path,
    index: Path,
    store: Path,
    table: Path,
    world: Path | None = None,
    **options: Any,
) -> dict[str, int]:
    """The step `images`: `build_store` for a source among the downloads in `raw`.

    Args:
        world: the manifest of a synthetic world, which stands for its raw files.
    """
    root = import_module(f"cmcgns.sources.{source}").find(raw)
    return build_store(index, root, store, table, **options)


def build_store(
    index: Path,
    root: Path,
    npy: Path,
    table: Path,
    *,
    size: int = 256,
    workers: int = 1,
    max_bad_fraction: float = 0.01,
    progress: Callable[[int, int], None] | None = None,
    read: Callable[[str, str], None] | None = None,
) -> dict[str, int]:
    """Decode the frontal images of an index into a store; the same bytes whatever the number of workers.

    Rows follow the order of the index. A file that cannot be used gets row -1 and its reason in the table.
    The images pass one at a time, so memory does not grow with their number.

    Args:
        index: an index table; `image_id, path, frontal` are read.
        root: what `path` is relative to.
        npy, table: the two files written: (n, size, size) uint8, and one row an image.
        size: side of the squares, pixels.
        max_bad_fraction: of the frontal images; above it the run stops.
        progress: called with (images done, images in all).
        read: called with the path and the sha256 of every file that was read.

    Returns:
        {"images", "stored", "quarantined"}: counts.

    Raises:
        InputError: no frontal image, or too many bad ones; the table is then `<table's stem>.failed.parquet`.
    """
    rows = read_parquet(index, columns=["image_id", "path", "frontal"])
    rows = rows[rows["frontal"]].reset_index(drop=True)
    if rows.empty:
        raise InputError(
            "no frontal image in the index",
            file=index,
            remedy="check the raw folder, run `cmcgns reproduce` again",
        )
    npy, table = Path(npy), Path(table)
    failed = table.with_suffix(".failed.parquet")
    paths = [os.fspath(Path(root) / path) for path in rows["path"]]
    with atomic(npy) as temporary:
        described = _write_squares(temporary, _load_all(paths, size, workers), len(rows), size, progress)
        result = pd.concat([rows[["image_id"]], described], axis=1)
        for path, digest in zip(paths, described["sha256"], strict=True) if read else ():
            read(path, digest)
        meta = {"size": size, "index": sha256_file(index)}
        bad = result[result["row"] < 0]
        if len(bad) > max_bad_fraction * len(rows) or len(bad) == len(rows):
            write_parquet(result, failed, meta)
            example = f"{paths[bad.index[0]]}: {bad['reason'].iloc[0]}"
            raise InputError(
                f"{len(bad)} of {len(rows)} images cannot be used, for example {example}",
                file=index,
                expected=f"at most {max_bad_fraction:.2%} bad images",
                remedy=f"see {failed.name}; replace the files, or raise max_bad_fraction in params.yaml",
            )
        write_parquet(result, table, meta)
    failed.unlink(missing_ok=True)
    return {"images": len(rows), "stored": len(rows) - len(bad), "quarantined": len(bad)}


def _write_squares(
    path: Path, loaded: Iterator[_Loaded], count: int, size: int, progress: Callable[[int, int], None] | None
) -> pd.DataFrame:
    """Append the good squares to a .npy file, whose header gets their number last; describe all images."""
    described, stored = [], 0
    with path.open("wb") as stream:
        _write_header(stream, count, size)
        for done, image in enumerate(loaded, start=1):
            row = -1
            if image.square is not None:
                stream.write(image.square.tobytes())
                row, stored = stored, stored + 1
            described.append((row, image.reason, image.sha256, image.view, *image.placement))
            if progress:
                progress(done, count)
        stream.seek(0)
        _write_header(stream, stored, size)
    columns = ["row", "reason", "sha256", "view", *Placement._fields]
    return pd.DataFrame(described, columns=columns)


def _write_header(stream, count: int, size: int) -> None:
    """A .npy header; NumPy pads it so that its length does not depend on `count`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size)}
    np.lib.format.write_array_header_1_0(stream, header)


def _load_all(paths: list[str], size: int, workers: int) -> Iterator[_Loaded]:
    """Load the files in order, in this process or in `workers` others."""
    load = partial(_load, size=size)
    if workers <= 1:
        yield from map(load, paths)
        return
    # Not fork: the parent may hold threads (torch, pyarrow), and a forked lock never opens.
    context = multiprocessing.get_context("spawn")
    done = 0
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for image in pool.map(load, paths, chunksize=_CHUNK):
                done += 1
                yield image
        except BrokenProcessPool:
            raise InputError(
                "a worker process died: out of memory, or a file that crashes its decoder",
                file=paths[done],
                row=f"or one of the {(workers + 1) * _CHUNK} files after it",
                remedy="run with fewer workers; if it dies here again, move these files away one by one",
            ) from None


def _load(path: str, size: int) -> _Loaded:
    """Read a file's bytes once, for its hash and its pixels."""
    digest = ""
    try:
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        return _Loaded(*letterbox(read_grey8(path, data), size), digest, read_view(path, data), "")
    except InputError as error:
        return _Loaded(None, _NOWHERE, digest, "", error.problem)


class ImageStore:
    """Read access to a store.

    Attributes:
        pixels: (n, S, S) uint8, memory-mapped, read only.
        ids: (n,) the image of each row.
        size: S.
    """

    def __init__(self, npy: Path, table: Path):
        frame = read_parquet(table)
        self._table = table
        self._reasons = dict(frame.loc[frame["row"] < 0, ["image_id", "reason"]].itertuples(index=False))
        good = frame[frame["row"] >= 0].sort_values("row")
        self.ids: np.ndarray = good["image_id"].to_numpy(dtype=object)
        self._rows = {name: row for row, name in enumerate(self.ids)}
        self._placement = good[list(Placement._fields)].reset_index(drop=True)
        try:
            self.pixels: np.ndarray = np.load(npy, mmap_mode="r")
        except FileNotFoundError:
            raise InputError(
                "the file does not exist", file=npy, remedy="make it with `cmcgns reproduce`"
            ) from None
        except (ValueError, EOFError) as error:
            raise InputError(
                f"not a readable .npy file ({error})", file=npy, remedy="delete it and run again"
            ) from None
        if len(self.pixels) != len(self.ids):
            raise InputError(
                f"{len(self.pixels)} images, but its table {Path(table).name} has {len(self.ids)}",
                file=npy,
                remedy="delete both and run `cmcgns reproduce` again",
            )
        self.size: int = self.pixels.shape[1]

    def rows(self, image_ids: Iterable[str]) -> np.ndarray:
        """(n,) int64, the row of each image; `InputError` for an image that is unknown or in quarantine."""
        try:
            return np.array([self._rows[name] for name in image_ids], dtype=np.int64)
        except KeyError as error:
            name = error.args[0]
            reason = self._reasons.get(name)
            raise InputError(
                "the image is not in the store"
                if reason is None
                else f"the image is in quarantine ({reason})",
                file=self._table,
                row=name,
                remedy="make the store and the splits again from one index",
            ) from None

    def placement(self, rows: np.ndarray) -> pd.DataFrame:
        """The columns of `Placement` for these rows, in their order."""
        return self._placement.iloc[rows].reset_index(drop=True)

    def work_array(
        self, size: int, resize: str = "pad256_crop224", rows: np.ndarray | None = None
    ) -> np.ndarray:
        """What a network with `size` px inputs crops from, for the given rows or all.

        `pad256_crop224` keeps the share of the margin: squares of round(size * 256 / 224) px, at 224 the
        store itself. `direct224` is the image squashed to size x size, without margin and padding
        (spec method.md 8.6).

        Returns:
            (n, side, side) uint8; the memory map itself where nothing has to change.
        """
        if resize == "direct224":
            return self.content(np.arange(len(self.ids)) if rows is None else rows, size)
        side = round(size * 256 / 224)
        if side > self.size:
            raise InputError(
                f"inputs of {size} px need squares of {side} px, the store has {self.size}", file=self._table
            )
        source = self.pixels if rows is None else self.pixels[rows]
        if side == self.size:
            return source
        result = np.empty((len(source), side, side), np.uint8)
        for i, square in enumerate(source):
            result[i] = resize_area(square, side, side)
        return result

    def content(self, rows: np.ndarray, size: int) -> np.ndarray:
        """The images without their padding, squashed to squares (detection, spec data.md 7.2).

        Returns:
            (n, size, size) uint8.
        """
        result = np.empty((len(rows), size, size), np.uint8)
        places = self._placement.iloc[rows].itertuples(index=False)
        for i, (row, place) in enumerate(zip(rows, places, strict=True)):
            bottom, right = place.top + place.new_height, place.left + place.new_width
            result[i] = resize_area(self.pixels[row, place.top : bottom, place.left : right], size, size)
        return result
