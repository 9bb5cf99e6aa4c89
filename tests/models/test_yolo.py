"""The YOLO head's shapes, and that decoding undoes the assignment."""

import pytest
import torch

from cmcgns.losses.yolo import assign
from cmcgns.models.yolo import YoloHead, anchors, decode


def _maps(channels, size, batch=2):
    return [
        torch.zeros(batch, c, size // stride, size // stride)
        for c, stride in zip(channels, (8, 16, 32), strict=True)
    ]


def test_anchors_at_the_published_size():
    assert (anchors() * 416).round().int().tolist() == [
        [[116, 90], [156, 198], [373, 326]],
        [[30, 61], [62, 45], [59, 119]],
        [[10, 13], [16, 30], [33, 23]],
    ]


@pytest.mark.parametrize(("channels", "size"), [((512, 1024, 2048), 224), ((128, 256, 512), 64)])
def test_output_shapes(channels, size):
    with torch.device("meta"):  # shapes only: the full head has 60 million weights
        head = YoloHead(channels)
        outputs = head([part.to("meta") for part in _maps(channels, size)])
    assert [tuple(part.shape) for part in outputs] == [(2, 3, 6, size // s, size // s) for s in (32, 16, 8)]


def test_the_papers_channels():
    with torch.device("meta"):
        head = YoloHead((512, 1024, 2048))
    convolutions = [
        [(m.in_channels, m.out_channels, m.kernel_size[0], m.bias is not None) for m in scale.modules()
         if isinstance(m, torch.nn.Conv2d)]
        for scale in head.scales
    ]  # fmt: skip
    for given, first, narrow in zip(convolutions, (2048, 1280, 640), (512, 256, 128), strict=True):
        ladder = [(first, narrow, 1, False), (narrow, 2 * narrow, 3, False)]
        ladder += [(2 * narrow, narrow, 1, False), (narrow, 2 * narrow, 3, False)] * 2
        assert given == [*ladder, (2 * narrow, 18, 1, True)]


def test_width_scales_the_head():
    counts = [sum(p.numel() for p in YoloHead((8, 16, 32), width=w).parameters()) for w in (0.25, 0.125)]
    assert 3 < counts[0] / counts[1] < 4


@pytest.mark.parametrize("box", [[0.31, 0.62, 0.24, 0.37], [0.95, 0.97, 0.08, 0.05], [0.5, 0.5, 0.9, 0.8]])
@pytest.mark.parametrize("scale", [0, 1, 2])
def test_decoding_undoes_the_assignment(box, scale):
    grid, shapes = 2 << scale, anchors()
    targets = assign(torch.tensor([box]), torch.tensor([0]), shapes[scale], batch=1, grid=grid)
    output = torch.zeros(1, 3, 6, grid, grid)
    output[:, :, :2] = targets.values[..., :2].permute(0, 1, 4, 2, 3).logit(eps=1e-6)
    output[:, :, 2:4] = targets.values[..., 2:].permute(0, 1, 4, 2, 3)
    output[:, :, 4] = torch.where(targets.responsible, 9.0, -9.0)
    boxes, scores = decode([output], shapes[scale : scale + 1])
    x, y, w, h = box
    assert scores.argmax() == targets.responsible.flatten().float().argmax()
    best = boxes[0, scores.argmax()]
    torch.testing.assert_close(
        best, torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]), atol=1e-4, rtol=0
    )


def test_decoding_by_hand():
    # all-zero output: the centre of each cell, the anchor's own size, probability 1/2; coarse scale comes first
    boxes, scores = decode([torch.zeros(1, 3, 6, 1, 1), torch.zeros(1, 3, 6, 2, 2)], anchors()[:2])
    w, h = 116 / 416, 90 / 416
    torch.testing.assert_close(
        boxes[0, 0], torch.tensor([0.5 - w / 2, 0.5 - h / 2, 0.5 + w / 2, 0.5 + h / 2])
    )
    centres = (boxes[0, 3:7, :2] + boxes[0, 3:7, 2:]) / 2  # the second scale's first anchor, row by row
    torch.testing.assert_close(
        centres, torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    )
    assert boxes.shape == (1, 15, 4) and scores.unique().tolist() == [0.5]


def test_decoding_an_untrained_head_stays_finite():
    boxes, _ = decode([torch.full((1, 3, 6, 2, 2), 500.0)], anchors()[:1])
    assert torch.isfinite(boxes).all()
