"""GPUs are shared out by lock files; the devices here are names only."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from cmcgns.pipeline import gpu

JOB = """
import sys, time
from pathlib import Path
from cmcgns.pipeline.gpu import claim
print(",".join(claim(int(sys.argv[1]), Path(sys.argv[2]))), flush=True)
sys.stdin.read()
"""


def job(count: int, folder, devices: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(count), str(folder)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": devices},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_jobs_hold_distinct_devices_and_a_killed_one_frees_its_own(tmp_path):
    first, second = job(1, tmp_path, "0,1"), job(1, tmp_path, "0,1")
    held = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert held == {"0", "1"}
    third = job(1, tmp_path, "0,1")
    time.sleep(1)
    assert third.poll() is None
    first.kill()
    assert third.stdout.readline().strip() in held
    for process in (second, third):
        process.communicate("")


def test_a_job_of_two_takes_both_or_waits(tmp_path):
    both = job(2, tmp_path, "3,5")
    assert both.stdout.readline().strip() == "3,5"
    both.communicate("")


@pytest.mark.parametrize(
    "environment", [{"CUDA_VISIBLE_DEVICES": ""}, {"CUDA_VISIBLE_DEVICES": "0", "SLURM_JOB_ID": "7"}]
)
def test_nothing_is_claimed_without_a_gpu_or_under_slurm(tmp_path, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert gpu.claim(1, tmp_path) == []
