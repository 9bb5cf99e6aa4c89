"""Comparisons: which cells meet, what a row says, and that p-values are corrected within a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.parquet import write_parquet
from cmcgns.reporting.comparisons import pairs_of_cell, to_csv, write_comparisons
from cmcgns.reporting.resolution import Row, read_rows, resolution
from cmcgns.reporting.runs import run_keys

RSNA, SIIM = "classification-rsna", "segmentation-siim"
IMAGES = 120
GROUPS = [f"p{i // 2}" for i in range(IMAGES)]
TARGET = np.arange(IMAGES) // 2 % 3 == 0


class World:
    """Predictions below a folder, and the comparisons of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = {
            "1": [[arm, RSNA, 10] for arm in ("random", "moco", "clip", "cm_cgns")],
            "3": [[arm, SIIM, 10] for arm in ("moco", "cm_cgns")],
        }

    def file(self, arm: str, pair: str, seed: int) -> Path:
        return self.folder / f"{arm}-{pair}-{seed}.parquet"

    def add(self, arm: str, pair: str, seed: int, columns: dict, images: int = IMAGES) -> None:
        table = {"image": [f"i{i}" for i in range(images)], "group": GROUPS[:images]} | columns
        write_parquet(pd.DataFrame(table), self.file(arm, pair, seed))

    def compare(self, **settings) -> list[dict[str, str]]:
        keys = run_keys([group for groups in self.tables.values() for group in groups], [0, 1, 2])
        write_comparisons(
            tables=self.tables,
            seeds=[0, 1, 2],
            predictions=[self.file(arm, pair, seed) for arm, pair, _, seed in keys],
            csv=self.folder / "comparisons.csv",
            md=self.folder / "comparisons.md",
            **settings,
        )
        return list(csv.DictReader((self.folder / "comparisons.csv").read_text().splitlines()))


def classifier(skill: float, seed: int) -> dict:
    noise = np.random.default_rng([seed, int(100 * skill)]).normal(size=IMAGES)
    return {"probability pneumonia": skill * TARGET + noise, "target pneumonia": TARGET.astype(int)}


@pytest.fixture
def world(tmp_path):
    """On RSNA the reference beats a poor method and equals a twin; on SIIM all seeds are the same."""
    world = World(tmp_path)
    for seed in range(3):
        for arm, skill in (("cm_cgns", 3.0), ("moco", 3.0), ("random", 0.3), ("clip", 2.9)):
            world.add(arm, RSNA, seed, classifier(skill, seed))
        for arm in ("cm_cgns", "moco"):
            dice = np.where(TARGET, 0.5 if arm == "moco" else 0.4, 1.0)
            world.add(arm, SIIM, seed, {"dice": dice + np.arange(IMAGES) / 1e4})
    return world


@pytest.fixture
def rows(world):
    return world.compare(resamples=200)


def test_a_row_for_each_method(rows):
    assert list(rows[0]) == [
        "table", "dataset", "fraction", "method", "reference", "difference", "low", "high", "p", "p_holm",
        "resolvable", "n_test_groups", "n_seeds",
    ]  # fmt: skip
    found = [(row["table"], row["dataset"], row["fraction"], row["method"], row["n_seeds"]) for row in rows]
    assert found == [
        ("I", "RSNA", "10%", "Random Init", "3"),
        ("I", "RSNA", "10%", "MoCo", "3"),
        ("I", "RSNA", "10%", "CLIP", "3"),
        ("III", "SIIM", "10%", "MoCo", "3"),
    ]
    assert {row["reference"] for row in rows} == {"CM-CGNS"}
    assert {row["n_test_groups"] for row in rows} == {"60"}


def test_a_table_has_the_reference_s_runs_from_another(world):
    """And a run that two tables have is given once."""
    for seed in range(3):
        world.add("cm_cgns-mir", RSNA, seed, classifier(1.0, seed))
    world.tables = {"1": [["cm_cgns", RSNA, 10], ["random", RSNA, 10]], "4": [["cm_cgns-mir", RSNA, 10]]}
    alone = world.compare(resamples=50)
    assert [(row["table"], row["method"]) for row in alone] == [("I", "Random Init"), ("IV", "mir")]
    world.tables["4"].append(["cm_cgns", RSNA, 10])
    assert world.compare(resamples=50) == alone


