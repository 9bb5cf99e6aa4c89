"""How far a profile is, told from files alone; and that the list of jobs is Snakemake's."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from cmcgns.pipeline.jobs import jobs

from cmcgns.pipeline import ledger
from cmcgns.pipeline.overview import describe, describe_text
from cmcgns.pipeline.plan import Plan
from cmcgns.pipeline.status import INCOMPLETE, LOCK, status, status_text

ROOT = Path(__file__).parents[2]
INDEX = {source: f"data/ci/index/{source}.parquet" for source in ("rsna", "siim", "covidx")}
GATE, LOG = "results/ci/audit/gate-audited.json", "logs/ci/gate-audited.log"
TROUBLE = """warming up
Traceback (most recent call last):
  File "x.py", line 1, in <module>
torch.OutOfMemoryError: CUDA out of memory.
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(file: str | Path, text: str = "x", age: float = 0) -> None:
    """A file that was last changed `age` seconds ago."""
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)
    os.utime(file, (time.time() - age,) * 2)


def finish(*outputs: str, seconds: float, age: float = 100) -> None:
    """The outputs of a job, as Snakemake leaves them."""
    for output in outputs:
        write(output, age=age)
        write(ledger.record_path(output), json.dumps({"starttime": 1000.0, "endtime": 1000.0 + seconds}))


def begin(output: str, age: float) -> None:
    write(ledger.record_path(output, INCOMPLETE), "{}", age)


def unmatched(file: str) -> str:
    return file.replace(".parquet", ".unmatched.parquet")


@cache
def ci() -> Plan:
    return Plan.load("ci", ROOT / "params.yaml")


def look() -> dict:
    return status(ci())


def index_counts() -> tuple[int, ...]:
    rule = look()["rules"]["index"]
    return tuple(rule[state] for state in ("done", "running", "failed", "waiting"))


def test_in_a_fresh_clone_all_waits(project):
    found = look()
    total = len(jobs(ci()))
    assert found["counts"] == {"done": 0, "running": 0, "failed": 0, "waiting": total}
    assert (found["left_seconds"], found["unknown"], found["reproducing"]) == (0, total, False)
    assert found["running"] == found["failed"] == []


def test_a_job_is_done_when_all_its_files_are_there_and_recorded(project):
    finish(INDEX["rsna"], seconds=3)
    assert index_counts() == (0, 0, 0, 6)  # its second file is missing
    finish(unmatched(INDEX["rsna"]), seconds=3)
    finish(INDEX["siim"], unmatched(INDEX["siim"]), seconds=5)
    write(INDEX["covidx"])  # copied there: no run has made it
    write(unmatched(INDEX["covidx"]))
    assert index_counts() == (2, 0, 0, 4)
    found = look()
    assert found["rules"]["index"]["median_seconds"] == 4 and found["rules"]["index"]["seconds"] == 8
    assert found["left_seconds"] == 4 * 4
    assert found["unknown"] == sum(found["counts"].values()) - 6


def test_a_clone_with_pulled_results_knows_them_from_the_ledger(project):
    record = {"rule": "index", "starttime": 0.0, "endtime": 7.0}
    lines = [
        {"target": file, "sha256": "", "record": record, "made": {}}
        for file in (INDEX["rsna"], unmatched(INDEX["rsna"]))
    ]
    for line in lines:
        write(line["target"])
    write("results/ci/ledger.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert index_counts() == (1, 0, 0, 5)
    assert look()["rules"]["index"]["median_seconds"] == 7


def test_a_job_runs_while_somebody_holds_the_lock(project):
    finish(INDEX["siim"], unmatched(INDEX["siim"]), seconds=100)
    begin(INDEX["rsna"], age=60)
    write("logs/ci/index/rsna.log", "reading\n\nimages: 3 of 10, 2 min left\n")
    write(INDEX["rsna"])
    assert index_counts() == (1, 0, 0, 5)  # killed: what it left is half a file
    LOCK.touch()
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = look()
        assert found["reproducing"]
        (running,) = found["running"]
        assert (running["rule"], running["output"]) == ("index", INDEX["rsna"])
        assert running["said"] == "images: 3 of 10, 2 min left"
        assert 60 <= running["seconds"] < 120
        assert found["left_seconds"] == pytest.approx(4 * 100 + 100 - running["seconds"])
        assert re.search(r"running for \d+ s: index, data/ci/index/rsna.parquet", status_text(found))
    assert not look()["reproducing"]
    with LOCK.open() as lock:  # and having looked, it holds nothing itself
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("cmcgns: a.csv: no column. expected x.\n", "cmcgns: a.csv: no column. expected x."),
        (TROUBLE, "torch.OutOfMemoryError: CUDA out of memory."),
        ("╭─ Error ───╮\n│ No such option: --x │\n╰────╯\n", "No such option: --x"),
    ],
)
def test_a_job_has_failed_when_its_log_ends_in_an_error(project, log, said):
    write(LOG, log, age=7200)
    (failed,) = look()["failed"]
    assert (failed["rule"], failed["output"], failed["log"], failed["said"]) == ("gate", GATE, LOG, said)
    assert failed["seconds"] == pytest.approx(7200, abs=60)
    text = status_text(look())
    assert "failed 2.0 h ago: gate" in text and said in text and LOG in text


