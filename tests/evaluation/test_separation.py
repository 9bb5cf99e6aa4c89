"""Separation of classes: planted clusters, a slow reference, patients."""

from __future__ import annotations

import numpy as np
import pytest

from cmcgns.evaluation.separation import separation


def test_far_clusters_are_pure_and_noise_is_at_chance():
    rng = np.random.default_rng(0)
    targets, groups = np.repeat(np.arange(5), 40), np.arange(200)
    clusters = np.eye(5)[targets] + 0.05 * rng.normal(size=(200, 5))
    apart = separation(clusters, targets, groups)
    assert apart["knn_purity"] == apart["knn_accuracy"] == 1.0 and apart["silhouette"] > 0.8
    assert apart["knn_chance"] == pytest.approx(39 / 199)
    noise = separation(rng.normal(size=(200, 30)), targets, groups)
    assert noise["knn_purity"] == pytest.approx(noise["knn_chance"], abs=0.05)
    assert abs(noise["silhouette"]) < 0.05


def test_neighbours_are_those_of_a_slow_loop():
    rng = np.random.default_rng(1)
    x, targets, groups = rng.normal(size=(30, 4)), rng.integers(3, size=30), rng.integers(12, size=30)
    found = separation(x, targets, groups)
    cosine = (x @ x.T) / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(x, axis=1))
    purity, right = [], []
    for i in range(30):
        others = [j for j in range(30) if groups[j] != groups[i]]
        nearest = targets[sorted(others, key=lambda j, i=i: -cosine[i, j])[: found["k"]]]
        votes = np.bincount(nearest, minlength=3)
        winners = np.flatnonzero(votes == votes.max())
        purity.append(np.mean(nearest == targets[i]))
        right.append((targets[i] in winners) / len(winners))
    assert found["knn_purity"] == pytest.approx(np.mean(purity))
    assert found["knn_accuracy"] == pytest.approx(np.mean(right))


def test_a_patient_s_other_films_are_no_neighbours():
    # two films of each patient are nearly equal, and the classes lie at random
    rng = np.random.default_rng(2)
    patients = np.repeat(np.arange(40), 2)
    x = np.repeat(rng.normal(size=(40, 8)), 2, axis=0) + 1e-6 * rng.normal(size=(80, 8))
    targets = np.repeat(rng.integers(5, size=40), 2)
    with_patients = separation(x, targets, patients)
    without = separation(x, targets, np.arange(80))
    assert with_patients["knn_purity"] < without["knn_purity"] - 0.05
