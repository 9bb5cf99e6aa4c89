"""Which raw files a job read: noted while it runs, compared before the next run. Size and time say where to look, the hash decides.

Raw files are no files of the graph, there may be half a million of them. The jobs that read them say which they were.
"""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmcgns.files import atomic, sha256_file

EVENTS = ("open", "os.scandir", "os.listdir")


Folders = Mapping[str, str]  # name -> folder, as a job's document has them


class Reads:
    """What a job opens for reading, and which folders it lists, below some folders. Python tells it (PEP 578); what other
    processes read, their job tells by calling `add`.
    """

    def __init__(self, folders: Folders):
        self.seen: dict[str, str] = {}  # <name of a folder>/<path in it> -> sha256, or nothing yet
        self._folders = folders
        self._roots = [
            (top, name) for name, f in folders.items() for top in {os.path.abspath(f), os.path.realpath(f)}
        ]
        self._watching = bool(self._roots)
        if self._watching:
            sys.addaudithook(self._hear)

    def add(self, file: str, digest: str) -> None:
        if path := self._inside(file):
            self.seen[path] = digest

    def _inside(self, file: str) -> str:
        path = os.path.abspath(file)
        return next((n + path[len(top) :] for top, n in self._roots if f"{path}/".startswith(f"{top}/")), "")

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching or event not in EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if path := self._inside(os.fspath(arguments[0])):
            self.seen.setdefault(path, "")

    def finish(self, table: Path) -> dict[str, Any] | None:
        """Write the table of what was read; returns how much it was and one digest of it."""
        self._watching = False
        return write_table(table, self.seen, self._folders)


def contents(folders: Folders) -> dict[str, str]:
    """All files below some folders, as `Reads.seen`."""
    return {
        f"{name}{where[len(top) :]}/{file}": ""
        for name, top in folders.items()
        for where, _, files in os.walk(top)
        for file in files
    }


def write_table(table: Path, seen: Mapping[str, str], folders: Folders) -> dict[str, Any] | None:
    """A line a path, `<size> <time of change> <sha256> <path>`; nothing for nothing."""
    lines = [line for path in sorted(seen) if (line := _line(path, folders, seen[path]))]
    if not lines:
        table.unlink(missing_ok=True)
        return None
    with atomic(table) as temporary:
        temporary.write_text("".join(lines))
    read = "".join(line.split(" ", 2)[2] for line in lines)
    return {"files": len(lines), "sha256": hashlib.sha256(read.encode()).hexdigest()}


def changed(table: Path, folders: Folders, *, remember: bool) -> str:
    """The first path of a table that is not what it was when it was read; nothing if all are, or there is no table.

    Args:
        folders: where they are now.
        remember: write down the new times of what has the same content still.
    """
    try:
        lines = table.read_text().splitlines(keepends=True)
    except OSError:
        return ""
    new = []
    for line in lines:
        *_, digest, path = line.rstrip("\n").split(" ", 3)
        state = _state(_real(path, folders))
        if state and line.startswith(f"{state} "):
            new.append(line)
            continue
        now = _line(path, folders) if state else ""
        if not now or now.split(" ", 3)[2] != digest:
            return _real(path, folders) or path
        new.append(now)
    if remember and new != lines:
        with atomic(table) as temporary:
            temporary.write_text("".join(new))
    return ""


def paths(table: Path) -> list[tuple[str, str]]:
    """(path, sha256) of the lines of a table."""
    return [tuple(line.split(" ", 3)[:1:-1]) for line in table.read_text().splitlines()]


def _real(path: str, folders: Folders) -> str:
    name, _, rest = path.partition("/")
    return os.path.join(folders[name], rest) if name in folders else ""


def _state(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _line(path: str, folders: Folders, digest: str = "") -> str:
    """A line of a table; of a folder the hash of its names."""
    file = _real(path, folders)
    state = _state(file)
    try:
        if not digest and os.path.isdir(file):
            digest = hashlib.sha256("\n".join(sorted(os.listdir(file))).encode()).hexdigest()
        return f"{state} {digest or sha256_file(file)} {path}\n" if state and "\n" not in path else ""
    except OSError:
        return ""
