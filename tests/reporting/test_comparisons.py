"""Comparisons: which cells meet, what a row says, and that p-values are corrected within a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.parquet import write_parquet
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.comparisons import pairs_of_cell, to_csv, write_comparisons
from cmcgns.reporting.resolution import Row, read_rows, resolution

PATHS = Paths("t")
IMAGES = 120
GROUPS = [f"p{i // 2}" for i in range(IMAGES)]
TARGET = np.arange(IMAGES) // 2 % 3 == 0


def write_run(arm: str, pair: str, seed: int, columns: dict, images: int = IMAGES) -> None:
    folder = Path(PATHS.cell(arm, pair, 10, seed))
    table = {"image": [f"i{i}" for i in range(images)], "group": GROUPS[:images]} | columns
    write_parquet(pd.DataFrame(table), folder / "predictions.parquet")
    (folder / "metrics.json").write_text(json.dumps({"primary": 0.5}))


def classifier(skill: float, seed: int) -> dict:
    noise = np.random.default_rng([seed, int(100 * skill)]).normal(size=IMAGES)
    return {"probability pneumonia": skill * TARGET + noise, "target pneumonia": TARGET.astype(int)}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """On RSNA the reference beats a poor method and equals a twin; on SIIM there is one seed of each."""
    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        write_run("cm_cgns", "classification-rsna", seed, classifier(3.0, seed))
        write_run("moco", "classification-rsna", seed, classifier(3.0, seed))
        write_run("random", "classification-rsna", seed, classifier(0.3, seed))
    write_run("clip", "classification-rsna", 2, classifier(2.9, 2))
    for arm in ("cm_cgns", "moco"):
        dice = np.where(TARGET, 0.5 if arm == "moco" else 0.4, 1.0)
        write_run(arm, "segmentation-siim", 0, {"dice": dice + np.arange(IMAGES) / 1e4})
    return {
        "1": [(arm, "classification-rsna", 10) for arm in ("random", "moco", "clip", "mgca", "cm_cgns")],
        "3": [[arm, "segmentation-siim", 10] for arm in ("moco", "cm_cgns")],
    }


@pytest.fixture
def rows(world):
    write_comparisons(PATHS, tables=world, seeds=[0, 1, 2], resamples=200)
    return list(csv.DictReader(Path(PATHS.table("comparisons", "csv")).read_text().splitlines()))


def test_a_row_for_each_method_with_a_finished_seed(rows):
    assert list(rows[0]) == [
        "table", "dataset", "fraction", "method", "reference", "difference", "low", "high", "p", "p_holm",
        "resolvable", "n_test_groups", "n_seeds",
    ]  # fmt: skip
    found = [(row["table"], row["dataset"], row["fraction"], row["method"], row["n_seeds"]) for row in rows]
    assert found == [
        ("I", "RSNA", "10%", "Random Init", "3"),
        ("I", "RSNA", "10%", "MoCo", "3"),
        ("I", "RSNA", "10%", "CLIP", "1"),
        ("III", "SIIM", "10%", "MoCo", "1"),
    ]
    assert {row["reference"] for row in rows} == {"CM-CGNS"}
    assert {row["n_test_groups"] for row in rows} == {"60"}


def test_values_are_points_of_the_method_minus_the_reference(rows):
    random, twin, _, siim = rows
    assert float(random["high"]) < -20 and float(random["p"]) < 0.02
    assert [twin[k] for k in ("difference", "low", "high", "p", "p_holm")] == [
        "0.00",
        "0.00",
        "0.00",
        "1",
        "1",
    ]
    # a third of the images gain 0.1
    assert siim["difference"] == "3.33" and float(siim["low"]) > 0


def test_p_values_are_corrected_within_their_table(rows):
    first, twin, clip, siim = rows
    assert float(first["p_holm"]) == pytest.approx(3 * float(first["p"]), rel=0.02)
    assert float(clip["p_holm"]) == pytest.approx(min(1, 2 * float(clip["p"])), rel=0.02)
    assert siim["p_holm"] == siim["p"]


def test_markdown_marks_what_remains_after_the_correction(rows):
    lines = Path(PATHS.table("comparisons", "md")).read_text().splitlines()
    assert lines[0].startswith("Difference: method minus reference")
    assert sum("**" in line for line in lines) == sum(float(row["p_holm"]) < 0.05 for row in rows) == 2
    (siim,) = [line for line in lines if line.startswith("| III")]
    assert "| III | SIIM | 10% | MoCo | CM-CGNS | 3.33 [" in siim and siim.endswith("| 60 | 1 |")


def test_another_reference(world):
    write_comparisons(PATHS, tables=world, seeds=[0, 1, 2], resamples=50, reference="random")
    lines = Path(PATHS.table("comparisons", "csv")).read_text().splitlines()[1:]
    assert [line.split(",")[3:5] for line in lines] == [
        *([name, "Random Init"] for name in ("MoCo", "CLIP", "CM-CGNS")),
        *([name, "MoCo"] for name in ("CLIP", "CM-CGNS")),  # the best there
        ["CM-CGNS", "MoCo"],  # on SIIM there is no random start
    ]


def test_runs_on_different_test_images_are_refused(world):
    shorter = {name: values[:-2] for name, values in classifier(3.0, 1).items()}
    write_run("moco", "classification-rsna", 1, shorter, IMAGES - 2)
    with pytest.raises(InputError, match=r"moco/.*seed-1/predictions.parquet: tested on other images"):
        write_comparisons(PATHS, tables=world, seeds=[0, 1, 2], resamples=10)


def runs(*primary: float) -> dict[int, np.ndarray]:
    return {seed: np.array([value, value]) for seed, value in enumerate(primary)}


def test_all_meet_the_reference_and_the_best_and_no_pair_comes_twice():
    values = {"cm_cgns": runs(0.6, 0.8), "a": runs(0.1, np.nan), "b": runs(0.7, 0.9), "c": runs(0.75)}
    against = [("a", "cm_cgns"), ("b", "cm_cgns"), ("c", "cm_cgns")]
    assert pairs_of_cell(values, "cm_cgns") == [*against, ("a", "b"), ("c", "b")]
    values["cm_cgns"] = runs(0.8)  # equal to the best
    assert pairs_of_cell(values, "cm_cgns") == against
    values["cm_cgns"] = {}
    assert pairs_of_cell(values, "cm_cgns") == [*against, ("a", "b"), ("c", "b")]


def test_the_best_was_chosen_from_all_pairs_and_is_corrected_for_them(world):
    """A fourth method beats CM-CGNS; of four others there are six pairs, of which three are shown."""
    for seed in range(3):
        write_run("mgca", "classification-rsna", seed, classifier(6.0, seed))
    write_comparisons(PATHS, tables={"1": world["1"]}, seeds=[0, 1, 2], resamples=200)
    rows = list(csv.DictReader(Path(PATHS.table("comparisons", "csv")).read_text().splitlines()))
    planned, chosen = rows[:4], rows[4:]
    assert {row["reference"] for row in planned} == {"CM-CGNS"}
    assert [(row["method"], row["reference"]) for row in chosen] == [
        (name, "MGCA") for name in ("Random Init", "MoCo", "CLIP")
    ]
    for group, family in ((planned, 4), (chosen, 6)):
        first = min(group, key=lambda row: float(row["p"]))
        assert float(first["p_holm"]) == pytest.approx(family * float(first["p"]), rel=0.02)


def test_what_a_cell_can_resolve_is_the_median_of_its_pairs():
    def row(dataset, fraction, resolvable, seeds=3):
        return Row("I", dataset, fraction, "a", "b", 0.0, -1.0, 1.0, 1.0, 1.0, resolvable, 60, seeds)

    rows = [
        row("RSNA", "1%", 4.0, 1),
        row("RSNA", "1%", None),
        row("RSNA", "1%", 7.0),
        row("SIIM", "1%", None),
    ]
    assert resolution([*rows, rows[0]._replace(table="II")]) == {
        "I": "RSNA 1% 5.50 (60 patients, 3 seeds); SIIM 1% unknown (60 patients, 3 seeds)",
        "II": "RSNA 1% 4.00 (60 patients, 1 seeds)",
    }


def test_the_resolvable_difference_stands_beside_the_interval_and_below_the_table(rows):
    """Above the interval's half width, and 2.80 / 1.96 of it where there are many degrees of freedom."""
    *_, siim = rows
    half = (float(siim["high"]) - float(siim["low"])) / 2
    assert float(siim["resolvable"]) == pytest.approx(2.845 / 2.001 * half, abs=0.02)  # t of 59 degrees
    text = Path(PATHS.table("comparisons", "md")).read_text()
    assert text.endswith(f"- III: SIIM 10% {siim['resolvable']} (60 patients, 1 seeds)\n")


def test_what_was_written_is_read_back(rows, tmp_path):
    found = read_rows(Path(PATHS.table("comparisons", "csv")))
    assert to_csv(found) == Path(PATHS.table("comparisons", "csv")).read_text()
    empty = found[0]._replace(low=None, p=None, resolvable=None)
    (tmp_path / "one.csv").write_text(to_csv([empty]))
    assert read_rows(tmp_path / "one.csv") == [empty]


def test_no_comparison_leaves_the_header():
    assert to_csv([]).count("\n") == 1
