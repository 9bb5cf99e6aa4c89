"""YOLO target assignment by hand, and the loss against a literal loop over cells."""

import math

import pytest
import torch

from cmcgns.losses.yolo import assign, scale_loss, shape_iou, yolo_loss
from cmcgns.models.yolo import anchors

ANCHORS = torch.tensor([[0.1, 0.1], [0.2, 0.4], [0.5, 0.5]], dtype=torch.float64)


def _assign(boxes, image=None, anchor=ANCHORS, batch=1, grid=4):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    image = torch.zeros(len(boxes), dtype=torch.int64) if image is None else torch.tensor(image)
    return assign(boxes, image, anchor, batch=batch, grid=grid)


def test_shape_iou_has_no_extra_pixel():
    # 2 x 1 against 1 x 1 on a grid of cells: 1/2; with the released code's +1 it would be 4/6
    iou = shape_iou(torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 1.0], [2.0, 1.0], [1.0, 4.0]]))
    torch.testing.assert_close(iou, torch.tensor([[0.5, 1.0, 0.2]]))


def test_one_box_by_hand():
    # centre (0.3, 0.6) on a 4 x 4 grid: cell column 1, row 2, offsets 0.2 and 0.4
    targets = _assign([[0.3, 0.6, 0.2, 0.3]])
    expected = torch.zeros(1, 3, 4, 4, dtype=torch.bool)
    expected[0, 1, 2, 1] = True  # IoU with the anchors: 1/6, 3/4, 6/25
    assert torch.equal(targets.responsible, expected)
    assert torch.equal(targets.background, ~expected)
    wanted = torch.tensor([0.2, 0.4, 0.0, math.log(0.75)])
    torch.testing.assert_close(targets.values[0, 1, 2, 1], wanted, atol=1e-6, rtol=0)
    assert targets.values.count_nonzero() == 3


def test_well_fitting_anchors_of_the_cell_are_not_background():
    # 0.44 x 0.44 has IoU 0.41 with the second anchor and 0.77 with the third;
    # 0.35 x 0.4 has 0.57 with the second, its own, and 0.56 with the third
    assert _assign([[0.3, 0.6, 0.44, 0.44]]).background[0, :, 2, 1].tolist() == [True, True, False]
    both = _assign([[0.3, 0.6, 0.35, 0.4]])
    assert both.responsible[0, :, 2, 1].tolist() == [False, True, False]
    assert both.background[0, :, 2, 1].tolist() == [True, False, False]


def test_a_badly_fitting_responsible_anchor_is_not_background():
    """Trap 14: the released code pushes this anchor to 1 and to 0 at once."""
    targets = _assign([[0.3, 0.6, 0.9, 0.02]])
    assert shape_iou(torch.tensor([[0.9, 0.02]]), ANCHORS).max() < 0.5
    assert targets.responsible.sum() == 1
    assert not (targets.responsible & targets.background).any()


@pytest.mark.parametrize("centre", [(1.0, 1.0), (1.0, 0.5), (0.5, 1.0)])
def test_a_centre_on_the_border_belongs_to_the_last_cell(centre):
    """Trap 15."""
    targets = _assign([[*centre, 0.1, 0.1]])
    _, anchor, row, column = targets.responsible.nonzero()[0].tolist()
    assert (column, row) == tuple(min(3, int(c * 4)) for c in centre)
    x, y = targets.values[0, anchor, row, column, :2].tolist()
    assert ((column + x) / 4, (row + y) / 4) == pytest.approx(centre)


def test_boxes_go_to_their_own_image_and_the_later_of_two_wins():
    boxes = [[0.3, 0.6, 0.2, 0.4], [0.4, 0.7, 0.2, 0.4], [0.3, 0.6, 0.2, 0.4]]
    targets = _assign(boxes, image=[0, 0, 2], batch=3)
    assert targets.responsible.sum((1, 2, 3)).tolist() == [1, 0, 1]
    torch.testing.assert_close(targets.values[0, 1, 2, 1, :2], torch.tensor([0.6, 0.8]))
    torch.testing.assert_close(targets.values[2, 1, 2, 1, :2], torch.tensor([0.2, 0.4]))


def test_no_boxes():
    targets = _assign([], batch=2)
    assert not targets.responsible.any() and targets.background.all()
    # every anchor at probability 1/2: 0.5 * ln 2 on average
    assert scale_loss(torch.zeros(2, 3, 6, 4, 4), targets).item() == pytest.approx(
        0.5 * math.log(2), rel=1e-5
    )


def _bce(p, t):
    return -(t * math.log(p) if t else 0) - ((1 - t) * math.log(1 - p) if t < 1 else 0)


def _slow_loss(outputs, boxes, shapes):
    """Python loops over images, boxes and cells, with probabilities instead of logits."""
    total = 0.0
    for output, scale in zip(outputs, shapes, strict=True):
        batch, count, _, grid, _ = output.shape
        mine, quiet = {}, set()
        for b in range(batch):
            for x1, y1, x2, y2 in boxes[b].tolist():
                w, h, cx, cy = x2 - x1, y2 - y1, (x1 + x2) / 2 * grid, (y1 + y2) / 2 * grid
                i, j = min(int(cx), grid - 1), min(int(cy), grid - 1)
                ious = []
                for aw, ah in scale.tolist():
                    inter = min(w, aw) * min(h, ah)
                    ious.append(inter / (w * h + aw * ah - inter))
                best = ious.index(max(ious))
                quiet |= {(b, a, j, i) for a in range(count) if ious[a] > 0.5} | {(b, best, j, i)}
                aw, ah = scale[best].tolist()
                mine[b, best, j, i] = (cx - i, cy - j, math.log(w / aw), math.log(h / ah))
        cells = [
            (b, a, j, i) for b in range(batch) for a in range(count) for j in range(grid) for i in range(grid)
        ]
        for b, a, j, i in cells:
            x, y, w, h, found, kind = output[b, a, :, j, i].tolist()
            px, py, pf, pk = (1 / (1 + math.exp(-z)) for z in (x, y, found, kind))
            loss = 0.0
            if (b, a, j, i) in mine:
                tx, ty, tw, th = mine[b, a, j, i]
                loss += 2.5 * (_bce(px, tx) + _bce(py, ty)) + 2.5 * ((w - tw) ** 2 + (h - th) ** 2)
                loss += _bce(pf, 1) + _bce(pk, 1)
            if (b, a, j, i) not in quiet:
                loss += 0.5 * _bce(pf, 0)
            total += loss / len(cells)
    return total


def test_the_loss_equals_a_loop_over_cells():
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(3, 3, 6, g, g, generator=generator) for g in (2, 4, 8)]
    first = torch.rand(7, 2, generator=generator) * 0.6
    corners = torch.cat([first, first + 0.03 + torch.rand(7, 2, generator=generator) * 0.35], 1)
    boxes = [corners[:4], corners[:0], corners[4:]]
    before = corners.clone()
    loss = yolo_loss(outputs, boxes, anchors())
    assert loss.item() == pytest.approx(_slow_loss(outputs, boxes, anchors()), rel=1e-5)
    assert torch.equal(corners, before)
