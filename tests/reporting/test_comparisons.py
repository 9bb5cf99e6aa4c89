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
from cmcgns.reporting.comparisons import to_csv, write_comparisons

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
        "n_test_groups", "n_seeds",
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
    assert "| III | SIIM | 10% | MoCo | CM-CGNS | 3.33 [" in lines[-1] and lines[-1].endswith("| 60 | 1 |")


def test_another_reference(world):
    write_comparisons(PATHS, tables=world, seeds=[0, 1, 2], resamples=50, reference="random")
    lines = Path(PATHS.table("comparisons", "csv")).read_text().splitlines()[1:]
    assert [line.split(",")[3:5] for line in lines] == [
        [name, "Random Init"] for name in ("MoCo", "CLIP", "CM-CGNS")
    ]


def test_runs_on_different_test_images_are_refused(world):
    shorter = {name: values[:-2] for name, values in classifier(3.0, 1).items()}
    write_run("moco", "classification-rsna", 1, shorter, IMAGES - 2)
    with pytest.raises(InputError, match=r"moco/.*seed-1/predictions.parquet: tested on other images"):
        write_comparisons(PATHS, tables=world, seeds=[0, 1, 2], resamples=10)


def test_no_comparison_leaves_the_header():
    assert to_csv([]).count("\n") == 1
