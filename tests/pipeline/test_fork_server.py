"""The fork server runs a command as the command itself would, and stops it with its client or with its run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

# The server without its libraries: what is tested is the hand-over, not torch.
SERVER = """
import sys
from cmcgns.pipeline import fork_server
fork_server.LIBRARIES = ()
fork_server.serve(sys.argv[1], 0)
"""


@pytest.fixture
def server(tmp_path):
    """The process; the pipe to it is what its run holds."""
    path = str(tmp_path / "s")
    process = subprocess.Popen([sys.executable, "-c", SERVER, path], stdin=subprocess.PIPE)
    _wait_for(lambda: os.path.exists(path))
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def address(server, tmp_path):
    return str(tmp_path / "s")


def command(address: str, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "cmcgns", *arguments],
        env=os.environ | {"CMCGNS_SERVER": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_output_status_and_directory_are_those_of_the_command(address, tmp_path):
    reports = tmp_path / "work/files/p10/p10000001"
    reports.mkdir(parents=True)
    (reports / "s50000001.txt").write_text(" FINAL REPORT\n IMPRESSION: No acute findings seen.\n")
    job = command(address, "reports", "extract", "files", "--out", "out.parquet", cwd=tmp_path / "work")
    out, error = job.communicate(timeout=60)
    assert job.returncode == 0, error
    assert "1 kept" in out
    assert (tmp_path / "work/out.parquet").exists()


def test_bad_input_is_one_message_and_status_1(address, tmp_path):
    job = command(address, "reports", "extract", "nowhere", "--out", "x", cwd=tmp_path)
    _, error = job.communicate(timeout=60)
    assert job.returncode == 1
    assert error.startswith("cmcgns: nowhere")
    assert "Traceback" not in error


def waiting_job(address, tmp_path) -> tuple[subprocess.Popen, int]:
    """A client whose job waits for ever, and the job's process."""
    fifo = tmp_path / "files/p10/p10000001/s50000001.txt"
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)  # reading it waits for ever
    job = command(address, "reports", "extract", str(tmp_path), "--out", str(tmp_path / "x"))
    return job, _wait_for(_forked)


def test_a_killed_client_takes_its_job_with_it(address, tmp_path):
    job, worker = waiting_job(address, tmp_path)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert _wait_for(lambda: not Path(f"/proc/{worker}").exists() or _is_zombie(worker))


def test_when_its_run_is_gone_the_server_and_its_jobs_are_within_five_seconds(server, address, tmp_path):
    job, worker = waiting_job(address, tmp_path)
    server.stdin.close()  # as it is when the process at the other end dies
    _wait_for(lambda: not Path(f"/proc/{worker}").exists() and server.poll() is not None, 5)
    job.communicate(timeout=5)
    assert job.returncode != 0 and not os.path.exists(address)


def test_the_socket_is_its_user_s_alone(address):
    assert os.stat(address).st_mode & 0o077 == 0


def test_what_is_no_request_is_not_answered(address, tmp_path):
    for data in (b"", b"garbage", (10).to_bytes(8, "big") + b"{}"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(address)
            socket.send_fds(stranger, [data or b"\0"], [0, 1, 2])
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(20)
            assert stranger.recv(16) == b""
    job = command(address, "reports", "extract", "nowhere", "--out", "x", cwd=tmp_path)
    job.communicate(timeout=60)
    assert job.returncode == 1  # it still answers others


def test_without_a_server_the_command_runs_by_itself(tmp_path):
    job = command(str(tmp_path / "nobody"), "--help")
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    assert "reproduce" in out


def _wait_for(condition, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def _forked() -> int | None:
    """The process of a job: a fork of the server, in a session of its own."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes()
            own = b"fork_server.serve" in text and os.getsid(int(entry.name)) == int(entry.name)
        except (OSError, ValueError):
            continue
        if own:
            return int(entry.name)
    return None


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
