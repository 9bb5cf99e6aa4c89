"""The detector learns four squares, leaves the trunk and the boxes alone, and copes with empty splits of boxes."""

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from cmcgns.errors import InputError
from cmcgns.evaluation.average_precision import mean_average_precision
from cmcgns.evaluation.detect import fit_detector, predict_detections, select

SMALL = {"width": 0.0625, "lr": 0.01}
NONE = np.zeros((0, 4))


def _fit(trunk, squares, train=range(4), valid=range(4), boxes=None, **kwargs):
    images = squares[0]
    boxes = squares[1] if boxes is None else boxes
    return fit_detector(
        trunk, lambda i: images[i], boxes, train, valid, **{**SMALL, "max_epochs": 2, **kwargs}
    )


def test_four_squares_are_learnt_and_the_trunk_stays_bit_for_bit(trunk, squares, digest):
    before, copies = digest(trunk), [part.copy() for part in squares[1]]
    head, history = _fit(trunk, squares, max_epochs=60, patience=60, cache_bytes=1 << 30)
    found = predict_detections(trunk, head, lambda i: squares[0][i], range(4))
    score = mean_average_precision(found, squares[1])
    assert score > 0.8
    assert score == pytest.approx(max(row["valid_map"] for row in history), abs=1e-6)
    assert digest(trunk) == before and not trunk.training
    assert all(np.array_equal(a, b) for a, b in zip(copies, squares[1], strict=True))  # trap 13
    for part in found:
        assert part["boxes"].shape == (len(part["scores"]), 4) and part["boxes"].dtype == np.float32
        assert (np.diff(part["scores"]) <= 0).all() and part["scores"].min() >= 0.001


@pytest.mark.usefixtures("float64")
def test_same_seed_same_bytes_with_and_without_memory(trunk, squares, digest):
    heads = [
        _fit(trunk, squares, seed=s, cache_bytes=c)[0] for s, c in ((0, 0), (0, 0), (1, 0), (0, 1 << 30))
    ]
    states = [digest(head) for head in heads]
    assert states[0] == states[1] != states[2]
    for cached, live in zip(heads[3].parameters(), heads[0].parameters(), strict=True):
        torch.testing.assert_close(cached, live)


def test_one_training_image_without_a_box(trunk, squares):
    _, history = _fit(trunk, squares, train=[0], boxes=[NONE, *squares[1][1:]], valid=[1])
    assert all(0 <= row["valid_map"] <= 1 for row in history)


def test_without_validation_boxes_the_loss_decides(trunk, squares):
    boxes = [*squares[1][:2], NONE, NONE]
    _, history = _fit(trunk, squares, train=[0, 1], valid=[2, 3], boxes=boxes, max_epochs=3)
    assert [row["valid_map"] for row in history] == [None] * 3
    best = min(history, key=lambda row: row["valid_loss"])
    assert best["best"]


def test_one_test_image(trunk, squares):
    head, _ = _fit(trunk, squares, train=[0], valid=[1], max_epochs=1)
    assert len(predict_detections(trunk, head, lambda i: squares[0][i], [3])) == 1


def test_bf16_runs(trunk, squares):
    head, history = _fit(trunk, squares, precision="bf16-mixed", max_epochs=1)
    found = predict_detections(trunk, head, lambda i: squares[0][i], [0], precision="bf16-mixed")
    assert found[0]["boxes"].dtype == np.float32
    assert {p.dtype for p in head.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "box",
    [
        [0.5, 0.1, 0.4, 0.2],
        [0.1, 0.1, 0.1, 0.2],
        [10, 10, 40, 60],
        [0.1, 0.1, np.nan, 0.2],
        [-0.2, 0, 0.4, 0.4],
    ],
)
def test_a_box_that_is_none_is_named(trunk, squares, box):
    boxes = [squares[1][0], np.array([[0.1, 0.1, 0.2, 0.2], box]), *squares[1][2:]]
    with pytest.raises(InputError, match="image 1: box 1 is not a box"):
        _fit(trunk, squares, boxes=boxes)


@pytest.mark.parametrize(
    ("train", "valid", "message"), [([], [0], "no training"), ([0], [], "no validation")]
)
def test_an_empty_split_is_an_input_error(trunk, squares, train, valid, message):
    with pytest.raises(InputError, match=message):
        _fit(trunk, squares, train=train, valid=valid)


def test_tiny_images_are_refused(trunk, squares):
    small = (squares[0][:, :, :32, :32], squares[1])
    with pytest.raises(InputError, match="too small"):
        _fit(trunk, small)


def test_selection_by_hand():
    boxes = torch.tensor(
        [[[0, 0, 2, 2], [0, 0, 2, 1.5], [3, 3, 4, 4], [0, 0, 2, 0.9], [3, 3, 4, 4]]], dtype=torch.float32
    )
    scores = torch.tensor([[0.5, 0.9, 0.3, 0.4, 0.0005]])
    # the first overlaps the second by 3/4 and goes; the fourth overlaps it by 0.6 and goes; the last is too unlikely
    (found,) = select(boxes, scores, 0.001, 0.5, 100)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.3])
    np.testing.assert_allclose(found["boxes"], [[0, 0, 2, 1.5], [3, 3, 4, 4]])
    assert len(select(boxes, scores, 0.001, 0.8, 2)[0]["scores"]) == 2
    assert select(boxes, scores, 0.95, 0.5, 100)[0]["boxes"].shape == (0, 4)


@pytest.mark.parametrize("limit", [1, 5, 40, 1000])
def test_trying_the_best_few_first_changes_nothing(limit):
    generator = torch.Generator().manual_seed(limit)
    first = torch.rand(2, 900, 2, generator=generator)
    boxes = torch.cat([first, first + 0.05 + torch.rand(2, 900, 2, generator=generator)], 2)
    scores = torch.rand(2, 900, generator=generator)
    for found, b, s in zip(select(boxes, scores, 0.1, 0.5, limit), boxes, scores, strict=True):
        everything = nms(b[s >= 0.1], s[s >= 0.1], 0.5)[:limit]
        np.testing.assert_array_equal(found["scores"], s[s >= 0.1][everything].numpy())
        np.testing.assert_array_equal(found["boxes"], b[s >= 0.1][everything].numpy())
