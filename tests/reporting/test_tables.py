"""Tables: the values of a cell, the marks, the paper's numbers beside ours, and what a cell that was not run looks like."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.methods import METHODS
from cmcgns.reporting import tables

PAIR = "classification-chexpert"


@pytest.fixture
def write(tmp_path):
    """Writes a table of runs, {(arm, fraction): the value of each seed}; returns its files by their names."""

    def made(name: str, runs: dict[tuple[str, int], list[float | None]], **more) -> dict[str, Path]:
        files = [tmp_path / f"{i}.json" for i in range(sum(map(len, runs.values())))]
        for file, value in zip(files, (v for values in runs.values() for v in values), strict=True):
            file.write_text(json.dumps({"primary": value, "further": {"AUC Edema": value}}))
        outputs = {name: tmp_path / name for name in ("csv", "details", "md", "tex")}
        groups = [[arm, PAIR, fraction] for arm, fraction in runs]
        seeds = list(range(len(next(iter(runs.values())))))
        tables.write_table(name=name, groups=groups, seeds=seeds, metrics=files, **outputs, **more)
        return outputs

    return made


@pytest.fixture
def written(write):
    return write(
        "1",
        {
            ("random", 1): [0.60, 0.62, 0.70],
            ("cm_cgns", 1): [0.80, 0.82, None],
            ("cm_cgns", 10): [None, 0.9, None],
            ("cm_cgns", 100): [None, None, None],
        },
    )


def test_a_row_a_cell_with_the_paper_s_values_beside_ours(written):
    lines = written["csv"].read_text().splitlines()
    assert lines[0] == "table,dataset,task,metric,method,fraction,n_runs,mean,std,paper_mean,paper_std"
    assert len(lines) == 1 + 12 * 3 * 3
    # mean (60 + 62 + 70) / 3 = 64; deviations -4, -2, 6: sqrt(56 / 2) = 5.29
    assert "I,CheXpert,classification,AUC,Random Init,1%,3,64.00,5.29,55.37,2.55" in lines
    assert "I,CheXpert,classification,AUC,MoCo,1%,0,,,68.35,0.44" in lines
    assert "I,COVIDx,classification,ACC,Random Init,10%,0,,,63.50,0.88" in lines


def test_one_value_has_no_deviation_and_an_undefined_metric_is_none(written):
    lines = written["csv"].read_text().splitlines()
    assert any(line.startswith("I,CheXpert,classification,AUC,CM-CGNS,10%,1,90.00,,") for line in lines)
    assert any(line.startswith("I,CheXpert,classification,AUC,CM-CGNS,100%,0,,,") for line in lines)


def test_best_and_second_best_are_marked_and_a_cell_that_was_not_run_is_a_dash(written):
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
        "I,CheXpert,classification,AUC Edema,Random Init,1%,3,64.00,5.29,," in written["details"].read_text()
    )


def test_reading_gives_back_what_was_written(written):
    cells = tables.read_csv(written["csv"])
    assert tables.to_csv(cells) == written["csv"].read_text()


def test_a_metric_that_is_no_number_is_refused(write):
    with pytest.raises(InputError, match=r"1\.json: the metric is not a number"):
        write("1", {("random", 1): [0.5, math.nan]})


def test_a_file_too_many_is_not_taken_for_another_run(tmp_path):
    with pytest.raises(ValueError):
        tables.read_runs([("random", PAIR, 1)], [0], [tmp_path / "0.json", tmp_path / "1.json"])


def test_the_paper_s_numbers_are_complete():
    rows = tables.paper_rows()
    assert [sum(r["table"] == t for r in rows) for t in ("I", "II", "III", "IV")] == [108, 72, 72, 24]
    titles = {method.title for method in METHODS.values()}  # and some that are not in the paper
    assert {r["method"] for r in rows if r["table"] != "IV"} <= titles
    assert {r["method"] for r in rows if r["table"] == "IV"} == set(tables.ABLATION.values())
    assert {r["dataset"] for r in rows} == set(tables.DATASETS.values())


def test_equal_values_share_a_rank():
    assert tables._ranks([3.0, None, 5.0, 3.0, 1.0]) == [2, None, 1, 2, 3]


def test_the_ablation_has_the_paper_s_names_and_a_variant_of_ours_comes_after_them(write):
    lines = (
        write("4", {("cm_cgns-mir", 1): [0.5], ("cm_cgns-mine", 1): [0.25]})["csv"].read_text().splitlines()
    )
    assert "IV,CheXpert,classification,AUC,Baseline+CM-MIR,1%,1,50.00,,79.21,1.60" in lines
    assert lines[-1] == "IV,CheXpert,classification,AUC,mine,1%,1,25.00,,,"
    assert len(lines) == 1 + 24 + 1


def test_the_sensitivity_study_has_no_cells_of_the_paper(write):
    lines = write("sensitivity", {("cm_cgns-mu=1.0", 10): [0.5]})["csv"].read_text().splitlines()
    assert lines[1:] == [",CheXpert,classification,AUC,mu=1.0,10%,1,50.00,,,"]


def test_what_the_audit_let_stand_is_said_below_the_tables_that_used_it(write, tmp_path):
    entry = {
        "check": "A2-group-overlap",
        "task": "classification",
        "between": ["train", "test"],
        "unit": "images",
    }
    entry |= {"count": 12, "total": 202, "reason": "as in the paper"}
    notes = [entry | {"source": source} for source in ("chexpert", "mimic_cxr", "siim")]
    gate = tmp_path / "gate.json"
    gate.write_text(json.dumps({"scheme": "paper", "accepted": notes}))
    found = write("1", {("random", 1): [0.5]}, gate=gate)
    text = found["md"].read_text()
    told = "(classification, train > test: 12 of 202 images), because as in the paper"
    assert f"Accepted: A2-group-overlap in CheXpert {told}" in text
    assert (
        text.count("Accepted: ") == 2
    )  # what pre-training saw counts for every table, SIIM for none of this one
    assert found["tex"].read_text().count("% Accepted: ") == 2


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
