"""A manifest of raw files that may not be copied: one line a file, `sha256  path`, as `sha256sum` writes and checks it.

It says later, or elsewhere, whether the downloads are the ones that a study was made from. Paths of MIMIC-CXR hold ids of
patients, so it stays with the data; what may be published is `digest`.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import sha256_file, write_text

Progress = Callable[[int, int], None]


class Difference(NamedTuple):
    """Paths whose bytes changed, that are gone, and that the manifest does not list."""

    changed: list[str]
    missing: list[str]
    new: list[str]


def write_manifest(
    raw: Path, out: Path, *, workers: int = 4, progress: Progress | None = None
) -> dict[str, str]:
    """Hash every file below `raw` and write the manifest; returns hash by path, in order of the paths.

    Args:
        progress: called with (files hashed, files in all).

    Raises:
        InputError: there is no file.
    """
    names = sorted(_files(raw))
    if not names:
        raise InputError("there are no files", file=raw)
    hashes = _hash(raw, names, workers, progress)
    write_text(out, "".join(f"{value}  {name}\n" for name, value in hashes.items()))
    return hashes


def read_manifest(path: Path) -> dict[str, str]:
    """Hash by path.

    Raises:
        InputError: there is no such file, or a line is no entry.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError("the manifest does not exist", file=path, remedy="run `cmcgns manifest`") from None
    entries = {}
    for row, line in enumerate(lines, 1):
        value, blank, name = line.partition("  ")
        if len(value) != 64 or not blank or not name:
            raise InputError(
                "not an entry of a manifest", file=path, row=row, expected="sha256, two blanks, path"
            )
        entries[name] = value
    return entries


def compare(
    raw: Path, entries: dict[str, str], *, workers: int = 4, progress: Progress | None = None
) -> Difference:
    """Hold the files below `raw` against a manifest's entries."""
    there = set(_files(raw))
    hashes = _hash(raw, sorted(there & entries.keys()), workers, progress)
    changed = [name for name, value in hashes.items() if value != entries[name]]
    return Difference(changed, sorted(entries.keys() - there), sorted(there - entries.keys()))


def digest(entries: dict[str, str]) -> str:
    """One sha256 of all entries: equal for two copies of the same files, and tells nothing about them."""
    return hashlib.sha256(
        "".join(f"{entries[name]}  {name}\n" for name in sorted(entries)).encode()
    ).hexdigest()


def _hash(raw: Path, names: list[str], workers: int, progress: Progress | None) -> dict[str, str]:
    hashes: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:  # hashing leaves Python's lock
        for name, value in zip(names, pool.map(lambda name: sha256_file(raw / name), names), strict=True):
            hashes[name] = value
            if progress:
                progress(len(hashes), len(names))
    return hashes


def _files(raw: Path) -> Iterator[str]:
    # os.walk follows links to folders, as the raw folder may be made of them; Path.rglob does not
    for folder, _, names in os.walk(raw, followlinks=True):
        for name in names:
            yield (Path(folder) / name).relative_to(raw).as_posix()
