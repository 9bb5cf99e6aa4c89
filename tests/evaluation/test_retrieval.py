"""Retrieval: ranks by hand and by a slow loop, ties, chunks, chance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cmcgns.evaluation.retrieval import chance_scores, retrieval_scores


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def recall_slowly(u: np.ndarray, v: np.ndarray, groups: np.ndarray, k: int) -> float:
    """Sort the answers of every query, wrong ones first among equals."""
    hits = 0
    for i, query in enumerate(u):
        scores = [(round(-float(query @ answer), 6), groups[j] == groups[i]) for j, answer in enumerate(v)]
        hits += any(right for _, right in sorted(scores)[:k])
    return hits / len(u)


def test_recall_by_hand():
    # image 0 prefers its own text; image 1 prefers text 0, then its own; texts both prefer image 0
    u = np.array([[1.0, 0.0], [0.8, 0.6]])
    v = np.array([[1.0, 0.0], [0.96, 0.28]])
    groups = np.array(["a", "b"])
    scores = retrieval_scores(u[:, ::-1].copy(), v[:, ::-1].copy(), groups)
    # image 1: 0.8 with text 0, 0.936 with its own -> both images right; text 1: 0.96 with image 0, 0.936 with its own
    assert scores["image to report R@1"] == 0.5 + 0.5
    assert scores["report to image R@1"] == 0.5
    assert scores["report to image R@5"] == 1.0


def test_recall_is_that_of_a_slow_loop_with_several_right_answers_and_ties():
    rng = np.random.default_rng(0)
    groups = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9])
    shift = np.array([0.013, 0.05, 0.11, 0.23])
    u = unit(rng.integers(-1, 2, (14, 4)) + shift)  # few distinct directions: ties
    v = unit(rng.integers(-1, 2, (14, 4)) + shift)
    scores = retrieval_scores(u.astype(np.float32), v.astype(np.float32), groups, chunk=5)
    assert 0 < scores["image to report R@1"] < scores["image to report R@5"] < 1
    for k in (1, 5, 10):
        assert scores[f"image to report R@{k}"] == pytest.approx(recall_slowly(u, v, groups, k))
        assert scores[f"report to image R@{k}"] == pytest.approx(recall_slowly(v, u, groups, k))
    assert retrieval_scores(u.astype(np.float32), v.astype(np.float32), groups, chunk=1000) == scores


def test_a_collapsed_model_finds_nothing_and_a_perfect_one_everything():
    groups = np.arange(20)
    same = np.tile(unit(np.ones((1, 8))), (20, 1))
    assert set(retrieval_scores(same, same, groups).values()) == {0.0}
    assert set(retrieval_scores(np.eye(20), np.eye(20), groups).values()) == {1.0}


def test_another_image_of_the_study_is_no_mistake():
    u = np.eye(4)
    v = np.eye(4)[[1, 0, 3, 2]]  # each image is most similar to the text of its study's other image
    assert retrieval_scores(u, v, np.array(["a", "a", "b", "b"]))["image to report R@1"] == 1.0
    assert retrieval_scores(u, v, np.arange(4))["image to report R@1"] == 0.0


def test_an_embedding_that_is_not_finite_is_refused():
    broken = np.eye(3)
    broken[1, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        retrieval_scores(broken, np.eye(3), np.arange(3))


def test_chance_is_the_mean_over_all_orders():
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    expected = np.zeros(2)
    orders = list(itertools.permutations(range(6)))
    for order in orders:
        ranked = groups[list(order)]
        for i, k in enumerate((1, 5)):
            expected[i] += np.mean([group in ranked[:k] for group in groups]) / len(orders)
    chance = chance_scores(groups)
    assert chance["image to report R@1"] == pytest.approx(expected[0]) == pytest.approx((4 + 1 + 9) / 36)
    assert chance["report to image R@5"] == pytest.approx(expected[1])
    assert chance["image to report R@10"] == 1.0
