"""The command line: one message for bad input, the same files as the functions behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmcgns.cli import run
from cmcgns.methods import METHODS
from cmcgns.parquet import read_parquet

ROOT = Path(__file__).parents[1]
SIIM = "ImageId, EncodedPixels\n1.2.3, 10 2 5 3\n1.2.4, -1\n"


@pytest.fixture
def downloads(tmp_path):
    """SIIM's label file alone."""
    (tmp_path / "raw/siim").mkdir(parents=True)
    (tmp_path / "raw/siim/train-rle.csv").write_text(SIIM)
    return tmp_path / "raw"


def test_doctor_tells_found_from_missing(downloads, capsys):
    assert run(["doctor", str(downloads)]) == 1
    out = capsys.readouterr().out
    assert "siim (SIIM-ACR Pneumothorax): " in out
    assert "image files: 0 of 2 there" in out
    assert out.count("not found; get it from") == 5


def test_doctor_speaks_json(downloads, capsys):
    run(["doctor", str(downloads), "--json"])
    entries = {entry["source"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["siim"]["counts"]["rows"] == 2
    assert entries["rsna"]["status"] == "missing"


def test_reports_extract_needs_no_settings_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "reports/files/p10/p10000001"
    folder.mkdir(parents=True)
    (folder / "s50000001.txt").write_text(" FINAL REPORT\n IMPRESSION: No acute findings.\n")
    (folder / "s50000002.txt").write_text(" FINAL REPORT\n IMPRESSION: Normal.\n")
    assert run(["reports", "extract", "reports", "--out", "out.parquet"]) == 0
    assert "1 kept" in capsys.readouterr().out
    assert list(read_parquet("out.parquet")["kept"]) == [True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["doctor", "nowhere"], "nowhere: the folder of downloads does not exist"),
        (["reports", "extract", "nowhere", "--out", "x"], "nowhere"),
        (["reproduce", "--profile", "dmo"], "no profile named 'dmo'"),
        (["reproduce", "--profile", "demo", "--raw", "."], "makes its own raw files"),
        (
            ["reproduce", "--profile", "paper", "--raw", "nowhere"],
            "nowhere: the folder of downloads does not exist",
        ),
        (["synthesize", "--profile", "paper"], "has no synthetic world"),
        (["index", "siim", "--profile", "demo"], "data/demo/raw: the folder cannot be listed"),
    ],
)
def test_bad_input_ends_in_one_message(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert run(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("cmcgns: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_source_that_is_not_there_stops_the_study_before_it_runs(tmp_path, monkeypatch, capsys, downloads):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "Snakefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert run(["reproduce", "--profile", "paper", "--raw", "raw"]) == 1
    error = capsys.readouterr().err
    assert "not among the downloads: chexpert, covidx, mimic_cxr, object_cxr, rsna" in error
    assert (tmp_path / "data/paper/raw").resolve() == downloads.resolve()
    (tmp_path / "other").mkdir()
    assert run(["reproduce", "--profile", "paper", "--raw", "other"]) == 1
    assert "already leads to" in capsys.readouterr().err


def test_wrong_usage_is_status_2(capsys):
    assert run(["finetune"]) == 2
    assert run(["no-such-command"]) == 2
    assert run(["images", "rnsa"]) == 2
    assert run(["table", "7"]) == 2


def test_methods_are_listed_with_presets_and_sources(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert run(["methods", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(METHODS)
    assert all(entry["source"] for entry in listed.values())
    assert set(listed["moco"]["presets"]) == {"official", "matched"}
    official, matched = (listed["mgca"]["presets"][name] for name in ("official", "matched"))
    assert (official["objective"]["upsample"], matched["objective"]["upsample"]) == (299, None)
    assert official["training"]["stage1"]["lr"] == 2e-5 != matched["training"]["stage1"]["lr"]
    assert run(["methods"]) == 0
    shown = capsys.readouterr().out
    assert all(method.title in shown for method in METHODS.values())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pretrain", "nope", "stage1"], "no method 'nope' is pre-trained"),
        (["pretrain", "moco", "stage2"], "moco has no phase 'stage2'"),
        (["align", "retrieval", "random", "--weights", "w"], "no method 'random' is pre-trained"),
        (["figure", "tsne", "nope"], "no method 'nope' is pre-trained"),
        (["table", "4"], "no runs for the table '4'"),
    ],
)
def test_an_arm_or_phase_that_is_none_is_told(arguments, told, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert run(arguments) == 1
    assert told in capsys.readouterr().err
