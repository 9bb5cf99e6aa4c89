"""Paired comparisons against slow references, and how often they are wrong on simulated studies."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pandas as pd
import pytest

from cmcgns.evaluation.average_precision import mean_average_precision
from cmcgns.evaluation.statistics import compare, draw_weights, holm, resampled_metric


def slow_auroc(scores, targets) -> float:
    """Share of (positive, negative) pairs in the right order, ties half."""
    pairs = [(p, n) for p in scores[targets == 1] for n in scores[targets == 0]]
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs)


def slow_p(t: float, freedom: float) -> float:
    """Two-sided p-value of Student's t by the trapezoid rule on its density from 0 to |t|."""
    x = np.linspace(0, abs(t), 100_001)
    norm = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    density = norm * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    return 1 - 2 * ((density[1:] + density[:-1]) / 2 * np.diff(x)).sum()


def repeated(weights: np.ndarray) -> np.ndarray:
    """Row numbers, each as often as its weight says."""
    return np.repeat(np.arange(len(weights)), weights)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_whole_patients_are_drawn_and_the_same_ones_each_time():
    groups = ["b", "a", "b", "c", "a", "b"]
    weights = draw_weights(groups, 50)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all() and len(np.unique(weights, axis=0)) > 5
    assert (weights == draw_weights(groups, 50)).all()
    assert (weights != draw_weights(groups, 50, seed=1)).any()


def test_auroc_of_a_resample_is_that_of_repeated_images(rng):
    targets = np.array([[0, 1], [1, 0], [1, 1], [0, 0], [1, 0], [0, 1], [1, 1], [0, 0]])
    scores = rng.integers(0, 5, (8, 2)) / 4  # with ties
    columns = {"probability a": scores[:, 0], "probability b": scores[:, 1]}
    table = pd.DataFrame(columns | {"target a": targets[:, 0], "target b": targets[:, 1]})
    weights = rng.integers(1, 4, (5, 8))
    found = resampled_metric(table, weights)
    for value, row in zip(found, np.concatenate([np.ones((1, 8), int), weights]), strict=True):
        i = repeated(row)
        assert value == pytest.approx(np.mean([slow_auroc(scores[i, c], targets[i, c]) for c in range(2)]))


def test_a_resample_without_a_class_has_no_auroc():
    table = pd.DataFrame({"probability a": [0.1, 0.9], "target a": [0, 1]})
    assert resampled_metric(table, np.array([[2, 0], [1, 1]])) == pytest.approx([1, math.nan, 1], nan_ok=True)


def test_accuracy_and_dice_of_a_resample_are_weighted_means():
    classes = {"probability a": [0.6, 0.2, 0.5], "probability b": [0.4, 0.8, 0.5], "target": [0, 0, 1]}
    weights = np.array([[3, 1, 0], [0, 1, 2]])
    assert resampled_metric(pd.DataFrame(classes), weights) == pytest.approx([1 / 3, 3 / 4, 0])
    masks = pd.DataFrame({"dice": [1.0, 0.5, 0.0], "target": [3, 4, 5], "predicted": [3, 4, 5]})
    assert resampled_metric(masks, weights) == pytest.approx([0.5, 3.5 / 4, 0.5 / 3])


def test_map_of_a_resample_is_that_of_repeated_images(rng):
    """Random boxes near the true ones, images without either, and more detections than count."""
    images = []
    for i in range(12):
        corner = rng.random((i % 3, 2)) * 0.6
        truth = np.concatenate([corner, corner + 0.2 + 0.2 * rng.random((i % 3, 2))], 1)
        near = truth + rng.normal(0, 0.03, truth.shape)
        corner = rng.random((0 if i == 4 else 3, 2)) * 0.6
        found = np.concatenate([near, np.concatenate([corner, corner + 0.3], 1)])
        images.append((truth, found, rng.random(len(found))))
    many = np.tile([[0.1, 0.1, 0.4, 0.4]], (105, 1))
    images.append((many[:1], many + np.linspace(1, 0, 105)[:, None], np.linspace(1, 0.5, 105)))
    table = pd.DataFrame(
        {
            "boxes": [found.tolist() for _, found, _ in images],
            "scores": [score.tolist() for *_, score in images],
            "target_boxes": [truth.tolist() for truth, *_ in images],
        }
    )
    weights = rng.integers(0, 4, (6, 13))
    values = resampled_metric(table, weights)
    for value, row in zip(values, np.concatenate([np.ones((1, 13), int), weights]), strict=True):
        drawn = [images[i] for i in repeated(row)]
        slow = mean_average_precision(
            [{"boxes": f, "scores": s} for _, f, s in drawn], [t for t, *_ in drawn]
        )
        assert value == pytest.approx(slow, abs=1e-12)
    assert 0.1 < values[0] < 0.9 and len(set(values)) > 4
    nothing = resampled_metric(table, (np.arange(13) == 0)[None].astype(int))
    assert math.isnan(nothing[1])  # no true box was drawn


def test_the_variance_is_that_of_patients_plus_that_of_seeds():
    first = np.array([[0.6, 0.58, 0.62], [0.8, 0.78, 0.82]])
    second = np.full((2, 3), 0.5)
    found = compare(first, second, groups=5)
    patients, seeds = 0.0008 * 5 / 4, 0.02 / 2  # of (0.18, 0.22), and of (0.1, 0.3) over two
    freedom = (patients + seeds) ** 2 / (patients**2 / 4 + seeds**2 / 1)
    assert found.difference == pytest.approx(0.2)
    assert found.p == pytest.approx(slow_p(0.2 / math.sqrt(patients + seeds), freedom), abs=1e-6)
    assert found.low < 0 < found.high and found.low + found.high == pytest.approx(0.4)
    reach = found.high - found.difference
    assert slow_p(reach / math.sqrt(patients + seeds), freedom) == pytest.approx(0.05, abs=1e-6)
    assert (found.groups, found.seeds) == (5, 2)
    other = compare(second, first, groups=5)
    assert other.p == found.p and other.low == pytest.approx(-found.high)


