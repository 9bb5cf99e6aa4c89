"""Raw files that a job has read are looked at before the next run: size and time say where to look, the hash decides."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cmcgns.images.store import store_source
from cmcgns.pipeline.reads import Reads, changed
from cmcgns.reports.extract import extract_reports
from cmcgns.sources.index import build_index
from cmcgns.synthetic.synthesize import synthesize

RAW = {"raw": "raw"}
SIZES = {
    "mimic_studies": 12, "chexpert_train": 20, "chexpert_valid": 10, "rsna": 12, "covidx_train": 12, "covidx_test": 10,
    "siim": 12, "object_train": 10, "object_dev": 8,
}  # fmt: skip


@pytest.fixture
def table(tmp_path, monkeypatch) -> Path:
    """The table of a job that listed a folder and read two of its three files, one through another name of the folder."""
    monkeypatch.chdir(tmp_path)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    for name in "abc":
        (downloads / name).write_text(f"text of {name}")
    Path("raw").symlink_to(downloads)
    reads = Reads(RAW)
    assert sorted(os.listdir("raw")) == ["a", "b", "c"]
    Path("raw/a").read_text()
    (downloads / "b").read_bytes()
    Path("raw/../raw/a").read_bytes()
    Path("unrelated").write_text("elsewhere")
    Path("raw/written").write_text("by the job itself")
    Path("raw/written").unlink()
    found = reads.finish(tmp_path / "table")
    assert found["files"] == 3 and len(found["sha256"]) == 64
    (downloads / "c").read_text()  # afterwards nobody listens
    return tmp_path / "table"


def test_what_was_read_is_in_the_table_and_nothing_else(table):
    names = [os.path.basename(line.split()[-1]) for line in table.read_text().splitlines()]
    assert sorted(names) == ["a", "b", "raw"]


def test_nothing_changed(table):
    assert changed(table, RAW, remember=False) == ""
    assert changed(Path("no table"), RAW, remember=False) == ""


def test_a_touched_file_is_the_same_and_is_remembered(table):
    os.utime("raw/a", (0, 0))
    before = table.read_text()
    assert changed(table, RAW, remember=False) == "" and table.read_text() == before
    assert changed(table, RAW, remember=True) == "" and table.read_text() != before
    assert changed(table, RAW, remember=False) == ""


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_replaced_file_is_noticed(table, name):
    path = Path("raw", name)
    path.write_text(path.read_text().upper())  # as long as before
    assert changed(table, RAW, remember=True).endswith(f"/{name}")


def test_a_file_that_was_not_read_may_change(table):
    Path("raw/c").write_text("other")
    assert changed(table, RAW, remember=True) == ""


@pytest.mark.parametrize(
    "change",
    [lambda: Path("raw/d").write_text("new"), lambda: Path("raw/a").unlink(), lambda: Path("raw/c").unlink()],
)
def test_a_file_that_came_or_went_is_noticed(table, change):
    change()
    assert changed(table, RAW, remember=True)


def test_the_same_files_elsewhere_are_the_same(table, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree("raw", elsewhere)  # with their times
    assert changed(table, {"raw": str(elsewhere)}, remember=False) == ""
    assert changed(table, {}, remember=False)
    (elsewhere / "b").write_text("TEXT OF b")
    assert changed(table, {"raw": str(elsewhere)}, remember=False) == f"{elsewhere}/b"


def test_in_a_folder_without_raw_files_nothing_is_noted(tmp_path):
    reads = Reads({})
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").read_text()
    assert reads.finish(tmp_path / "table") is None and not (tmp_path / "table").exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    synthesize(folder / "raw", folder / "truth", sizes=SIZES, image_long_side=64)
    return folder


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("source", ["mimic_cxr", "rsna", "siim", "covidx"])
def test_the_steps_that_read_raw_files_are_heard(world, tmp_path, source, workers):
    """Every image that is stored, every label file and every report; also where other processes decode."""
    raw, index = world / "raw", tmp_path / "index.parquet"
    reads = Reads({"raw": str(raw)})
    build_index(source, raw, index, tmp_path / "rest.parquet")
    reads.finish(tmp_path / "index.reads")
    labels = {line.split(" ", 3)[3] for line in (tmp_path / "index.reads").read_text().splitlines()}
    assert any(path.endswith((".csv", ".txt", ".csv.gz", ".json")) for path in labels)
    assert any((world / path).is_dir() for path in labels)
    reads = Reads({"raw": str(raw)})
    store_source(
        source=source, raw=raw, index=index, store=tmp_path / "s.npy", table=tmp_path / "s.parquet", size=32,
        workers=workers, read=reads.add,
    )  # fmt: skip
    reads.finish(tmp_path / "store.reads")
    images = [line.split(" ", 3)[3] for line in (tmp_path / "store.reads").read_text().splitlines()]
    decoded = [path for path in images if path.endswith((".jpg", ".png", ".dcm", ".jpeg"))]
    assert len(decoded) >= 8
    victim = world / decoded[3]
    before = victim.read_bytes()
    try:
        victim.write_bytes(before[:100])
        assert changed(tmp_path / "store.reads", {"raw": str(raw)}, remember=False) == str(victim)
        assert changed(tmp_path / "index.reads", {"raw": str(raw)}, remember=False) == ""
    finally:
        victim.write_bytes(before)


def test_an_edited_report_is_noticed(world, tmp_path):
    reads = Reads({"raw": str(world / "raw")})
    extract_reports(raw=world / "raw", out=tmp_path / "r.parquet")
    reads.finish(tmp_path / "reads")
    report = next((world / "raw").rglob("s5*.txt"))
    before = report.read_text()
    try:
        report.write_text(before.replace("a", "e", 1))
        assert changed(tmp_path / "reads", {"raw": str(world / "raw")}, remember=False) == str(report)
    finally:
        report.write_text(before)
