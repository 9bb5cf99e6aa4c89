"""A process that has torch imported and forks a child for each job, so that a job's start-up is paid once a run.

Importing torch with torchvision takes 8-11 s on a small machine, many demo jobs a second of work. Snakemake starts
`serve` when a run begins (`Snakefile`, onstart) and `cmcgns` commands find it through `CMCGNS_WARM`, the path of a Unix
socket. Without it (by hand, on a cluster's node) a command runs in its own process; the result is the same. The child
imports this package's code after the fork, so it always runs what is on disk. If the client dies, so does its job.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
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


def serve(address: str, parent: int) -> None:
    """Answer requests until process `parent` is gone."""
    listener = socket.socket(socket.AF_UNIX)
    with suppress(FileNotFoundError):
        os.unlink(address)
    listener.bind(address)
    listener.listen(64)
    for name in LIBRARIES:
        __import__(name)
    _use_huge_pages()
    children: dict[int, socket.socket] = {}
    ended = _wake_when_a_child_ends()
    while _alive(parent):
        ready, _, _ = select.select([listener, ended, *children.values()], [], [], 1.0)
        if ended in ready:
            ended.recv(4096)
        if listener in ready:
            connection, _ = listener.accept()
            try:
                request, descriptors = _receive(connection)
            except (OSError, ValueError, EOFError, TypeError):  # the client died while it was asking
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
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGTERM)
                done = _reap(pid)
            if done:
                children.pop(pid).close()
    for pid in children:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
    os.unlink(address)


def _use_huge_pages() -> None:
    """Have the kernel put this process's memory into pages of 2 MiB, where it can: a fork copies the table of pages, which with
    these libraries takes half of a short job's time (measured: docs/performance.md). Linux 6.1 or later, else no change.
    """
    collapse, size = 25, 2 << 20  # MADV_COLLAPSE
    with suppress(OSError, AttributeError, ValueError):
        madvise = ctypes.CDLL(None).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, access, _, _, inode, *name = line.split()
            start, end = (int(address, 16) for address in span.split("-"))
            start, end = -(-start // size) * size, end // size * size
            if inode == "0" and access.startswith("rw") and name in ([], ["[heap]"]) and start < end:
                madvise(start, end - start, collapse)


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


def _receive(connection: socket.socket) -> tuple[Request, list[int]]:
    """A request and the client's standard input, output and error."""
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as stream:
        length = int.from_bytes(stream.read(8), "big")
        return Request(*marshal.loads(stream.read(length))), list(descriptors)


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
        from cmcgns.cli import run

        code = run(request.arguments)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _reap(pid: int) -> int:
    """Wait for a job that was told to stop, which saves first if it is a training; after a minute it is killed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, _ = os.waitpid(pid, os.WNOHANG)
        if done:
            return done
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[0]


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
