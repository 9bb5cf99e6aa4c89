"""Metrics against hand-computed values and slow, obvious references."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.errors import InputError
from cmcgns.evaluation.average_precision import mean_average_precision
from cmcgns.evaluation.metrics import (
    accuracy,
    auroc_metrics,
    bootstrap_interval,
    class_auroc,
    detection_metrics,
    dice_metrics,
    dice_per_image,
    macro_auroc,
    mask_counts,
    weighted_mean,
)

# --- AUROC and accuracy


def test_auroc_by_hand():
    # positives 0.8, 0.4 against negatives 0.4, 0.1: pairs won 1, 1, tied 1/2, won 1
    scores, targets = np.array([0.8, 0.4, 0.4, 0.1]), np.array([1, 1, 0, 0])
    assert class_auroc(scores, targets).tolist() == [3.5 / 4]
    assert class_auroc(-scores, targets).tolist() == [0.5 / 4]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=1, max_size=15))
def test_auroc_equals_a_loop_over_pairs(rows):
    scores, targets, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    won = pairs = 0.0
    for s, t, w in zip(scores, targets, weights, strict=True):
        for s2, t2, w2 in zip(scores, targets, weights, strict=True):
            if t == 1 and t2 == 0:
                pairs += w * w2
                won += w * w2 * (1.0 if s > s2 else 0.5 if s == s2 else 0.0)
    got = class_auroc(scores, targets, weights[None])[0]
    assert got == pytest.approx(won / pairs) if pairs else math.isnan(got)


def test_a_class_with_one_value_is_left_out_and_counted():
    scores = np.array([[0.9, 0.1, 0.2], [0.2, 0.7, 0.1], [0.4, 0.3, 0.3]])
    targets = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1]])
    report = auroc_metrics(scores, targets, ["a", "b", "c"])
    assert report["auroc_per_class"] == {"a": 1.0, "b": None, "c": 0.5}
    assert (report["auroc"], report["auroc_classes"], report["classes"]) == (0.75, 2, 3)
    json.dumps(report, allow_nan=False)


def test_one_test_image_has_no_auroc_but_an_accuracy():
    """Trap 11: the released code fails on a last batch of one image."""
    report = auroc_metrics(np.array([[0.3]]), np.array([[1]]), ["pneumonia"])
    assert (report["auroc"], report["auroc_classes"]) == (None, 0)
    assert accuracy(np.array([[0.2, 0.5, 0.3]]), np.array([1])) == 1.0


def test_accuracy_by_hand():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.9, 0.0, 0.1]])
    assert accuracy(probabilities, np.array([1, 1, 2, 0])) == 0.75


@pytest.mark.parametrize(
    ("scores", "targets"),
    [
        (np.zeros((2, 2)), np.zeros((2, 1))),
        (np.zeros((0, 1)), np.zeros((0, 1))),
        (np.full((2, 1), np.nan), np.eye(2, 1)),
    ],
)
def test_bad_predictions_are_named(scores, targets):
    with pytest.raises(InputError, match="shape|NaN"):
        auroc_metrics(scores, targets, ["a"])


# --- bootstrap


def test_bootstrap_draws_whole_groups():
    # two groups of two images, values 0 and 1: the mean of a resample is 0, 1/2 or 1, never in between
    seen = []

    def statistic(weights):
        seen.append(weights)
        return weighted_mean(np.array([0, 0, 1, 1]), weights)

    interval = bootstrap_interval(statistic, ["a", "a", "b", "b"], resamples=200, seed=3)
    weights = np.concatenate(seen)
    assert weights.shape == (200, 4) and (weights.sum(1) == 4).all()
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 2] == weights[:, 3]).all()
    assert interval == {"low": 0.0, "high": 1.0, "resamples": 200}


def test_bootstrap_interval_of_an_auroc_matches_resampling_by_hand():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 2)) < 0.4).astype(int)
    scores = targets * 0.8 + rng.random((60, 2))
    groups = np.repeat(np.arange(30), 2).astype(str)
    interval = bootstrap_interval(lambda w: macro_auroc(scores, targets, w), groups, resamples=2000, seed=1)
    repeats = []
    for _ in range(2000):
        drawn = rng.integers(0, 30, 30)
        rows = np.concatenate([[2 * g, 2 * g + 1] for g in drawn])
        repeats.append(macro_auroc(scores[rows], targets[rows])[0])
    assert [interval["low"], interval["high"]] == pytest.approx(
        np.quantile(repeats, [0.025, 0.975]), abs=0.01
    )


def test_bootstrap_repeats_and_copes_with_undefined_resamples():
    targets, scores = np.array([[1], [0], [0]]), np.array([[0.2], [0.1], [0.3]])
    runs = [
        bootstrap_interval(lambda w: macro_auroc(scores, targets, w), list("abc"), resamples=300, seed=seed)
        for seed in (0, 0)
    ]
    assert runs[0] == runs[1]
    assert 0 < runs[0]["resamples"] < 300  # the positive image is missing from some
    never = bootstrap_interval(lambda w: macro_auroc(scores, 0 * targets, w), list("abc"), resamples=5)
    assert never == {"low": None, "high": None, "resamples": 0}


# --- detection


def _found(boxes, scores):
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "scores": np.array(scores, np.float32)}


NOTHING = np.zeros((0, 4))
BOX = np.array([[0.1, 0.1, 0.5, 0.5]])


def test_the_official_filter_inflates_map():
    """Fact 6: a detector that misses most boxes and cries wolf on negatives looks three times as good."""
    rng = np.random.default_rng(0)
    detections, truth = [], []
    for i in range(80):
        truth.append(BOX if i % 4 == 0 else NOTHING)
        if i % 4 == 0 and i % 8 == 0:
            detections.append(_found(BOX + rng.normal(0, 0.005, 4), [0.6 + 0.3 * rng.random()]))  # found
        elif i % 4 == 0:
            detections.append(_found(BOX + 0.4, [0.1]))  # missed
        else:
            detections.append(_found(BOX, [0.6 + 0.35 * rng.random()] if i % 2 else [0.3]))  # false alarm
    report = detection_metrics(detections, truth)
    assert report["images"] == 80 and report["images_official_filter"] == 10
    assert report["map_official_filter"] == pytest.approx(1.0)
    assert report["map"] < 0.25
    by_hand = [i for i in range(80) if len(truth[i]) and (detections[i]["scores"] >= 0.5).any()]
    expected = mean_average_precision([detections[i] for i in by_hand], [truth[i] for i in by_hand])
    assert report["map_official_filter"] == expected


def test_the_official_filter_with_no_image_left():
    report = detection_metrics([_found(BOX, [0.4])], [BOX])
    assert report == {"map": 1.0, "images": 1, "map_official_filter": None, "images_official_filter": 0}


# --- Dice


def _masks(*rows):
    return np.array(rows)[:, None, :]


def test_dice_by_hand():
    target = _masks([1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0])
    predicted = _masks([1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0])
    counts = mask_counts(predicted, target)
    assert counts.tolist() == [[1, 3, 2], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert dice_per_image(counts).tolist() == [0.4, 1, 0, 0]
    assert dice_metrics(counts) == {
        "dice_official": 1.4 / 4,
        "dice_positive": 0.2,
        "dice_all_empty_floor": 0.5,
        "detection_rate": 0.5,
        "false_positive_rate": 0.5,
        "images": 4,
        "positives": 2,
    }


def test_predicting_nothing_scores_the_floor():
    target = np.zeros((5, 4, 4))
    target[0, 1:3] = 1
    report = dice_metrics(mask_counts(np.zeros_like(target), target))
    assert report["dice_official"] == report["dice_all_empty_floor"] == 0.8
    assert report["dice_positive"] == report["detection_rate"] == report["false_positive_rate"] == 0


def test_soft_targets_are_cut_at_one_half():
    assert mask_counts(_masks([1, 1, 1]), _masks([0.5, 0.51, 1.0])).tolist() == [[2, 3, 2]]


def test_dice_without_positives_or_without_negatives_is_none():
    empty = dice_metrics(np.array([[0, 0, 0]]))
    assert empty["dice_positive"] is None and empty["detection_rate"] is None and empty["dice_official"] == 1
    assert dice_metrics(np.array([[2, 2, 2]]))["false_positive_rate"] is None
    json.dumps(empty, allow_nan=False)


def test_masks_of_different_sizes_are_refused():
    with pytest.raises(InputError, match="masks of shape"):
        mask_counts(np.zeros((1, 4, 4)), np.zeros((1, 8, 8)))
