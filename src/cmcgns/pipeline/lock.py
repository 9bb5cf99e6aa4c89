"""One run at a time in a working copy, also from two hosts that share its disk, and where files cannot be locked.

The lock is a file that only one can create. It names the host and the processes that hold it: on their host they are asked for,
elsewhere the file's age tells, because its holder touches it every few seconds.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from cmcgns.errors import InputError
from cmcgns.files import write_json
from cmcgns.pipeline.state import STATE, host, prepare

LOCK = STATE / "lock"
BEAT = 5.0  # s between two touches
DEAD = 60.0  # s without one, of a holder on another host
PATIENCE = 8.0  # s that what a killed run has left may take to end


@contextmanager
def held(what: str) -> Iterator[str]:
    """Hold the lock; yields its token, which says to the processes of this run that they are of it.

    Raises:
        InputError: another run holds it.
    """
    prepare()
    until = time.monotonic() + PATIENCE
    token = secrets.token_hex(8)
    while not _create({"token": token, "what": what, "host": host(), "processes": [_process(os.getpid())]}):
        holder = holder_of_lock()
        if holder is None:
            _clear()
        elif _first_lives(holder) or time.monotonic() > until:
            raise InputError(
                f"another run is going on in this folder ({holder.get('what')}, on {holder.get('host', '').split('/')[0]})",
                remedy="wait for it, or work in another clone",
            )
        else:  # killed: its jobs end by themselves
            time.sleep(0.2)
    ended = threading.Event()
    threading.Thread(target=_beat, args=(ended,), daemon=True).start()
    try:
        yield token
    finally:
        ended.set()
        if _read().get("token") == token:
            LOCK.unlink(missing_ok=True)


def join(token: str, pid: int) -> None:
    """Note that process `pid`, too, holds the lock; it is free when all of them are gone."""
    content = _read()
    if content.get("token") == token:
        write_json(LOCK, content | {"processes": [*content["processes"], _process(pid)]})


def is_ours(token: str) -> bool:
    """Whether the lock is held under this token."""
    return bool(token) and _read().get("token") == token


def holder_of_lock() -> dict[str, Any] | None:
    """Who holds the lock, or None: nobody, or nobody who lives."""
    content = _read()
    if not LOCK.exists():
        return None
    if content.get("host") == host():
        return content if any(_lives(process) for process in content["processes"]) else None
    try:  # by the clock of the disk, which both hosts share
        probe = STATE / f".clock-{os.getpid()}"
        probe.touch()
        age = probe.stat().st_mtime - LOCK.stat().st_mtime
        probe.unlink()
    except OSError:
        return content
    return content if age < DEAD else None


def _create(content: dict[str, Any]) -> bool:
    try:
        descriptor = os.open(LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as stream:
        json.dump(content, stream)
    return True


def _clear() -> None:
    """Take a dead run's lock away; only one may try, lest he takes the lock of who was faster."""
    gate = LOCK.with_name("lock.clearing")
    try:
        os.close(os.open(gate, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        with suppress(OSError):
            if time.time() - gate.stat().st_mtime > DEAD:
                gate.unlink()
        time.sleep(0.1)
        return
    try:
        if holder_of_lock() is None:
            LOCK.unlink(missing_ok=True)
    finally:
        gate.unlink(missing_ok=True)


def _read() -> dict[str, Any]:
    try:
        content = json.loads(LOCK.read_text())
        return content if isinstance(content, dict) else {}
    except (OSError, ValueError):  # gone, or being written just now
        return {}


def _beat(ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(LOCK)


def _process(pid: int) -> list[float]:
    return [pid, psutil.Process(pid).create_time()]


def _lives(process: list[float]) -> bool:
    try:
        found = psutil.Process(int(process[0]))
        return abs(found.create_time() - process[1]) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _first_lives(holder: dict[str, Any]) -> bool:
    """The run itself, not only what a killed one has left; of another host nobody can tell."""
    return holder.get("host") != host() or _lives(holder["processes"][0])
