"""A process that has torch imported and forks a child for each job, so that a job's start-up is paid once a run.

Importing torch with torchvision takes 8-11 s on a small machine, many demo jobs a second of work. The Snakefile starts `serve` when
jobs begin on this machine (`engine.start_server`), and `cmcgns` finds it through `CMCGNS_SERVER`, the path of a socket in a
folder that is the user's alone. Without it (by hand, on a cluster's node) a command runs in its own process; the result is the
same. The child imports a step's code after the fork, so it runs what is on disk; `record.run` holds that against what was planned. If the client dies, so does its job; if
Snakemake does, all do.
"""

import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import NamedTuple

from cmcgns.pipeline.client import VARIABLE

LIBRARIES = (
    "torch",
    "torchvision",
    "transformers.models.bert.modeling_bert",
    "segmentation_models_pytorch",
    "lightning_fabric",
    "safetensors.torch",
    "pandas",
    "pydantic",
    "typer",
    "yaml",
)
LARGEST = 16 << 20  # bytes of a request: a command line and an environment
LONGEST = 5.0  # s that a client may take to send one
LAST_SECONDS = 60.0  # that a job whose client is gone has to save
LAST_SECONDS_OF_ALL = 2.0  # that all jobs have when the run is gone


def serve(address: str, parent: int) -> None:
    """Answer requests until the pipe `parent` (its number) is closed, as it is when the process at its other end dies."""
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o077)
    listener.bind(address)
    os.umask(before)
    listener.listen(64)
    loaded = threading.Event()
    watcher = threading.Thread(target=_end_with, args=(parent, loaded), daemon=True)
    watcher.start()
    for name in LIBRARIES:
        __import__(name)
    from cmcgns.pipeline import gpu, record  # what records a job; no job's own code is among it

    record.versions(), gpu.device()  # once for all jobs
    loaded.set()
    watcher.join()  # a process with threads is not to be forked
    children: dict[int, socket.socket] = {}
    ended = _wake_when_a_child_ends()
    while True:
        ready, _, _ = select.select([listener, ended, parent, *children.values()], [], [])
        if parent in ready:
            break
        if ended in ready:
            ended.recv(4096)
        if listener in ready:
            connection, _ = listener.accept()
            try:
                if _user_of(connection) != os.getuid():
                    raise ValueError("another user")
                request, descriptors = _receive(connection)
            except (
                OSError,
                ValueError,
                EOFError,
                TypeError,
            ):  # a stranger, or the client died while it was asking
                connection.close()
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _child(request, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            children[pid] = connection
        for pid, connection in list(children.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                with suppress(OSError):
                    connection.sendall(str(_exit_code(status)).encode())
            elif connection in ready:  # nothing but the end can come after the request: the client is gone
                _end([pid], LAST_SECONDS)
                done = pid
            if done:
                children.pop(pid).close()
    for connection in children.values():
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    _end(list(children), LAST_SECONDS_OF_ALL)
    with suppress(OSError):
        os.unlink(address)


def _end_with(parent: int, loaded: threading.Event) -> None:
    """While the libraries are being imported, which takes seconds, end when the run does."""
    while not loaded.is_set():
        if select.select([parent], [], [], 0.1)[0]:
            os._exit(1)


def _wake_when_a_child_ends() -> socket.socket:
    """A socket that can be read as soon as a child process has ended, so that its client need not wait for a clock."""
    readable, writable = socket.socketpair()
    readable.setblocking(False)
    writable.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the default is to be told nothing
    signal.set_wakeup_fd(writable.detach(), warn_on_full_buffer=False)
    return readable


class Request(NamedTuple):
    """A command line, and where it was called."""

    arguments: list[str]
    directory: str
    environment: dict[str, str]


def _user_of(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows him; where it does not tell, the folder's mode has kept others out."""
    if not hasattr(socket, "SO_PEERCRED"):
        return os.getuid()
    size = struct.calcsize("3i")
    return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1]


def _receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """A request and the client's standard input, output and error."""
    connection.settimeout(LONGEST)
    header, descriptors, _, _ = socket.recv_fds(connection, 8, 3)
    length = int.from_bytes(header, "big")
    if length > LARGEST or len(descriptors) != 3:
        raise ValueError("no request")
    with connection.makefile("rb") as stream:
        return Request(*json.loads(stream.read(length))), list(descriptors)


def _child(request: Request, descriptors: list[int]) -> None:
    """Become the job: its descriptors, directory and environment, then the ordinary command line."""
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are removed
    code = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.chdir(request.directory)
        os.environ.clear()
        os.environ.update(request.environment)
        del os.environ[VARIABLE]
        from cmcgns.__main__ import run

        code = run(request.arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(jobs: list[int], seconds: float) -> None:
    """Tell jobs to stop, which save first if they are trainings; who has not after so many seconds is killed."""
    _signal(jobs, signal.SIGTERM)
    until, left = time.monotonic() + seconds, set(jobs)
    while left and time.monotonic() < until:
        left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.02)
    _signal(left, signal.SIGKILL)
    for pid in left:
        os.waitpid(pid, 0)


def _signal(jobs: list[int] | set[int], number: int) -> None:
    for pid in jobs:
        with suppress(ProcessLookupError):
            os.killpg(pid, number)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    serve(sys.argv[1], sys.stdin.fileno())
