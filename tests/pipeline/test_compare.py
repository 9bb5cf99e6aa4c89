"""Which numbers moved, and what explains it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cmcgns.cli import run
from cmcgns.errors import InputError
from cmcgns.pipeline import runs
from cmcgns.pipeline.compare import as_text, compare, load

RUN = "results/{p}/finetune/random/classification-rsna/1/seed-{s}/metrics.json"
TRUNK = "results/{p}/pretrain/random/trunk.safetensors"
SPLIT = "data/{p}/splits/rsna/audited.parquet"
STORE = "data/{p}/images/rsna.npy"
INDEX = "data/{p}/index/rsna.parquet"
HEAD = "evaluation.classification.finetune"
CODE = {"reporting.tables.write_table": "0" * 16, HEAD: "1" * 16, "splits.write.write_split": "2" * 16}
NUMBER = ["I", "RSNA AUC", "1%", "Random Init"]


def study(
    profile: str,
    mean: float = 60.0,
    *,
    lr: float = 0.1,
    seeds: tuple[int, ...] = (0, 1),
    raw: str = "a",
    split: str = "s",
    store: str = "i",
    code: dict[str, str] | None = None,
    packages: str = "p",
) -> None:
    """A finished profile with one number, made from two runs of one trunk-less head."""
    codes, lines = CODE | (code or {}), []

    def entry(
        targets: list[str], step: str, sha: str, settings: Any, inputs: dict[str, str], read: str = ""
    ) -> None:
        made = {"packages": packages, "python": "3", "torch": "2", "device": "CPU", "revision": profile}
        line = {
            "step": f"cmcgns.{step}", "code": codes.get(step, "f" * 16), "settings": settings, "identity": "i",
            "inputs": {"metrics": [list(item) for item in inputs.items()]}, "started": 0.0, "seconds": 1.0,
            "outputs": {"out": [[target, sha] for target in targets]}, "made": made,
            "reads": {"files": 1, "sha256": read} if read else None,
        }  # fmt: skip
        lines.append(json.dumps(line))

    def at(name: str, **more: Any) -> str:
        return name.format(p=profile, **more)

    result = f"r{mean}"
    files = {at(RUN, s=seed): f"{result}-{seed}" for seed in seeds}
    groups = {"name": "1", "groups": [["random", "classification-rsna", 1]], "seeds": list(seeds)}
    tables = [f"results/{profile}/tables/table1.{ending}" for ending in ("csv", "details.csv")]
    entry(tables, "reporting.tables.write_table", result, groups, files)
    for file, sha in files.items():
        head = {"head": {"lr": lr, "betas": [0.9, 0.999]}}
        entry([file], HEAD, sha, head, {at(SPLIT): split, at(STORE): store})
    entry([at(SPLIT)], "splits.write.write_split", split, {"seed": 0}, {at(INDEX): f"x{raw}"})
    entry([at(STORE)], "images.store.store_source", store, {"size": 64}, {at(INDEX): f"x{raw}"})
    entry([at(INDEX)], "sources.index.build_index", f"x{raw}", {}, {}, raw)
    numbers = {"I": {"RSNA AUC": {"1%": {"Random Init": {"mean": mean, "std": 3.0}, "ConVIRT": {}}}}}
    folder = Path(f"results/{profile}/tables")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(numbers | {"audit": {"warning": len(seeds)}}))
    (folder.parent / "ledger.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def between(**changes: Any) -> list[tuple[Any, ...]]:
    """The causes when number, profile's name and these change."""
    study("a")
    study("b", 64.5, **changes)
    (moved,) = compare(load("a"), load("b"))["moved"]
    return [tuple(cause[key] for key in ("rule", "kind", "name", "a", "b")) for cause in moved["causes"]]


def test_what_is_equal_but_for_the_profile_has_not_moved():
    study("a")
    study("b")
    found = compare(load("a"), load("b"))
    assert (found["compared"], found["moved"], found["only_a"], found["only_b"]) == (1, [], [], [])
    assert found["causes"] == [] and found["audit"] == {}
    assert as_text(found) == "a -> b: 0 of 1 numbers moved"


def test_a_number_moves_by_so_many_of_its_std():
    study("a")
    study("b", 64.5, lr=0.2)
    summary = Path("results/b/tables/metrics.json")
    summary.write_text(summary.read_text().replace('"std": 3.0', '"std": 4.0'))
    found = compare(load("a"), load("b"))
    (moved,) = found["moved"]
    assert (moved["number"], moved["change"]) == (NUMBER, 4.5)
    assert moved["stds"] == pytest.approx(4.5 / 12.5**0.5, abs=0.005)  # 12.5 = (9 + 16) / 2
    text = as_text(found)
    assert "I / RSNA AUC / 1% / Random Init: 60.00 ± 3.00 -> 64.50 ± 4.00  (+4.50, +1.3 std)" in text
    assert f"{HEAD}, setting head.lr: 0.1 -> 0.2  (1 number)" in text