def test_with_one_seed_only_patients_count():
    found = compare(np.array([[0.2, 0.18, 0.22]]), np.zeros((1, 3)), groups=5)
    assert found.p == pytest.approx(slow_p(0.2 / math.sqrt(0.001), 4), abs=1e-6) and found.seeds == 1


def test_equal_predictions_do_not_differ():
    values = np.random.default_rng(0).random((3, 10))
    assert compare(values, values, groups=9) == (0.0, 0.0, 0.0, 1.0, None, 9, 3)


@pytest.mark.parametrize("case", ["one patient", "never defined", "seldom defined"])
def test_without_enough_there_is_no_p_value(case):
    values = np.random.default_rng(0).random((2, 9))
    if case != "one patient":
        values[:, (0 if case == "never defined" else 4) :] = np.nan
    found = compare(values, np.zeros((2, 9)), groups=1 if case == "one patient" else 7)
    assert found.p is None and found.low is None
    assert (found.difference is None) == (case == "never defined")


def test_what_is_resolvable_is_found_in_four_of_five_studies(rng):
    """Against simulated t tests of the seeds alone: three seeds need far more than (1.96 + 0.84) errors."""
    for seeds, errors in ((3, 5.65), (200, 2.81)):
        values = rng.normal(0.1, 0.01, (seeds, 1)).repeat(4, axis=1)
        found = compare(values, np.zeros((seeds, 4)), groups=9)
        error = values[:, 0].std(ddof=1) / math.sqrt(seeds)
        assert found.resolvable == pytest.approx(errors * error, rel=0.005)
        sample = rng.normal(errors / math.sqrt(seeds), 1, (4000, seeds))
        t = sample.mean(1) / sample.std(1, ddof=1) * math.sqrt(seeds)
        critical = {3: 4.303, 200: 1.972}[seeds]
        assert (np.abs(t) > critical).mean() == pytest.approx(0.8, abs=0.03)


def test_holm_by_hand():
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == [] and holm([None]) == [None]


# -- simulated studies ---------------------------------------------------------------------------------------------


def study(rng, *, patients: int, seeds: int, effect=0.0, patient_sd=1.0, seed_sd=0.0, noise=0.5):
    """Dice-like values of two methods, three images a patient, as tables of predictions by seed.

    A patient suits one method better or worse, a seed moves a method as a whole, and the rest is noise.
    """
    groups = np.repeat([f"p{i}" for i in range(patients)], 3)
    runs = []
    for method in range(2):
        suits = np.repeat(rng.normal(0, patient_sd, patients), 3)
        level = rng.normal(method * effect, seed_sd, seeds)
        runs.append([pd.DataFrame({"dice": suits + x + rng.normal(0, noise, len(groups))}) for x in level])
    return groups, runs


@cache
def draws(groups: tuple[str, ...]) -> np.ndarray:
    return draw_weights(groups, 100)


def compared(groups, runs):
    weights = draws(tuple(groups))
    values = [np.stack([resampled_metric(table, weights) for table in tables]) for tables in runs]
    return compare(values[1], values[0], len(set(groups)))


WORLDS = {
    "patients": {"patients": 40, "seeds": 3},
    "seeds": {"patients": 60, "seeds": 3, "patient_sd": 0.1, "seed_sd": 1.0, "noise": 0.1},
    "both": {"patients": 50, "seeds": 4, "seed_sd": 0.15},
    "one seed": {"patients": 40, "seeds": 1},
}


@pytest.mark.parametrize("world", WORLDS)
def test_without_a_difference_one_in_twenty_is_found(rng, world):
    p = np.array([compared(*study(rng, **WORLDS[world])).p for _ in range(400)])
    assert 0.02 <= (p < 0.05).mean() <= 0.085  # 0.05 within about three standard errors
    assert 0.4 <= (p < 0.5).mean() <= 0.6


@pytest.mark.parametrize("world", ["patients", "both"])
def test_a_difference_is_found_and_lies_in_the_interval(rng, world):
    found = [compared(*study(rng, effect=1.0, **WORLDS[world])) for _ in range(200)]
    assert np.mean([c.p < 0.05 and c.difference > 0 for c in found]) > 0.9
    assert 0.9 <= np.mean([c.low <= 1.0 <= c.high for c in found]) <= 0.99


def test_auroc_without_a_difference(rng):
    """Two methods that see the same disease with noise of their own: classification end to end."""
    p, groups = [], np.repeat(np.arange(50), 2).astype(str)
    for _ in range(100):
        target = np.repeat(rng.random(50) < 0.4, 2).astype(int)
        case = rng.normal(target, 1.0)
        tables = [
            [
                pd.DataFrame({"probability a": case + rng.normal(0, 0.7, 100), "target a": target})
                for _ in range(3)
            ]
            for _ in range(2)
        ]
        p.append(compared(groups, tables).p)
    assert 0.005 <= (np.array(p) < 0.05).mean() <= 0.1


def test_what_groups_are_called_does_not_count():
    """Ids are hashed with another key in each copy of the data; intervals are the same."""
    groups = ["b", "a", "b", "c", "a", "d"]
    renamed = [{"a": "z", "b": "y", "c": "x", "d": "w"}[name] for name in groups]
    assert (draw_weights(groups, 50) == draw_weights(renamed, 50)).all()
