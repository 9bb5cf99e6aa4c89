"""Where this working copy keeps what it knows of its jobs: `.cmcgns`, private, not part of git, and gone without harm."""

import hashlib
import os
import socket
import subprocess
from pathlib import Path

import psutil

from cmcgns.files import atomic, sha256_file

STATE = Path(".cmcgns")


def prepare() -> None:
    """Make the folder, for its owner alone."""
    STATE.mkdir(mode=0o700, exist_ok=True)


def place(kind: str, name: str) -> Path:
    """Where something about a file or job `name` lies; a path is no file name, its hash is."""
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    return STATE / kind / key[:2] / key[2:]


def file_hash(file: str) -> str:
    """The sha256 of a file, remembered for as long as its size and its times of change are the same.

    Raises:
        OSError: there is no such file.
    """
    state, known = os.stat(file), place("hashes", file)
    now = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"
    try:
        before, _, digest = known.read_text().rpartition(" ")
        if before == now:
            return digest
    except OSError:
        pass
    digest = sha256_file(file)
    remember_hash(file, digest)
    return digest


def remember_hash(file: str | Path, digest: str) -> None:
    """Spare `file_hash` the reading of a file whose sha256 is known."""
    if STATE.is_dir():
        state = os.stat(file)
        with atomic(place("hashes", str(file))) as temporary:
            temporary.write_text(f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {digest}")


def host() -> str:
    """This machine since its start."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.exists() else psutil.boot_time()}"


def is_alive(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def revision() -> dict[str, str | bool]:
    """The git revision of this folder, and whether tracked files differ from it; "unknown" if the folder is no repository of its own."""
    unknown: dict[str, str | bool] = {"revision": "unknown", "changed_files": "unknown"}
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ("git", *arguments)
        return subprocess.run(command, env=own, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != Path.cwd():
            return unknown
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"revision": git("rev-parse", "HEAD"), "changed_files": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return unknown
