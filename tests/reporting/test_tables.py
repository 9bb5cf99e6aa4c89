"""Tables: the values of a cell, the marks, the paper's numbers beside ours, and what a missing run looks like."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.methods import METHODS
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting import tables

PAIR = "classification-chexpert"


def write_run(root: Path, method: str, fraction: int, seed: int, value: float | None) -> None:
    folder = root / Paths("t").cell(method, "classification-chexpert", fraction, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps({"primary": value, "further": {"AUC Edema": value}}))


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, value in enumerate([0.60, 0.62, 0.70]):
        write_run(tmp_path, "random", 1, seed, value)
    for seed, value in enumerate([0.80, 0.82]):
        write_run(tmp_path, "cm_cgns", 1, seed, value)
    write_run(tmp_path, "cm_cgns", 10, 0, 0.9)
    write_run(tmp_path, "cm_cgns", 100, 0, None)
    groups = [(arm, PAIR, fraction) for arm in ("random", "cm_cgns") for fraction in (1, 10, 100)]
    tables.write_table("1", Paths("t"), groups=groups, seeds=[0, 1, 2])
    return {ending: Path(Paths("t").table(1, ending)) for ending in ("csv", "md", "tex", "details.csv")}


def test_a_row_a_cell_with_the_paper_s_values_beside_ours(written):
    lines = written["csv"].read_text().splitlines()
    assert lines[0] == "table,dataset,task,metric,method,fraction,n_runs,mean,std,paper_mean,paper_std"
    assert len(lines) == 1 + 12 * 3 * 3
    # mean (60 + 62 + 70) / 3 = 64; deviations -4, -2, 6: sqrt(56 / 2) = 5.29
    assert "I,CheXpert,classification,AUC,Random Init,1%,3,64.00,5.29,55.37,2.55" in lines
    assert "I,CheXpert,classification,AUC,MoCo,1%,0,,,68.35,0.44" in lines
    assert "I,COVIDx,classification,ACC,Random Init,10%,0,,,63.50,0.88" in lines


def test_one_run_has_no_deviation_and_an_undefined_metric_is_no_run(written):
    lines = written["csv"].read_text().splitlines()
    assert any(line.startswith("I,CheXpert,classification,AUC,CM-CGNS,10%,1,90.00,,") for line in lines)
    assert any(line.startswith("I,CheXpert,classification,AUC,CM-CGNS,100%,0,,,") for line in lines)


def test_best_and_second_best_are_marked_and_missing_runs_are_dashes(written):
    rows = {line.split("|")[1].strip(): line for line in written["md"].read_text().splitlines()[2:]}
    assert "**81.00 ± 1.41**" in rows["CM-CGNS"]
    assert "*64.00 ± 5.29*" in rows["Random Init"]
    assert rows["MoCo"].count("–") == 9
    tex = written["tex"].read_text()
    assert r"\textbf{81.00 $\pm$ 1.41}" in tex
    assert r"\underline{64.00 $\pm$ 5.29}" in tex
    assert tex.count(r"\\") == 13


def test_the_other_metrics_of_the_runs_are_kept(written):
    assert (
        "I,CheXpert,classification,AUC Edema,Random Init,1%,3,64.00,5.29,,"
        in written["details.csv"].read_text()
    )


def test_reading_gives_back_what_was_written(written):
    cells = tables.read_csv(written["csv"])
    assert tables.to_csv(cells) == written["csv"].read_text()


def test_a_metric_that_is_no_number_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "random", 1, 0, math.nan)
    with pytest.raises(InputError, match=r"metrics\.json: the metric is not a number"):
        tables.write_table("1", Paths("t"), groups=[("random", PAIR, 1)], seeds=[0])


def test_the_paper_s_numbers_are_complete():
    rows = tables.paper_rows()
    assert [sum(r["table"] == t for r in rows) for t in ("I", "II", "III", "IV")] == [108, 72, 72, 24]
    titles = {method.title for method in METHODS.values()}  # and some that are not in the paper
    assert {r["method"] for r in rows if r["table"] != "IV"} <= titles
    assert {r["method"] for r in rows if r["table"] == "IV"} == set(tables.ABLATION.values())
    assert {r["dataset"] for r in rows} == set(tables.DATASETS.values())


def test_equal_values_share_a_rank():
    assert tables._ranks([3.0, None, 5.0, 3.0, 1.0]) == [2, None, 1, 2, 3]


def test_the_ablation_has_the_paper_s_names_and_a_variant_of_ours_comes_after_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "cm_cgns-mir", 1, 0, 0.5)
    write_run(tmp_path, "cm_cgns-mine", 1, 0, 0.25)
    groups = [("cm_cgns-mir", PAIR, 1), ("cm_cgns-mine", PAIR, 1)]
    tables.write_table("4", Paths("t"), groups=groups, seeds=[0])
    lines = Path(Paths("t").table(4, "csv")).read_text().splitlines()
    assert "IV,CheXpert,classification,AUC,Baseline+CM-MIR,1%,1,50.00,,79.21,1.60" in lines
    assert lines[-1] == "IV,CheXpert,classification,AUC,mine,1%,1,25.00,,,"
    assert len(lines) == 1 + 24 + 1


def test_the_sensitivity_study_has_no_cells_of_the_paper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "cm_cgns-mu=1.0", 10, 0, 0.5)
    tables.write_table("sensitivity", Paths("t"), groups=[("cm_cgns-mu=1.0", PAIR, 10)], seeds=[0])
    lines = Path(Paths("t").table("sensitivity", "csv")).read_text().splitlines()
    assert lines[1:] == [",CheXpert,classification,AUC,mu=1.0,10%,1,50.00,,,"]


def test_what_the_audit_let_stand_is_said_below_the_tables_that_used_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path, "random", 1, 0, 0.5)
    entry = {
        "check": "A2-group-overlap",
        "task": "classification",
        "between": ["train", "test"],
        "unit": "images",
    }
    entry |= {"count": 12, "total": 202, "reason": "as in the paper"}
    notes = [entry | {"source": source} for source in ("chexpert", "mimic_cxr", "siim")]
    Path("gate.json").write_text(json.dumps({"scheme": "paper", "accepted": notes}))
    tables.write_table("1", Paths("t"), groups=[["random", PAIR, 1]], seeds=[0], gate="gate.json")
    text = Path(Paths("t").table(1, "md")).read_text()
    told = "(classification, train > test: 12 of 202 images), because as in the paper"
    assert f"Accepted: A2-group-overlap in CheXpert {told}" in text
    assert (
        text.count("Accepted: ") == 2
    )  # what pre-training saw counts for every table, SIIM for none of this one
    assert Path(Paths("t").table(1, "tex")).read_text().count("% Accepted: ") == 2


def test_a_name_with_a_comma_comes_back(tmp_path):
    cell = tables.Cell(
        "grounding",
        "",
        "grounding",
        "pointing (relative, other film)",
        "CM-CGNS",
        "",
        5,
        1.5,
        0.25,
        None,
        None,
    )
    (tmp_path / "t.csv").write_text(tables.to_csv([cell]))
    assert tables.read_csv(tmp_path / "t.csv") == [cell]
