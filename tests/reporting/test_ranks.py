"""Mean ranks and their tests, against values by hand and those of Demsar (2006)."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from cmcgns.errors import InputError
from cmcgns.reporting.ranks import cliques, critical_difference, draw, friedman, rank, ranking, write_ranks

SCORES = np.array([[3, 2, 1], [3, 2, 1], [2, 3, 1], [0.1 + 0.2, 0.3, 0.1]])
RANKS = [[1, 2, 3], [1, 2, 3], [2, 1, 3], [1.5, 1.5, 3]]


def write(folder: Path, scores: dict[tuple[str, str, int], list[float | None]]) -> dict[str, Path]:
    """Write the ranks of {(arm, pair, fraction): the value of each seed}; the files by their names."""
    values = [value for found in scores.values() for value in found]
    files = [folder / f"{i}.json" for i in range(len(values))]
    for file, value in zip(files, values, strict=True):
        file.write_text(json.dumps({"primary": value}))
    seeds = list(range(len(next(iter(scores.values())))))
    outputs = {name: folder / f"ranks.{name}" for name in ("csv", "md", "svg")}
    write_ranks(cells=[list(cell) for cell in scores], seeds=seeds, metrics=files, **outputs)
    return outputs


def test_the_highest_score_is_first_and_equal_ones_share_a_rank():
    assert rank(SCORES).tolist() == RANKS


def test_friedman_by_hand():
    """Rank sums 5.5, 6.5 and 12 about 8; squared ranks about 2 sum to 2 + 2 + 2 + 1.5; p = exp(-chi2 / 2)."""
    chi2 = 2 * (2.5**2 + 1.5**2 + 4**2) / 7.5
    assert friedman(np.array(RANKS)) == pytest.approx((chi2, math.exp(-chi2 / 2)))


def test_friedman_is_that_of_scipy_with_ties():
    scores = np.random.default_rng(0).integers(0, 4, (9, 5))
    assert friedman(rank(scores)) == pytest.approx(tuple(friedmanchisquare(*-scores.T)))


def test_methods_that_are_always_equal_do_not_differ():
    assert friedman(np.full((4, 3), 2.0)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_nemenyi_s_quantiles_are_those_of_demsar_s_table_5(methods, quantile):
    found = critical_difference(methods, 7) / math.sqrt(methods * (methods + 1) / 42)
    assert found == pytest.approx(quantile, abs=1e-3)


def test_the_critical_difference_of_demsar_s_example():
    """Four classifiers on fourteen data sets."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_cliques_are_the_longest_runs_below_the_critical_difference():
    assert cliques([1, 2, 2.5, 4], 1.6) == [(0, 2), (2, 3)]
    assert cliques([1, 2, 3], 1.0) == []
    assert cliques([1, 1, 1], 0.5) == [(0, 2)]


@pytest.fixture
def scores():
    """Random is last everywhere; MoCo is ahead of CM-CGNS in one of four cells. A cell without all three is no block."""
    pairs = ["classification-rsna"] * 3 + ["segmentation-siim"]
    fractions = [1, 10, 100, 1]
    values = {"random": [0.1, 0.1, 0.1, 0.1], "moco": [0.5, 0.5, 0.9, 0.2], "cm_cgns": [0.6, 0.7, 0.8, 0.2]}
    made = {
        (arm, pair, fraction): [value - 0.05, value + 0.05]
        for arm, found in values.items()
        for pair, fraction, value in zip(pairs, fractions, found, strict=True)
    }
    undefined = {"random": [0.9, None], "moco": [None, 0.5], "cm_cgns": [None, None], "mgca": [None, None]}
    return made | {(arm, "detection-rsna", 1): found for arm, found in undefined.items()}


@pytest.fixture
def written(tmp_path, scores):
    return write(tmp_path, scores)


def test_the_table_by_hand(written):
    """CM-CGNS: 1 1 2 1.5, MoCo: 2 2 1 1.5, random: 3; over the two data sets CM-CGNS is first, then equal."""
    rows = list(csv.DictReader(written["csv"].read_text().splitlines()))
    assert [(r["over"], r["blocks"], r["method"], r["mean_rank"]) for r in rows] == [
        ("cells", "4", "CM-CGNS", "1.38"),
        ("cells", "4", "MoCo", "1.62"),
        ("cells", "4", "Random Init", "3.00"),
        ("data sets", "2", "CM-CGNS", "1.25"),
        ("data sets", "2", "MoCo", "1.75"),
        ("data sets", "2", "Random Init", "3.00"),
    ]
    tests = ("friedman_chi2", "friedman_p", "critical_difference")
    assert [rows[0][key] for key in tests] == ["6.53", "0.0381", "1.66"]


def test_the_markdown_has_both_rankings_side_by_side(written):
    lines = written["md"].read_text().splitlines()
    assert lines[2] == "| Method | Mean rank over 4 cells | Mean rank over 2 data sets |"
    assert "| MoCo | 1.62 | 1.75 |" in lines
    assert lines[-1].startswith("| Critical difference | 1.66 | 2.34 |")


def test_the_plot_names_every_method_and_is_the_same_again(written, tmp_path, scores):
    before = written["svg"].read_bytes()
    assert all(name in before.decode() for name in ("CM-CGNS", "MoCo", "Random Init"))
    assert write(tmp_path, scores)["svg"].read_bytes() == before


def test_the_plot_joins_what_is_not_told_apart():
    axes = draw(ranking("cells", ["a", "b", "c"], np.array(RANKS))).axes[0]
    marks = [line.get_xdata()[0] for line in axes.lines[:3]]
    assert marks == [1.375, 1.625, 3.0]
    bars = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 3]
    assert np.allclose(bars, [[1.375 - 0.03, 3 + 0.03]])  # 1.625 is less than 1.657


def test_nothing_to_rank_is_said(tmp_path):
    one = {("random", "detection-rsna", 1): [0.5], ("moco", "detection-rsna", 1): [None]}
    with pytest.raises(InputError, match="no cell in which two methods can be ranked"):
        write(tmp_path, one)
