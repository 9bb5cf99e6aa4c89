"""A history is what a job says that ran, believed where the files are what it says; files that are not make room and are kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.files import sha256_file
from cmcgns.pipeline import history
from cmcgns.pipeline.state import STATE, file_hash

LONG = f"results/t/finetune/{'a' * 150}/{'b' * 75}/metrics.json"
NAMES = ("data/t/index/rsna.parquet", "results/t/tables/table1.csv", LONG)


@pytest.fixture
def done(tmp_path, monkeypatch) -> None:
    """Three jobs of one output each, every one made from the one before; packed."""
    monkeypatch.chdir(tmp_path)
    STATE.mkdir()
    for before, name in zip((None, *NAMES), NAMES, strict=False):
        write(name, f"content of {name}")
        history.note(entry(name, before))
    write("results/other/tables/x.csv", "x")
    history.note(entry("results/other/tables/x.csv", None))
    assert history.pack("t") == 3


def write(name: str | Path, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)


def entry(name: str, read: str | None, **changed) -> history.Entry:
    inputs = {"table": [[read, sha256_file(read)]]} if read else {}
    outputs = {"out": [[name, sha256_file(name)]]}
    job = {"step": "cmcgns.x.y", "code": "c" * 16, "settings": {"lr": 1}, "outputs": {"out": name}}
    about = {"made": {"revision": "r"}, "started": 0.0, "seconds": 1.0, "reads": None}
    name = history.identity(job, inputs)
    return job | about | {"inputs": inputs, "outputs": outputs, "identity": name} | changed


def test_what_ran_here_and_what_came_with_the_files_are_believed_where_they_fit(done):
    listed = history.read("t")
    assert set(listed) == set(NAMES)
    assert history.believed(NAMES[1], listed)["settings"] == {"lr": 1}
    write(NAMES[1], "by hand")
    os.utime(NAMES[1], (0, 0))
    assert history.believed(NAMES[1], listed) is None
    # another version was checked out, with its ledger
    other = entry(NAMES[1], NAMES[0], settings={"lr": 2})
    assert history.believed(NAMES[1], {NAMES[1]: other})["settings"] == {"lr": 2}


def test_in_a_clone_the_ledger_is_enough_whatever_the_times(done):
    for path in STATE.rglob("*"):
        if path.is_file():
            path.unlink()
    for name in NAMES:
        os.utime(name, (0, 0))
    assert all(history.believed(name, history.read("t")) for name in NAMES)
    assert history.pack("t") == 3


def test_the_same_time_and_size_do_not_hide_a_change(done):
    path, before = Path(NAMES[1]), Path(NAMES[1]).stat()
    assert file_hash(NAMES[1]) == sha256_file(path)
    path.write_text("CONTENT" + path.read_text()[7:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert file_hash(NAMES[1]) == sha256_file(path)


def test_verify_tells_changed_missing_foreign_and_unknown(done):
    nothing = {"changed": [], "missing": [], "foreign": [], "unknown": []}
    assert history.verify("t") == nothing
    write(NAMES[1], "forged")
    Path(NAMES[0]).unlink()
    write("results/t/tables/mine.csv", "mine")
    write("results/t/pretrain/clip/stage1/resume.pt", "what a killed training goes on from")
    write("results/t/audit/new.json", "{}")
    history.note(entry("results/t/audit/new.json", None))
    assert history.verify("t") == {
        "changed": [NAMES[1]],
        "missing": [NAMES[0]],
        "foreign": ["results/t/tables/mine.csv"],
        "unknown": ["results/t/audit/new.json"],
    }


def test_a_file_that_is_gone_keeps_its_history_while_something_made_of_it_is_there(done):
    Path(NAMES[0]).unlink()
    assert history.pack("t") == 3
    for name in NAMES[1:]:
        Path(name).unlink()
    assert history.pack("t") == 0


def test_a_file_out_of_the_way_is_kept(done):
    kept = history.take_away(NAMES[1])
    assert kept.read_text() == f"content of {NAMES[1]}" and not Path(NAMES[1]).exists()


@pytest.mark.parametrize(
    "target",
    ["../victim.txt", "/etc/hostname", "results/t/../../victim.txt", "data/other/index/x", "victim.txt"],
)
def test_a_ledger_speaks_of_its_profile_s_files_only(done, tmp_path, target):
    victim = tmp_path.parent / "victim.txt"
    victim.write_text("mine")
    line = json.dumps(entry(NAMES[1], None) | {"outputs": {"out": [[target, "0" * 64]]}})
    history.ledger_path("t").write_text(f"{line}\n")
    for read in (history.read, history.pack, history.verify):
        with pytest.raises(InputError, match="ledger.jsonl, row 1: not an entry of the ledger"):
            read("t")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("line", ["{}", "[]", "no json", "null", '{"outputs": 3}'])
def test_a_broken_ledger_is_named(done, line):
    with history.ledger_path("t").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(InputError, match=r"row 4: not an entry.*delete it"):
        history.read("t")


def test_without_a_ledger_there_is_nothing_to_verify(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert history.read("t") == {}
    with pytest.raises(InputError, match="no ledger"):
        history.verify("t")


def test_an_identity_is_made_of_step_code_settings_and_bytes_and_not_of_names():
    job = {"step": "cmcgns.x.y", "code": "c", "settings": {"lr": 1}, "outputs": {"out": "results/a/x"}}
    inputs = {"a": [["data/a/1", "h1"], ["data/a/2", "h2"]], "b": [["data/a/3", "h3"]]}
    name = history.identity(job, inputs)
    elsewhere = {key: [[file.replace("/a/", "/b/"), h] for file, h in pairs] for key, pairs in inputs.items()}
    assert history.identity(job | {"outputs": {"out": "results/b/x"}}, elsewhere) == name
    for other in (
        job | {"step": "cmcgns.x.z"},
        job | {"code": "d"},
        job | {"settings": {"lr": 2}},
        job | {"outputs": {"out": "x", "more": "y"}},
    ):
        assert history.identity(other, inputs) != name
    assert history.identity(job, inputs | {"a": inputs["a"][::-1]}) != name
    assert history.identity(job, {"a": inputs["a"]}) != name
