"""A job that has been done is taken over: by the same job only, unharmed, wherever its files are wanted."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from cmcgns.files import sha256_file
from cmcgns.pipeline import history, store
from cmcgns.pipeline.reads import Reads, changed, contents, write_table
from cmcgns.pipeline.state import STATE, place

MADE = {"revision": "r", "packages": "p", "python": "3.11", "torch": "2", "device": "CPU", "threads": 1}
INPUTS = {"table": [["data/one/index/rsna.parquet", "1" * 64]]}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(store.VARIABLE, raising=False)
    STATE.mkdir()
    Path("downloads").mkdir()
    Path("downloads/labels.csv").write_text("a,b\n")
    return tmp_path


@pytest.fixture
def shared(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "store"))
    return tmp_path / "store"


def job(profile: str, **changed: Any) -> dict[str, Any]:
    """A job of two outputs, which reads raw files; `fills` on demand."""
    about = {
        "step": "cmcgns.x.y",
        "code": "c" * 16,
        "settings": {"lr": 1},
        "folders": {"raw": "downloads"},
        "fills": {},
    }
    outputs = {"metrics": f"results/{profile}/m.json", "predictions": f"results/{profile}/p.parquet"}
    return about | {"outputs": outputs} | changed


def run(job: dict[str, Any], made: dict[str, Any] = MADE) -> history.Entry:
    """As `record.run` does it."""
    reads = Reads(job["folders"])
    if job["folders"]:
        Path("downloads/labels.csv").read_text()
    for name, file in job["outputs"].items():
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(f"content of {name} " * 100)
    target = history.target_of(job)
    outputs = {name: [[file, sha256_file(file)]] for name, file in sorted(job["outputs"].items())}
    write_table(place("fills", target), contents(job["fills"]), job["fills"])
    entry = {key: job[key] for key in ("step", "code", "settings", "fills")} | {
        "inputs": INPUTS, "outputs": outputs, "identity": history.identity(job, INPUTS), "made": made,
        "started": 1.0, "seconds": 60.0, "reads": reads.finish(place("reads", target)),
    }  # fmt: skip
    store.note(entry)
    return entry


def ask(job: dict[str, Any], made: dict[str, Any] = MADE) -> history.Entry | None:
    return store.adopt(job, INPUTS, store.key_of(history.identity(job, INPUTS), made), lambda said: None)


def contents_of(job: dict[str, Any]) -> list[str]:
    return [Path(file).read_text() for file in job["outputs"].values()]


def test_another_profile_takes_over_and_says_from_whom_and_what_it_cost(here):
    entry, two = run(job("one")), job("two")
    found = ask(two)
    assert contents_of(two) == contents_of(job("one"))
    assert found["adopted"]["from"] == "results/one/m.json" and found["seconds"] == 60.0
    assert list(history.hashed_files(found)) == ["results/two/m.json", "results/two/p.parquet"]
    assert found["made"] == entry["made"] and found["identity"] == entry["identity"]
    assert history.believed("results/two/m.json", {}) == found
    assert changed(place("reads", "results/two/m.json"), {"raw": "downloads"}, remember=False) == ""


def test_an_edit_at_one_end_does_no_harm_at_the_other():
    run(job("one"))
    ask(job("two"))
    for file in job("two")["outputs"].values():
        with Path(file).open("r+") as stream:
            stream.write("CONTENT")
    assert all(text.startswith("content") for text in contents_of(job("one")))


@pytest.mark.parametrize("other", [{"settings": {"lr": 2}}, {"code": "d" * 16}, {"step": "cmcgns.x.z"}])
def test_a_job_of_other_settings_or_code_takes_nothing_over(other):
    run(job("one"))
    assert ask(job("two", **other)) is None and not Path("results/two").exists()


@pytest.mark.parametrize("key", ["packages", "python", "torch", "device"])
def test_a_donor_of_other_versions_or_another_device_is_refused(key):
    run(job("one"), MADE | {key: "another"})
    assert ask(job("two")) is None
    run(job("one"), MADE | {"revision": "another"})
    assert ask(job("two"))


def test_twenty_donors_with_one_flipped_byte_are_refused(shared):
    """Ten of another profile, ten of the store; either output, the first byte, the last, and between, also with its old times."""
    refused = []
    for number in range(20):
        shutil.rmtree(shared, ignore_errors=True)
        entry = run(job("one"))
        if number % 2:
            assert store.publish(entry)
            files = sorted(path for path in shared.rglob("[01]") if path.is_file())
            shutil.rmtree("results/one")
        else:
            files = [Path(file) for file in history.hashed_files(entry)]
        victim = files[number // 2 % 2]
        data, times = bytearray(victim.read_bytes()), victim.stat()
        where = (0, len(data) - 1, len(data) // 2, 7, 100)[number // 4]
        data[where] ^= 1 << number % 8
        victim.write_bytes(data)
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
        said: list[str] = []
        two = job("two")
        key = store.key_of(history.identity(two, INPUTS), MADE)
        refused.append(store.adopt(two, INPUTS, key, said.append) is None)
        assert not number % 2 or "is not the file" in said[0]
        assert not any(map(os.path.exists, two["outputs"].values()))
    assert refused == [True] * 20


def test_a_damaged_donor_is_no_obstacle_for_the_next(shared):
    store.publish(run(job("one")))
    Path("results/one/p.parquet").write_text("by hand")
    found = ask(job("two"))
    assert found["adopted"]["from"] == "the store" and contents_of(job("two"))[1].startswith("content")


def test_raw_files_that_have_changed_since_are_a_reason_to_refuse():
    run(job("one"))
    Path("downloads/labels.csv").write_text("c,d\n")
    assert ask(job("two")) is None


def test_what_was_put_aside_is_moved_back_once():
    entry, files = run(job("one")), job("one")["outputs"].values()
    store.put_aside(entry)
    assert not any(map(os.path.exists, files))
    assert ask(job("one", settings={"lr": 2})) is None
    found = ask(job("one"))
    assert found["outputs"] == entry["outputs"] and found["adopted"]["from"] == "moved aside before"
    assert not any(store.ASIDE.iterdir())
    for file in files:
        Path(file).unlink()
    assert ask(job("one")) is None


def test_what_was_harmed_while_it_lay_aside_is_not_taken_back():
    store.put_aside(run(job("one")))
    victim = next(store.ASIDE.rglob("1"))
    victim.write_text(victim.read_text().replace("c", "C", 1))
    assert ask(job("one")) is None and not Path("results/one/m.json").exists()


def test_a_folder_that_a_job_fills_comes_along(shared):
    """Copied from another profile with its times, so that who has read it need not read it again; moved back from aside."""

    def world(profile: str) -> dict[str, Any]:
        return job(profile, folders={}, fills={"raw": f"data/{profile}/raw"})

    def files(profile: str) -> dict[str, tuple[str, int]]:
        top = Path(f"data/{profile}/raw")
        return {
            str(p.relative_to(top)): (p.read_text(), p.stat().st_mtime_ns)
            for p in top.rglob("*")
            if p.is_file()
        }

    for name in ("rsna/a.dcm", "siim/deep/b.dcm"):
        Path("data/one/raw", name).parent.mkdir(parents=True)
        Path("data/one/raw", name).write_text(f"pixels of {name}")
    before = files("one")
    entry = run(world("one"))
    assert ask(world("two")) and files("two") == before
    store.put_aside(entry)
    assert not Path("data/one/raw").exists()
    Path("data/one/raw").mkdir()
    Path("data/one/raw/left").write_text("by a killed job")
    assert ask(world("one")) and files("one") == before
    store.publish(entry)
    shutil.rmtree("data"), shutil.rmtree("results")
    assert ask(world("three"))["adopted"]["from"] == "the store" and files("three") == before
    next(shared.rglob("b.dcm")).write_text("others")
    shutil.rmtree("data"), shutil.rmtree("results")
    assert ask(world("three")) is None and not Path("data/three/raw").exists()


def test_two_working_copies_share_a_store(shared, tmp_path, monkeypatch):
    entry = run(job("one"))
    assert store.publish(entry) and not store.publish(entry)  # it is there
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/downloads").symlink_to(tmp_path / "downloads")
    monkeypatch.chdir(tmp_path / "clone")
    assert ask(job("one"))["adopted"]["from"] == "the store"
    assert stat.S_IMODE(shared.stat().st_mode) == 0o700
    assert not list(shared.glob(".*"))


def test_a_store_that_cannot_be_written_is_no_reason_to_fail(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "file/store"))
    said: list[str] = []
    assert store.publish(run(job("one")), said.append) is False and "not put into the store" in said[0]


def test_the_store_is_checked_and_pruned(shared):
    store.publish(run(job("one")))
    store.put_aside(run(job("one")))
    found = store.stored()
    assert [len(found[where]) for where in ("aside", "store")] == [1, 1]
    (one,) = found["store"]
    assert one.size > 0 and store.damaged(one) == []
    (one.folder / "0").write_text("x")
    assert store.damaged(one) == [str(one.folder / "0")]
    (one.folder / "entry.json").write_text(json.dumps({}))
    (one,) = store.stored()["store"]
    assert store.damaged(one) and store.prune([one], days=30) == [one] and not store.stored()["store"]
    assert store.prune(found["aside"], days=30) == []
    assert store.prune(found["aside"], days=-1) and not any(store.ASIDE.iterdir())
