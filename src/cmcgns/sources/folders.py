"""Finding things among downloads: folder and file names without regard to case, and fast walks over image files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cmcgns.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".dcm", ".dicom")


def find_folder(raw: Path, patterns: Iterable[str], holding: Sequence[str]) -> Path | None:
    """The first folder below `raw` that matches a pattern and holds one of the files, else the first that matches.

    Args:
        patterns: relative paths in order of preference, lower case, `*` within a component.
        holding: file names that tell a source's root, plain or gzipped.
    """
    matches = [folder for pattern in patterns for folder in _folders(raw, pattern.split("/"))]
    return next((f for f in matches if find_file(f, holding)), matches[0] if matches else None)


def find_file(root: Path, names: Iterable[str]) -> Path | None:
    """The first of `names` that is a file in `root`, plain before gzipped, whatever the case."""
    present = {entry.name.lower(): entry for entry in _entries(root) if entry.is_file()}
    wanted = [name.lower() + end for name in names for end in ("", ".gz")]
    return next((Path(present[name].path) for name in wanted if name in present), None)


def need_file(root: Path, names: Sequence[str], where: str) -> Path:
    """As `find_file`, but a missing file is an `InputError` that says `where` to get it."""
    path = find_file(root, names)
    if path is None:
        raise InputError(
            f"the label file {names[0]} is missing",
            file=root,
            expected=" or ".join(names) + " (plain or .gz)",
            remedy=f"get it from {where}",
        )
    return path


def need_files(root: Path, names: Sequence[str], where: str) -> list[Path]:
    """All of `names`, as `need_file` finds each."""
    return [need_file(root, (name,), where) for name in names]


def walk(root: Path, under: Sequence[str] = ("",)) -> Iterator[str]:
    """Paths of all image files below the folders `under` of `root`, relative to `root`, with `/`. Hidden entries are skipped.

    Raises:
        InputError: a folder that cannot be listed; leaving it out would look like missing images.
    """
    waiting = [(str(root / name), f"{name}/" if name else "") for name in under if (root / name).is_dir()]
    while waiting:
        folder, prefix = waiting.pop()
        for entry in _entries(folder):
            if entry.name.startswith("."):  # macOS writes "._name.jpg" beside name.jpg
                continue
            if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
                yield prefix + entry.name
            elif entry.is_dir():
                waiting.append((entry.path, f"{prefix}{entry.name}/"))


def _folders(parent: Path, pattern: list[str]) -> list[Path]:
    """All folders that match the pattern's components one by one, sorted."""
    if not pattern:
        return [parent]
    matches = sorted(
        entry.name
        for entry in _entries(parent)
        if fnmatchcase(entry.name.lower(), pattern[0]) and entry.is_dir()
    )
    return [folder for name in matches for folder in _folders(parent / name, pattern[1:])]


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(
            f"the folder cannot be listed ({error.strerror})",
            file=folder,
            remedy="check that it exists and may be read",
        ) from None
