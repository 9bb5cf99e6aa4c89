"""A GPU of its own for each job: Snakemake only counts them, a lock file a device says which is free."""

import fcntl
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from cmcgns.errors import InputError
from cmcgns.files import write_text
from cmcgns.pipeline.state import STATE, host, place

_held: list[IO[str]] = []  # open for the life of the process; the kernel frees them, after a kill as well


def devices() -> list[str]:
    """The GPUs this process may use, by the names CUDA_VISIBLE_DEVICES takes."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    try:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def device() -> str:
    """What a training or an encoding runs on here: the first GPU, or the kind of CPU that torch sees; looked up once a start of the machine."""
    known = place("devices", f"{host()} {os.environ.get('CUDA_VISIBLE_DEVICES')} {sys.executable}")
    with suppress(OSError):
        return known.read_text()
    if "torch" in sys.modules and not devices():
        name = _cpu()  # looking for a GPU would make the process that forks the jobs larger
    else:  # a scheduler has no other use for torch, and a job's GPUs are fixed when torch has looked at them
        command = [sys.executable, "-c", "from cmcgns.pipeline.gpu import found; print(found())"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        name = said.strip().splitlines()[-1]
    if STATE.is_dir():
        write_text(known, name)
    return name


def known_devices() -> list[str]:
    """What the jobs of this folder have found on all machines that they ran on."""
    return sorted({path.read_text() for path in (STATE / "devices").glob("*/*")})


def found() -> str:
    """The same, asked of torch in this process."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu()


def _cpu() -> str:
    import torch

    return f"CPU {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def claim(count: int = 1, folder: Path | None = None) -> list[str]:
    """Wait for `count` free GPUs, hold them until this process ends, and show it no others.

    Nothing is claimed on a machine without a GPU, or where Slurm or torchrun has already chosen.

    Args:
        folder: of the lock files, on a local disk.

    Returns:
        The devices held.
    """
    found = devices()
    if not found or {"SLURM_JOB_ID", "LOCAL_RANK"} & os.environ.keys():
        return []
    count = min(count, len(found))
    folder = folder or Path(tempfile.gettempdir()) / f"cmcgns-gpu-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise InputError("the folder of GPU locks is another user's", file=folder, remedy="set TMPDIR")
    while True:
        taken: dict[str, IO[str]] = {}
        for name in found:
            # never through a link, and nothing in it is touched
            path = folder / f"{name.replace('/', '_')}.lock"
            lock = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken[name] = lock
            except BlockingIOError:
                lock.close()
            if len(taken) == count:
                _held.extend(taken.values())
                os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
                return list(taken)
        for lock in taken.values():  # all or nothing, so that two jobs of two GPUs cannot wait for each other
            lock.close()
        time.sleep(0.2 + 0.3 * random.random())  # no result depends on it
