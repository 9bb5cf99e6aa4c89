"""The command line: one message for bad input, the same files as the functions behind it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from cmcgns.cli import app, run
from cmcgns.files import write_json
from cmcgns.methods import METHODS
from cmcgns.parquet import read_parquet
from cmcgns.pipeline.state import place

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
        (["compare", "demo", "ci"], "profile 'demo' has no results here"),
        (["plan", "--profile", "dmo"], "no profile named 'dmo'"),
        (["verify"], "there is no ledger"),
        (["step"], "there is no job to run"),
        (["step", "nowhere.json"], "nowhere.json: cannot be read"),
        (["step", "{}"], "not a job (KeyError: 'step')"),
        (["step", '{"step": "os.system", "code": "x", "outputs": {"out": "a"}}'], "'os.system' is no step"),
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
    assert run(["trace"]) == 2
    assert run(["no-such-command"]) == 2
    assert run(["export", "cm_cgns", "--to", "nobody"]) == 2


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


def commands(
    group=None, names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], typer.core.TyperCommand]]:
    """Every command with the words that call it."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*names, name))
        else:
            yield (*names, name), command


ALL = dict(commands())


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_every_command_has_an_example_that_it_understands(names):
    command = ALL[names]
    assert command.help
    words = shlex.split(command.epilog.removeprefix("Example: "))
    assert tuple(words[: 1 + len(names)]) == ("cmcgns", *names)
    with command.make_context(" ".join(names), words[1 + len(names) :]) as context:  # parses, runs nothing
        assert context.params


def test_help_shows_the_example(capsys):
    assert run(["status", "-h"]) == 0
    assert "Example: cmcgns status --profile demo" in capsys.readouterr().out
    assert run(["-h"]) == 0
    assert "Example: cmcgns reproduce --profile demo" in capsys.readouterr().out


def test_a_plan_and_a_status_are_told_to_people_and_machines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "Snakefile", "workflow", "profiles", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert run(["plan", "--profile", "ci", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert run(["status", "--profile", "ci", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["waiting"] == plan["jobs"]
    note = place("failed", "results/ci/audit/audit.json")
    write_json(note, {"at": 0.0, "said": "cmcgns: wrong."})
    assert run(["status", "--profile", "ci"]) == 1
    assert "1 failed" in capsys.readouterr().out


def test_the_audit_of_a_table_speaks_json(tmp_path, capsys):
    table = tmp_path / "split.csv"
    table.write_text("id,split,patient\na,train,1\nb,test,1\nc,test,2\n")
    assert run(["audit", "table", str(table), "--group", "patient", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert "critical" in {finding["severity"] for finding in document["findings"]}
