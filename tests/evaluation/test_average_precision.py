"""Mean average precision by hand, against a literal loop, and against torchmetrics."""

import numpy as np
import pytest
import torch

from cmcgns.evaluation.average_precision import MAP_THRESHOLDS, RECALLS, mean_average_precision


def _iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def _slow_map(detections, truth, thresholds=MAP_THRESHOLDS, limit=100):
    """Average precision at 101 recall levels, word for word."""
    values = []
    for threshold in thresholds:
        hits = []  # (score, right?) over all images
        for found, boxes in zip(detections, truth, strict=True):
            order = np.argsort(-found["scores"], kind="stable")[:limit]
            free = set(range(len(boxes)))
            for d in order:
                best = max(free, key=lambda g: _iou(found["boxes"][d], boxes[g]), default=None)
                right = best is not None and _iou(found["boxes"][d], boxes[best]) >= threshold
                free -= {best} if right else set()
                hits.append((found["scores"][d], right))
        hits.sort(key=lambda hit: -hit[0])
        total = sum(len(boxes) for boxes in truth)
        points, right = [], 0
        for rank, (_, hit) in enumerate(hits, 1):
            right += hit
            points.append((right / total, right / rank))
        levels = [
            max((p for r, p in points if r >= level - 1e-12), default=0.0) for level in np.linspace(0, 1, 101)
        ]
        values.append(sum(levels) / 101)
    return sum(values) / len(values)


def _found(boxes, scores):
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "scores": np.array(scores, np.float32)}


NOTHING = np.zeros((0, 4))
BOX = np.array([[0.1, 0.1, 0.5, 0.5]])


def test_map_of_perfect_and_of_empty_detections():
    assert mean_average_precision([_found(BOX, [0.3])], [BOX]) == 1.0
    assert mean_average_precision([_found([], [])], [BOX]) == 0.0
    assert mean_average_precision([_found(BOX, [0.3])], [NOTHING]) is None
    assert mean_average_precision([], []) is None


def test_map_by_hand():
    # IoU of the first detection is 0.6: right at the five thresholds 0.40 ... 0.60, wrong at three
    shifted = np.array([[0.1, 0.1, 0.5, 0.34]])
    assert mean_average_precision([_found(shifted, [0.9])], [BOX], thresholds=[0.55]) == pytest.approx(1)
    assert mean_average_precision([_found(shifted, [0.9])], [BOX], thresholds=[0.65]) == 0
    # a false alarm on an empty image that scores higher halves the precision at every recall
    detections = [_found(BOX, [0.5]), _found(BOX, [0.9])]
    assert mean_average_precision(detections, [BOX, NOTHING]) == pytest.approx(0.5)
    # half of the boxes found: recall levels 0, 0.01 ... 0.50 count
    assert mean_average_precision([_found(BOX, [0.5]), _found([], [])], [BOX, BOX]) == pytest.approx(51 / 101)


def test_thresholds_are_the_papers():
    assert MAP_THRESHOLDS == (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)


def _random_case(rng, images=6, most=5):
    def boxes(n):
        first = rng.random((n, 2)) * 0.6
        return np.concatenate([first, first + 0.1 + rng.random((n, 2)) * 0.3], 1)

    truth = [boxes(rng.integers(0, most)) for _ in range(images)]
    truth[0] = boxes(2)
    detections = []
    for part in truth:
        near = part + rng.normal(0, 0.03, part.shape)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 0.01)
        all_boxes = np.concatenate([near, boxes(rng.integers(0, most))])
        detections.append(_found(all_boxes, rng.permutation(1000)[: len(all_boxes)] / 1000))
    return detections, truth


@pytest.mark.parametrize("seed", range(4))
def test_map_equals_the_slow_reference(seed):
    detections, truth = _random_case(np.random.default_rng(seed))
    slow = _slow_map(detections, truth)
    assert 0.05 < slow < 0.95
    assert mean_average_precision(detections, truth) == pytest.approx(slow, abs=1e-12)
    scaled = [{**found, "boxes": found["boxes"] * 224} for found in detections]
    assert mean_average_precision(scaled, [part * 224 for part in truth]) == pytest.approx(slow, abs=1e-5)


def _torchmetrics(detections, truth):
    from torchmetrics.detection import MeanAveragePrecision

    def tensors(**arrays):
        parts = {name: torch.tensor(np.float32(array)) for name, array in arrays.items()}
        return parts | {"labels": torch.zeros(len(parts["boxes"]), dtype=torch.int64)}

    # the library's own recall levels are float32, so whether 1 of 10 reaches 0.1 there is chance
    recalls = [level - 1e-9 for level in RECALLS.tolist()]
    metric = MeanAveragePrecision(iou_thresholds=list(MAP_THRESHOLDS), rec_thresholds=recalls)
    metric.warn_on_many_detections = False
    metric.update([tensors(**found) for found in detections], [tensors(boxes=part) for part in truth])
    return float(metric.compute()["map"])


@pytest.mark.parametrize(("images", "most"), [(1, 4), (6, 5), (30, 12), (30, 150)])
def test_map_equals_torchmetrics(images, most):
    detections, truth = _random_case(np.random.default_rng(images + most), images, most)
    detections[-1]["scores"][:] = 0.5  # ties, inside an image and between images
    detections[0]["scores"][:2] = 0.5
    ours = mean_average_precision(detections, truth)
    assert 0 < ours <= 1
    assert ours == pytest.approx(_torchmetrics(detections, truth), abs=1e-6)


def test_only_the_best_hundred_detections_count():
    wrong = np.tile([0.6, 0.6, 0.9, 0.9], (100, 1))
    detections = [_found(np.concatenate([wrong, BOX]), np.linspace(0.9, 0.1, 101))]
    assert mean_average_precision(detections, [BOX]) == 0
    assert mean_average_precision(detections, [BOX], max_detections=101) == pytest.approx(1 / 101)
