"""From a number down to raw files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prov.model import ProvActivity, ProvDocument, ProvGeneration

from cmcgns.errors import InputError
from cmcgns.pipeline.plan import Plan
from cmcgns.pipeline.trace import as_prov, as_text, chain, runs_of

ROOT = Path(__file__).parents[2]
METRICS = "results/t/finetune/random/classification-rsna/1/seed-0/metrics.json"
INDEX = "data/t/index/rsna.parquet"
GROUPS = "groups.csv"


def entry(target: str, step: str, inputs: dict[str, str], settings: object, start: float) -> str:
    return json.dumps(
        {
            "step": f"cmcgns.{step}", "code": "0123456789abcdef", "settings": settings, "identity": "i",
            "inputs": {"read": [list(item) for item in inputs.items()]}, "seconds": 2.5, "started": start,
            "outputs": {"out": [[target, f"hash of {target}"]]}, "made": {"revision": "abc"},
            "reads": {"files": 7, "sha256": "d" * 64} if step == "sources.index" else None,
        }
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        entry(METRICS, "finetune", {INDEX: "a" * 64}, {"head": {"lr": 0.1}, "name": "it's"}, 100.0),
        entry(INDEX, "sources.index", {GROUPS: "b" * 64}, {"groups": None}, 50.0),
    ]
    Path("results/t").mkdir(parents=True)
    Path("results/t/ledger.jsonl").write_text("\n".join(lines) + "\n")


def test_the_chain_goes_down_to_raw_files(ledger):
    run, index, groups = chain("t", [METRICS])
    assert (run.file, run.step, run.inputs, run.seconds) == (METRICS, "finetune", {INDEX: "a" * 64}, 2.5)
    assert run.settings == {"head": {"lr": 0.1}, "name": "it's"} and run.code == "0123456789abcdef"
    assert run.started == "1970-01-01T00:01:40+00:00"
    assert (index.file, index.sha256) == (INDEX, f"hash of {INDEX}")
    assert (groups.file, groups.sha256, groups.step) == (GROUPS, "b" * 64, "")
    assert index.raw["files"] == 7


def test_it_can_be_read_and_exported(ledger):
    text = as_text("t", [METRICS])
    assert f"hash of {INDEX}" in text and "b" * 64 in text and "d" * 64 in text and '"lr": 0.1' in text
    document = as_prov("t", [METRICS])
    assert set(document["entity"]) == {f"file:{name}" for name in (METRICS, INDEX, GROUPS)}
    (made,) = [g for g in document["wasGeneratedBy"].values() if g["prov:entity"] == f"file:{METRICS}"]
    read = [
        u["prov:entity"] for u in document["used"].values() if u["prov:activity"] == made["prov:activity"]
    ]
    assert read == [f"file:{INDEX}"] and made["prov:activity"] in document["activity"]


def test_a_file_that_no_run_made_is_told(ledger):
    with pytest.raises(InputError, match="not in the ledger"):
        chain("t", ["results/t/nothing.json"])


def test_a_cell_names_its_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = Plan.load("paper")
    folder = "results/paper/finetune/cm_cgns/classification-chexpert/1/seed-"
    found = runs_of(plan, "Table1 / chexpert / 1% / cm-cgns")
    assert found == [f"{folder}{seed}/metrics.json" for seed in plan.settings.downstream.seeds]
    assert "cm_cgns-mir" in runs_of(plan, "table4 / SIIM / 10% / Baseline+CM-MIR")[0]


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("table1", "names no cell"),
        ("table9 / RSNA / 1% / CLIP", "no table"),
        ("table1 / SIIM / 1% / CLIP", "CheXpert, RSNA, COVIDx"),
        ("table1 / RSNA / 5% / CLIP", "1%, 10%, 100%"),
        ("table1 / RSNA / 1% / BERT", "no method"),
    ],
)
def test_what_is_not_there_is_named(cell, told, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=told):
        runs_of(Plan.load("paper"), cell)


def test_others_can_read_the_export(ledger):
    document = ProvDocument.deserialize(content=json.dumps(as_prov("t", [METRICS])), format="json")
    (run,) = [a for a in document.get_records(ProvActivity) if "finetune" in str(a.identifier)]
    assert run.get_startTime().timestamp() == 100.0
    assert {str(next(iter(values))) for name, values in attributes(run).items() if name == "revision"} == {
        "abc"
    }
    made = [str(r.args[0]) for r in document.get_records(ProvGeneration) if r.args[1] == run.identifier]
    assert made == [f"file:{METRICS}"]


def attributes(record: ProvActivity) -> dict[str, set[object]]:
    return {name.localpart: record.get_attribute(name) for name, _ in record.extra_attributes}
