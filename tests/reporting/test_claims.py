"""The claims: planted scores give the verdicts they must."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting import claims

PAIR = "classification-chexpert"


def scores(values: dict[str, list[float]], pair: str = PAIR) -> dict:
    return {(arm, pair, 10, seed): v for arm, found in values.items() for seed, v in enumerate(found)}


def test_families_are_compared_in_the_paper_s_order_as_means_of_their_members():
    found = claims.families(
        scores(
            {"random": [50, 52], "moco": [60, 50], "simclr": [60, 50], "clip": [70, 70], "cm_cgns": [69, 69]}
        )
    )
    assert [(f.what, f.differences, f.verdict) for f in found] == [
        ("image only - initialisation", (10, -2), "in the mean only"),
        ("global image-text - image only", (10, 20), "holds"),
        ("CM-CGNS - global image-text", (-1, -1), "does not hold"),
    ]


def test_the_ablation_looks_at_its_own_cells_only():
    arms = {"cm_cgns-baseline": [10], "cm_cgns-cgns": [12], "cm_cgns-mir": [9], "cm_cgns": [13]}
    found = claims.ablation(scores(arms) | scores({"cm_cgns": [99]}, "classification-rsna"))
    assert {f.what: f.differences[0] for f in found} == {
        "cgns - baseline": 2, "mir - baseline": -1, "both - baseline": 3, "both - cgns": 1, "both - mir": 4,
    }  # fmt: skip
    assert claims.ablation(scores({"cm_cgns": [1.0]})) == []


def test_the_best_other_is_chosen_for_each_cell_by_its_mean():
    here = scores({"random": [10, 30], "moco": [18, 18], "cm_cgns": [21, 21]})
    there = scores({"random": [50, 50], "moco": [60, 60], "cm_cgns": [55, 55]}, "classification-rsna")
    (found,) = claims.best(here | there)
    # random (20) beats moco (18) in the first cell, moco wins the second: means of the rivals (10 + 60) / 2, (30 + 60) / 2
    assert found.differences == ((21 + 55) / 2 - 35, (21 + 55) / 2 - 45)
    assert found.verdict == "does not hold"  # +3 and -7


def test_cells_that_not_all_methods_have_do_not_count():
    here = scores({"random": [10], "cm_cgns": [20]})
    extra = scores({"cm_cgns": [90]}, "segmentation-siim") | scores({"cm_cgns": [95]}, "classification-rsna")
    assert [(f.task, f.differences) for f in claims.families(here | extra)] == [("classification", (10,))]
    assert [(f.task, f.differences) for f in claims.best(here | extra)] == [("classification", (10,))]


def test_a_missing_run_is_named_and_the_tables_are_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = [(arm, PAIR, 10) for arm in ("random", "cm_cgns")]
    for arm, value in (("random", 0.5), ("cm_cgns", 0.75)):
        folder = Path(Paths("t").cell(arm, PAIR, 10, 0))
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"primary": value}))
    claims.write_claims(Paths("t"), cells=cells, seeds=[0])
    lines = Path(Paths("t").table("claims", "csv")).read_text().splitlines()
    assert lines[1] == "C1,classification,CM-CGNS - initialisation,+25.00,+25.00,holds"
    assert len(Path(Paths("t").table("claims", "md")).read_text().splitlines()) == len(lines) + 1
    with pytest.raises(InputError, match="seed-1"):
        claims.write_claims(Paths("t"), cells=cells, seeds=[0, 1])