def test_nothing_to_compare_is_said(world):
    world.tables = {"1": [["cm_cgns", RSNA, 10], ["moco", SIIM, 10]]}
    with pytest.raises(InputError, match="no two methods have a run in common"):
        world.compare()


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


def test_markdown_marks_what_remains_after_the_correction(rows, tmp_path):
    lines = (tmp_path / "comparisons.md").read_text().splitlines()
    assert lines[0].startswith("Difference: method minus reference")
    assert sum("**" in line for line in lines) == sum(float(row["p_holm"]) < 0.05 for row in rows) == 2
    (siim,) = [line for line in lines if line.startswith("| III")]
    assert "| III | SIIM | 10% | MoCo | CM-CGNS | 3.33 [" in siim and siim.endswith("| 60 | 3 |")


def test_another_reference(world):
    rows = world.compare(resamples=50, reference="random")
    assert [(row["method"], row["reference"]) for row in rows] == [
        *((name, "Random Init") for name in ("MoCo", "CLIP", "CM-CGNS")),
        *((name, "MoCo") for name in ("CLIP", "CM-CGNS")),  # the best there
        ("CM-CGNS", "MoCo"),  # on SIIM there is no random start
    ]


def test_runs_on_different_test_images_are_refused(world):
    shorter = {name: values[:-2] for name, values in classifier(3.0, 1).items()}
    world.add("moco", RSNA, 1, shorter, IMAGES - 2)
    with pytest.raises(InputError, match=r"moco-.*-1\.parquet: tested on other images"):
        world.compare(resamples=10)


def runs(*primary: float) -> np.ndarray:
    return np.array([[value, value] for value in primary])


def test_all_meet_the_reference_and_the_best_and_no_pair_comes_twice():
    values = {"cm_cgns": runs(0.6, 0.8), "a": runs(0.1, np.nan), "b": runs(0.7, 0.9), "c": runs(0.75, 0.75)}
    against = [("a", "cm_cgns"), ("b", "cm_cgns"), ("c", "cm_cgns")]
    assert pairs_of_cell(values, "cm_cgns") == [*against, ("a", "b"), ("c", "b")]
    values["cm_cgns"] = runs(0.8, 0.8)  # equal to the best
    assert pairs_of_cell(values, "cm_cgns") == against
    del values["cm_cgns"]
    assert pairs_of_cell(values, "cm_cgns") == [("a", "b"), ("c", "b")]


def test_the_best_was_chosen_from_all_pairs_and_is_corrected_for_them(world):
    """A fourth method beats CM-CGNS; of four others there are six pairs, of which three are shown."""
    for seed in range(3):
        world.add("mgca", RSNA, seed, classifier(6.0, seed))
    world.tables = {"1": [*world.tables["1"], ["mgca", RSNA, 10]]}
    rows = world.compare(resamples=200)
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


def test_the_resolvable_difference_stands_beside_the_interval_and_below_the_table(rows, tmp_path):
    """Above the interval's half width, and 2.80 / 1.96 of it where there are many degrees of freedom."""
    *_, siim = rows
    half = (float(siim["high"]) - float(siim["low"])) / 2
    assert float(siim["resolvable"]) == pytest.approx(2.845 / 2.001 * half, abs=0.02)  # t of 59 degrees
    text = (tmp_path / "comparisons.md").read_text()
    assert text.endswith(f"- III: SIIM 10% {siim['resolvable']} (60 patients, 3 seeds)\n")


def test_what_was_written_is_read_back(rows, tmp_path):
    found = read_rows(tmp_path / "comparisons.csv")
    assert to_csv(found) == (tmp_path / "comparisons.csv").read_text()
    empty = found[0]._replace(low=None, p=None, resolvable=None)
    (tmp_path / "one.csv").write_text(to_csv([empty]))
    assert read_rows(tmp_path / "one.csv") == [empty]


def test_no_comparison_leaves_the_header():
    assert to_csv([]).count("\n") == 1