def test_no_error_no_failure(project):
    write(LOG, "stopped by signal 15, saved: the same command goes on from here\n")
    assert look()["counts"]["failed"] == 0
    finish(GATE, seconds=1, age=50)
    write(LOG, "scheme audited passes\n", age=10)  # a job's last word comes after its file
    assert look()["rules"]["gate"]["done"] == 1
    write(LOG, "cmcgns: wrong\n", age=90)  # an error that was mended
    assert look()["rules"]["gate"]["done"] == 1
    write(LOG, "cmcgns: wrong\n", age=10)  # tried again since
    assert look()["rules"]["gate"]["failed"] == 1


def test_a_plan_counts_what_a_profile_has(project):
    finish(INDEX["rsna"], unmatched(INDEX["rsna"]), seconds=5)
    plan = ci()
    found = describe(plan)
    rules = {rule["rule"]: rule for rule in found["rules"]}
    # two seeds, two fractions, four methods; two data sets of detection
    assert rules["finetune_detection"]["jobs"] == 2 * 2 * 4 * 2
    assert (rules["index"]["jobs"], rules["index"]["median_seconds"]) == (6, 5)
    assert rules["pretrain"]["jobs"] == 4 and rules["pretrain"]["median_seconds"] is None
    assert found["known_seconds"] == 6 * 5 and found["jobs"] == len(jobs(plan))
    (table,) = [table for table in found["tables"] if table["name"] == "2"]
    assert (table["cells"], table["runs"]) == (2 * 4 * 2, 2 * 4 * 2 * 2)
    (arm,) = [arm for arm in found["arms"] if arm["arm"] == "cm_cgns"]
    assert [phase["phase"] for phase in arm["phases"]] == ["stage1", "stage2"]
    assert sum(phase["epochs"] for phase in arm["phases"]) == 2
    text = describe_text(found)
    assert "cm_cgns" in text and f"{len(jobs(plan))} jobs, 30 s one after another" in text


def test_variants_share_what_they_do_not_change(project):
    shared = [
        phase["run"]
        for arm in describe(Plan.load("paper", ROOT / "params.yaml"))["arms"]
        for phase in arm["phases"]
        if not phase["run"].startswith(f"results/paper/pretrain/{arm['arm']}/")
    ]
    assert "results/paper/pretrain/cm_cgns/stage1" in shared


def test_the_jobs_are_those_of_snakemake(project):
    for name in ("Snakefile", "params.yaml", "workflow", "profiles", "src"):
        (project / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "snakemake", "--config", "profile=ci", "--dry-run", "--quiet", "host"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = {
        (rule.group(1), tuple(made.group(1).split(", ")), log.group(1))
        for block in re.split(r"\n(?=rule )", done.stdout + done.stderr)
        if (rule := re.match(r"rule (\w+):", block))
        and (made := re.search(r"^ +output: (.+)$", block, re.MULTILINE))
        and (log := re.search(r"^ +log: (\S+)", block, re.MULTILINE))
    }
    assert told, done.stderr[-2000:]
    assert told == {tuple(job) for job in jobs(ci())}
