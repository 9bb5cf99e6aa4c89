"""The ledger gives records back where the file is what it was, and removes what no run has made."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.pipeline import ledger

LONG = f"results/t/finetune/{'a' * 150}/{'?>' * 75}/metrics.json"
NAMES = ("data/t/index/rsna.parquet", "results/t/tables/table1.csv", LONG)


@pytest.fixture
def done(tmp_path, monkeypatch) -> None:
    """Three outputs with their records, packed."""
    monkeypatch.chdir(tmp_path)
    for name in (*NAMES, "results/other/x.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"content of {name}")
        record(name, "first")
    assert ledger.pack("t") == 3


def record(name: str, job: str) -> None:
    path = ledger.record_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rule": job}))


def rule(name: str) -> str | None:
    path = ledger.record_path(name)
    return json.loads(path.read_text())["rule"] if path.exists() else None


def test_a_record_lies_where_snakemake_looks_for_it(done):
    from snakemake.persistence.file import FilePersistence  # the layout is Snakemake's, not ours

    class Asked(FilePersistence):
        def __init__(self) -> None:
            self._max_len = None

    for name in (NAMES[0], LONG):
        assert ledger.record_path(name) == Path(Asked()._record_path(ledger.METADATA, name))


def test_nothing_changed_nothing_done(done):
    assert ledger.sync("t") == ([], [], [], False)
    assert ledger.verify("t") == {"changed": [], "missing": [], "foreign": [], "unknown": []}


def test_a_clone_with_the_results_gets_its_records_back_whatever_the_times(done):
    for name in NAMES:
        ledger.record_path(name).unlink()
        os.utime(name, (0, 0))
    assert sorted(ledger.sync("t").restored) == sorted(NAMES)
    assert [rule(name) for name in NAMES] == ["first"] * 3


def test_a_changed_file_is_removed_even_if_its_time_says_nothing(done):
    Path(NAMES[1]).write_text("forged")
    os.utime(NAMES[1], (0, 0))
    assert ledger.verify("t")["changed"] == [NAMES[1]]
    assert ledger.sync("t").removed == [NAMES[1]]
    assert not Path(NAMES[1]).exists() and Path(NAMES[0]).exists()


def test_a_changed_file_in_a_clone_is_removed_too(done):
    ledger.record_path(NAMES[1]).unlink()
    Path(NAMES[1]).write_text("another version")
    assert ledger.sync("t").removed == [NAMES[1]]


def test_what_a_killed_run_made_since_is_kept(done):
    Path(NAMES[1]).write_text("newer")
    record(NAMES[1], "second")
    assert ledger.sync("t") == ([], [], [], True) and Path(NAMES[1]).read_text() == "newer"
    Path("results/t/new.csv").write_text("new")
    record("results/t/new.csv", "second")
    assert ledger.verify("t")["unknown"] == ["results/t/new.csv"]


def test_a_job_that_ran_again_to_the_same_bytes_keeps_its_new_record(done):
    record(NAMES[1], "second")
    assert ledger.sync("t") == ([], [], [], True) and rule(NAMES[1]) == "second"


def test_a_ledger_that_was_checked_out_brings_its_records(done):
    record(NAMES[1], "second")
    ledger.pack("t")
    path = ledger.ledger_path("t")
    path.write_text(path.read_text().replace("second", "of the other version"))
    assert ledger.sync("t").restored == [NAMES[1]] and rule(NAMES[1]) == "of the other version"


def test_a_file_that_no_run_made_is_taken_away(done):
    planted, going_on = Path("results/t/tables/table2.csv"), Path("results/t/pretrain/clip/stage1/resume.pt")
    for path in (planted, going_on):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("copied from elsewhere")
    assert ledger.verify("t")["foreign"] == [str(planted)]
    assert ledger.sync("t").foreign == [str(planted)]
    assert not planted.exists() and going_on.exists() and (ledger.FOREIGN / planted).exists()


def test_a_dry_run_puts_everything_back(done):
    changed, planted = Path(NAMES[1]), Path("results/t/tables/table2.csv")
    planted.parent.mkdir(parents=True, exist_ok=True)
    for path in (changed, planted):
        path.write_text("by hand")
    before = changed.stat()
    report = ledger.sync("t", aside=True)
    assert report.removed == [NAMES[1]] and report.foreign == [str(planted)]
    assert not changed.exists() and not planted.exists()
    assert ledger.sync("t", aside=True) == report  # after a dry run that was killed
    ledger.put_back(report)
    assert changed.read_text() == planted.read_text() == "by hand"
    assert changed.stat().st_mtime_ns == before.st_mtime_ns
    assert ledger.verify("t") == {
        "changed": [NAMES[1]],
        "missing": [],
        "foreign": [str(planted)],
        "unknown": [],
    }


def test_a_missing_file_is_told_and_left_to_snakemake(done):
    Path(NAMES[0]).unlink()
    assert ledger.sync("t") == ([], [], [], False)
    assert ledger.verify("t")["missing"] == [NAMES[0]]


def test_a_broken_ledger_is_named(done):
    with ledger.ledger_path("t").open("a") as stream:
        stream.write("{}\n")
    with pytest.raises(InputError, match="row 4|4"):
        ledger.sync("t")


def test_without_a_ledger_there_is_nothing_to_verify(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ledger.sync("t") == ([], [], [], False)
    with pytest.raises(InputError, match="no ledger"):
        ledger.verify("t")
