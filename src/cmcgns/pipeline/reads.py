"""Which raw files a job read: noted while it runs, compared before the next run. Size and time say where to look, the hash decides.

Raw files are no files of the graph, there may be half a million of them. The jobs that read them say which they were.
"""

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cmcgns.files import atomic, sha256_file

EVENTS = ("open", "os.scandir", "os.listdir")


class Reads:
    """What a job opens for reading, and which folders it lists, below some folders. Python tells it (PEP 578); what other
    processes read, their job tells by calling `add`.
    """

    def __init__(self, folders: Iterable[str]):
        self.seen: dict[str, str] = {}  # file -> sha256, or nothing yet
        self._roots = tuple({f"{top}/" for f in folders for top in (os.path.abspath(f), os.path.realpath(f))})
        self._watching = bool(self._roots)
        if self._watching:
            sys.addaudithook(self._hear)

    def add(self, file: str, digest: str) -> None:
        self.seen[os.path.abspath(file)] = digest

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching or event not in EVENTS or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = os.path.abspath(arguments[0])
        if f"{path}/".startswith(self._roots):
            self.seen.setdefault(path, "")

    def finish(self, table: Path) -> dict[str, Any] | None:
        """Write the table of what was read; returns how much it was and one digest of it."""
        self._watching = False
        lines = [line for path in sorted(self.seen) if (line := _line(path, self.seen[path]))]
        if not lines:
            table.unlink(missing_ok=True)
            return None
        with atomic(table) as temporary:
            temporary.write_text("".join(lines))
        contents = "".join(line.split(" ", 2)[2] for line in lines)
        return {"files": len(lines), "sha256": hashlib.sha256(contents.encode()).hexdigest()}


def changed(table: Path, *, remember: bool) -> str:
    """The first path of a table that is not what it was when it was read; nothing if all are, or there is no table.

    Args:
        remember: write down the new times of what has the same content still.
    """
    try:
        lines = table.read_text().splitlines(keepends=True)
    except OSError:
        return ""
    new = []
    for line in lines:
        *_, digest, path = line.rstrip("\n").split(" ", 3)
        state = _state(path)
        if state and line.startswith(f"{state} "):
            new.append(line)
            continue
        now = _line(path) if state else ""
        if not now or now.split(" ", 3)[2] != digest:
            return path
        new.append(now)
    if remember and new != lines:
        with atomic(table) as temporary:
            temporary.write_text("".join(new))
    return ""


def _state(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def _line(path: str, digest: str = "") -> str:
    """`<size> <time of change> <sha256> <path>`; of a folder the hash of its names."""
    state = _state(path)
    try:
        if not digest and os.path.isdir(path):
            digest = hashlib.sha256("\n".join(sorted(os.listdir(path))).encode()).hexdigest()
        return f"{state} {digest or sha256_file(path)} {path}\n" if state and "\n" not in path else ""
    except OSError:
        return ""