def test_a_setting_explains_it():
    assert between(lr=0.2) == [(HEAD, "setting", "head.lr", 0.1, 0.2)]


def test_code_explains_it():
    assert between(code={HEAD: "9" * 16}) == [(HEAD, "code", HEAD, "1" * 16, "9" * 16)]


def test_a_raw_file_explains_it_and_the_split_that_it_changed():
    assert between(raw="b", split="t") == [
        ("sources.index.build_index", "raw files", "data/index/rsna.parquet", "a", "b"),
        ("splits.write.write_split", "split", "data/splits/rsna/audited.parquet", "s", "t"),
    ]


def test_pixels_that_changed_under_equal_label_files_are_named():
    assert between(store="j") == [("images.store.store_source", "bytes", "data/images/rsna.npy", "i", "j")]


def test_another_seed_explains_it():
    name = "results/finetune/random/classification-rsna/1/seed-1/metrics.json"
    assert ("", "run", name, True, None) in between(seeds=(0,))


def test_packages_explain_it_only_where_bytes_differ():
    assert between(packages="q") == [(HEAD, "surroundings", "packages", "p", "q")]


def test_nothing_recorded_is_said():
    study("a")
    study("b", 64.5)
    Path("results/b/ledger.jsonl").write_text("")
    found = compare(load("a"), load("b"))
    assert found["moved"][0]["causes"] == []
    assert "nothing the ledgers know of: 1 number" in as_text(found)


def test_numbers_of_one_side_and_findings_are_told():
    study("a")
    study("b", seeds=(0, 1, 2))
    summary = Path("results/b/tables/metrics.json")
    summary.write_text(summary.read_text().replace('"ConVIRT": {}', '"ConVIRT": {"mean": 1.0}'))
    found = compare(load("a"), load("b"))
    assert found["only_b"] == [["I", "RSNA AUC", "1%", "ConVIRT"]]
    assert found["audit"] == {"warning": [2, 3]}
    assert "only in b: 1, such as I / RSNA AUC / 1% / ConVIRT" in as_text(found)


def test_a_profile_without_results_is_told():
    with pytest.raises(InputError, match="profile 'nothing' has no results here.*main:demo"):
        load("nothing")


def test_a_revision_is_read_through_dvc(tmp_path):
    from dvc.repo import Repo

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@t")
        subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)

    git("init", "--initial-branch=main")
    repo = Repo.init()
    study("a")
    for out in ("results/a/tables", "results/a/ledger.jsonl"):
        repo.add(out)
    git("add", "--all")
    git("commit", "--message", "first")
    study("a", 64.5, lr=0.2)
    found = compare(load("main:a"), load("a"))
    assert [(moved["number"], moved["change"]) for moved in found["moved"]] == [(NUMBER, 4.5)]
    assert [cause["name"] for cause in found["causes"]] == ["head.lr"]
    with pytest.raises(InputError, match="cannot be had at revision 'nowhere'"):
        load("nowhere:a")
    with pytest.raises(InputError, match="cannot be had at revision 'main'"):
        load("main:b")


def test_the_run_before_is_compared_with_this_one_without_dvc(capsys):
    """Whatever ran between that made no other results, such as nothing at all."""
    study("a", 60.0, lr=0.1)
    runs.keep("a", {})
    with pytest.raises(InputError, match="no run of profile 'a' with other results is kept"):
        load("before:a")
    study("a", 62.0, lr=0.2)
    for _ in range(2):
        runs.keep("a", {})
    found = compare(load("before:a"), load("a"))
    assert [one["number"] for one in found["moved"]] == [NUMBER] and found["moved"][0]["change"] == 2.0
    assert [
        (cause["name"], cause["a"], cause["b"]) for cause in found["causes"] if cause["kind"] == "setting"
    ] == [("head.lr", 0.1, 0.2)]
    assert run(["compare", "a"]) == 0 and "before:a -> a: 1 of 1 numbers moved" in capsys.readouterr().out


def test_the_last_runs_are_kept_and_no_others(monkeypatch):
    monkeypatch.setattr("cmcgns.pipeline.runs.MOST", 3)
    study("a")
    for number in range(5):
        runs.keep("a", {"settings": {"number": number}})
    assert len(runs.kept("a")) == 3
    assert runs.about_last("a")["settings"] == {"number": 4}
