"""The warm process runs a command as the command itself would, and stops it with its client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# The server without its libraries: what is tested is the hand-over, not torch.
SERVER = """
import sys
from cmcgns.pipeline import warm
warm.LIBRARIES = ()
warm.serve(sys.argv[1], int(sys.argv[2]))
"""


@pytest.fixture
def address(tmp_path):
    path = str(tmp_path / "s")
    server = subprocess.Popen([sys.executable, "-c", SERVER, path, str(os.getpid())])
    deadline = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.02)
    yield path
    server.kill()
    server.wait()


def command(address: str, *arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "cmcgns", *arguments],
        env=os.environ | {"CMCGNS_WARM": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_output_status_and_directory_are_those_of_the_command(address, tmp_path):
    reports = tmp_path / "work/files/p10/p10000001"
    reports.mkdir(parents=True)
    (reports / "s50000001.txt").write_text(" FINAL REPORT\n IMPRESSION: No acute findings seen.\n")
    settings = '{"min_report_tokens":3,"min_sentence_tokens":2,"misspellings":"upstream","deid":"keep"}'
    job = command(
        address,
        "reports",
        "extract",
        "files",
        "--out",
        "out.parquet",
        "--settings",
        settings,
        cwd=tmp_path / "work",
    )
    out, error = job.communicate(timeout=60)
    assert job.returncode == 0, error
    assert "1 kept" in out
    assert (tmp_path / "work/out.parquet").exists()


def test_bad_input_is_one_message_and_status_1(address, tmp_path):
    job = command(address, "reports", "extract", "nowhere", "--out", "x", "--settings", "{}", cwd=tmp_path)
    _, error = job.communicate(timeout=60)
    assert job.returncode == 1
    assert error.startswith("cmcgns: nowhere")
    assert "Traceback" not in error


def test_a_killed_client_takes_its_job_with_it(address, tmp_path):
    fifo = tmp_path / "files/p10/p10000001/s50000001.txt"
    fifo.parent.mkdir(parents=True)
    os.mkfifo(fifo)  # reading it waits for ever
    job = command(
        address, "reports", "extract", str(tmp_path), "--out", str(tmp_path / "x"), "--settings", "{}"
    )
    worker = _wait_for(lambda: _children_reading(fifo))
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert _wait_for(lambda: not Path(f"/proc/{worker}").exists() or _is_zombie(worker))


def test_without_a_warm_process_the_command_runs_by_itself(tmp_path):
    job = command(str(tmp_path / "nobody"), "--help")
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    assert "synthesize" in out


def _wait_for(condition, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def _children_reading(fifo: Path) -> int | None:
    """The process that is blocked on opening the fifo: a fork of the server, in a session of its own."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes()
            waits = b"warm.serve" in text and os.getsid(int(entry.name)) == int(entry.name)
        except (OSError, ValueError):
            continue
        if waits:
            return int(entry.name)
    return None


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
