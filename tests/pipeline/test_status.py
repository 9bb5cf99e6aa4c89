"""How far a profile is, told from the graph, the files and what the jobs have noted."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from cmcgns.files import write_json
from cmcgns.pipeline import history, lock
from cmcgns.pipeline.graph import graph_of
from cmcgns.pipeline.overview import describe, describe_text
from cmcgns.pipeline.plan import Plan
from cmcgns.pipeline.state import place
from cmcgns.pipeline.status import status, status_text

ROOT = Path(__file__).parents[2]
INDEX = {source: f"data/ci/index/{source}.parquet" for source in ("rsna", "siim", "covidx")}
GATE, LOG = "results/ci/audit/gate-audited.json", "logs/ci/gate-audited.log"


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Path:
    """A folder that knows the graphs of two profiles: Snakemake is asked once for all tests."""
    folder = tmp_path_factory.mktemp("asked")
    link(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for profile in ("ci", "paper"):
            graph_of(profile)
    return folder


@pytest.fixture
def project(asked, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    link(tmp_path)
    shutil.copytree(asked / ".cmcgns/graph", ".cmcgns/graph")
    return tmp_path


def link(folder: Path) -> None:
    for name in ("Snakefile", "params.yaml", "workflow", "profiles", "src"):
        (folder / name).symlink_to(ROOT / name)


def write(file: str | Path, text: str = "x") -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)


def entry(*outputs: str, seconds: float) -> history.Entry:
    said = {"step": "cmcgns.sources.index.build_index", "code": "", "settings": {}, "inputs": {}, "made": {}}
    return (
        said
        | {"identity": "", "started": 0.0, "seconds": seconds}
        | {"outputs": {"out": [[o, ""] for o in outputs]}}
    )


def finish(*outputs: str, seconds: float) -> None:
    """The outputs of a job, and what it says of them."""
    for output in outputs:
        write(output)
    history.note(entry(*outputs, seconds=seconds))


def begin(output: str, age: float) -> None:
    write_json(place("running", output), {"since": time.time() - age})


def unmatched(file: str) -> str:
    return file.replace(".parquet", ".unmatched.parquet")


def look() -> dict:
    return status("ci")


def index_counts() -> tuple[int, ...]:
    rule = look()["rules"]["index"]
    return tuple(rule[state] for state in ("done", "running", "failed", "waiting"))


def test_in_a_fresh_clone_all_waits(project):
    found = look()
    total = len(graph_of("ci").jobs)
    assert found["counts"] == {"done": 0, "running": 0, "failed": 0, "waiting": total}
    assert (found["left_seconds"], found["unknown"], found["reproducing"]) == (0, total, False)
    assert found["running"] == found["failed"] == []


def test_a_job_is_done_when_all_its_files_are_there_and_it_has_said_so(project):
    finish(INDEX["rsna"], seconds=3)
    assert index_counts() == (0, 0, 0, 6)  # its second file is missing
    finish(INDEX["rsna"], unmatched(INDEX["rsna"]), seconds=3)
    finish(INDEX["siim"], unmatched(INDEX["siim"]), seconds=5)
    write(INDEX["covidx"])  # copied there: no run has made it
    write(unmatched(INDEX["covidx"]))
    assert index_counts() == (2, 0, 0, 4)
    found = look()
    assert found["rules"]["index"]["median_seconds"] == 4 and found["rules"]["index"]["seconds"] == 8
    assert found["left_seconds"] == 4 * 4
    assert found["unknown"] == sum(found["counts"].values()) - 6


def test_a_clone_with_pulled_results_knows_them_from_the_ledger(project):
    files = (INDEX["rsna"], unmatched(INDEX["rsna"]))
    for file in files:
        write(file)
    write("results/ci/ledger.jsonl", json.dumps(entry(*files, seconds=7.0)) + "\n")
    assert index_counts() == (1, 0, 0, 5)
    assert look()["rules"]["index"]["median_seconds"] == 7


def test_a_job_runs_while_its_run_goes_on(project):
    finish(INDEX["siim"], unmatched(INDEX["siim"]), seconds=100)
    begin(INDEX["rsna"], age=60)
    write("logs/ci/index/rsna.log", "reading\n\nimages: 3 of 10, 2 min left\n")
    write(INDEX["rsna"])
    assert index_counts() == (1, 0, 0, 5)  # killed: what it left is half a file
    with lock.held("profile ci"):
        found = look()
        assert found["reproducing"]
        (running,) = found["running"]
        assert (running["rule"], running["output"]) == ("index", INDEX["rsna"])
        assert running["said"] == "images: 3 of 10, 2 min left"
        assert 60 <= running["seconds"] < 120
        assert found["left_seconds"] == pytest.approx(4 * 100 + 100 - running["seconds"])
        assert re.search(r"running for \d+ s: index, data/ci/index/rsna.parquet", status_text(found))
    assert not look()["reproducing"]


def test_a_job_has_failed_when_it_said_so(project):
    said = "cmcgns: a.csv: no column. expected x."
    write_json(place("failed", GATE), {"at": time.time() - 7200, "said": said})
    (failed,) = look()["failed"]
    assert (failed["rule"], failed["output"], failed["log"], failed["said"]) == ("gate", GATE, LOG, said)
    assert failed["seconds"] == pytest.approx(7200, abs=60)
    text = status_text(look())
    assert "failed 2.0 h ago: gate" in text and said in text and LOG in text


def test_a_plan_counts_what_a_profile_has(project):
    finish(INDEX["rsna"], unmatched(INDEX["rsna"]), seconds=5)
    found = describe(Plan.load("ci"))
    rules = {rule["rule"]: rule for rule in found["rules"]}
    # two seeds, two fractions, four methods; two data sets of detection
    assert rules["finetune_detection"]["jobs"] == 2 * 2 * 4 * 2
    assert (rules["index"]["jobs"], rules["index"]["median_seconds"]) == (6, 5)
    assert rules["pretrain"]["jobs"] == 4 and rules["pretrain"]["median_seconds"] is None
    assert found["known_seconds"] == 6 * 5 and found["jobs"] == len(graph_of("ci").jobs)
    (table,) = [table for table in found["tables"] if table["name"] == "2"]
    assert (table["cells"], table["runs"]) == (2 * 4 * 2, 2 * 4 * 2 * 2)
    (arm,) = [arm for arm in found["arms"] if arm["arm"] == "cm_cgns"]
    assert [phase["phase"] for phase in arm["phases"]] == ["stage1", "stage2"]
    assert sum(phase["epochs"] for phase in arm["phases"]) == 2
    text = describe_text(found)
    assert "cm_cgns" in text and f"{found['jobs']} jobs, 30 s one after another" in text


def test_variants_share_what_they_do_not_change(project):
    shared = [
        phase["run"]
        for arm in describe(Plan.load("paper"))["arms"]
        for phase in arm["phases"]
        if not phase["run"].startswith(f"results/paper/pretrain/{arm['arm']}/")
    ]
    assert "results/paper/pretrain/cm_cgns/stage1" in shared
