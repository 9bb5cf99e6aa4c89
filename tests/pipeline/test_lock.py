"""One run at a time: also from two hosts, after a kill, and where no file can be locked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.pipeline import lock
from cmcgns.pipeline.state import STATE

HOLD = """
import sys, time
from cmcgns.pipeline import lock
with lock.held("another") as token:
    print(token, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "PATIENCE", 1.0)


@pytest.fixture
def other():
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_while_one_holds_it_another_is_told_who(other):
    with (
        pytest.raises(InputError, match=r"another run is going on in this folder \(another, on "),
        lock.held("me"),
    ):
        pass
    assert lock.holder_of_lock()["what"] == "another"
    other.communicate("", timeout=20)
    with lock.held("me") as token:
        assert lock.is_ours(token) and not lock.is_ours("x") and not lock.is_ours("")
    assert lock.holder_of_lock() is None and not lock.LOCK.exists()


def test_after_a_kill_it_is_free_as_soon_as_all_of_the_run_are_gone(other):
    left = subprocess.Popen(["sleep", "60"])
    lock.join(json.loads(lock.LOCK.read_text())["token"], left.pid)
    other.kill()
    other.wait()
    with pytest.raises(InputError), lock.held("me"):
        pass
    left.kill()
    left.wait()
    with lock.held("me"):
        pass


def test_another_process_under_the_number_of_a_dead_one_holds_nothing(other):
    other.kill()
    other.wait()
    content = json.loads(lock.LOCK.read_text())
    content["processes"] = [[os.getpid(), content["processes"][0][1] - 100]]
    lock.LOCK.write_text(json.dumps(content))
    with lock.held("me"):
        pass


@pytest.mark.parametrize(("age", "free"), [(5, False), (1000, True)])
def test_a_lock_of_another_host_holds_while_it_is_touched(age, free):
    STATE.mkdir()
    content = {"token": "t", "what": "profile x", "host": "elsewhere/boot", "processes": [[1, 0.0]]}
    lock.LOCK.write_text(json.dumps(content))
    os.utime(lock.LOCK, (time.time() - age,) * 2)
    if free:
        with lock.held("me"):
            pass
    else:
        with pytest.raises(InputError, match="profile x, on elsewhere"), lock.held("me"):
            pass


def test_its_holder_touches_it(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    with lock.held("me"):
        os.utime(lock.LOCK, (0, 0))
        until = time.monotonic() + 10
        while lock.LOCK.stat().st_mtime < 1 and time.monotonic() < until:
            time.sleep(0.02)
        assert lock.LOCK.stat().st_mtime > 1


def test_of_many_who_try_at_once_one_at_a_time_gets_it(monkeypatch):
    """Also when a dead run's lock is in their way: nobody may take away the lock of who was faster."""
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    STATE.mkdir()
    inside, most, got = [], [], Counter()

    def attempt(number: int) -> None:
        for _ in range(30):
            try:
                with lock.held(str(number)):
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.remove(number)
                    got[number] += 1
                    if number % 2:  # dies and leaves it
                        stale = {"token": "s", "what": "", "host": "", "processes": [[2**22 + 1, 0.0]]}
                        lock.LOCK.write_text(
                            json.dumps(json.loads(lock.LOCK.read_text()) | stale | {"host": lock.host()})
                        )
            except InputError:
                time.sleep(0.002)

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1} and sum(got.values()) > 10


def test_it_needs_no_flock(monkeypatch):
    import fcntl

    def missing(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    monkeypatch.setattr(fcntl, "lockf", missing)
    with lock.held("me"):
        assert Path(lock.LOCK).exists()
