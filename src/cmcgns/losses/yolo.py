"""YOLOv3's loss for one class (data.md 7.2). Boxes and anchors are fractions of the image, so no size is needed."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Targets(NamedTuple):
    """What one scale should predict.

    Attributes:
        responsible: (B, A, G, G) bool, the anchors that a box is assigned to.
        background: (B, A, G, G) bool, the anchors that must say "no object".
        values: (B, A, G, G, 4), offset x and y in the cell in [0, 1], log(width / anchor), log(height / anchor);
            0 where no box is assigned.
    """

    responsible: Tensor
    background: Tensor
    values: Tensor


def shape_iou(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Intersection over union of boxes that share a corner.

    Args:
        sizes: (n, 2) width and height.
        anchors: (A, 2)

    Returns:
        (n, A) in [0, 1]
    """
    overlap = torch.minimum(sizes[:, None], anchors[None]).prod(-1)
    return overlap / (sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - overlap)


def assign(
    boxes: Tensor, image: Tensor, anchors: Tensor, *, batch: int, grid: int, ignore_iou: float = 0.5
) -> Targets:
    """Give every box to the anchor of its cell whose shape fits best.

    Anchors of that cell with a shape IoU above `ignore_iou` are not background, and neither is the responsible one,
    however badly it fits (data.md 10, trap 14). Of two boxes that want the same anchor the later one gets it.

    Args:
        boxes: (n, 4) centre x, centre y, width, height as fractions of the image; sizes > 0. On the CPU.
        image: (n,) int64, the image of the batch that each box is in.
        anchors: (A, 2) width and height of this scale's anchors, fractions of the image.
        batch: number of images, B.
        grid: cells along a side, G.
    """
    # a centre exactly on the right or bottom border belongs to the last cell (trap 15)
    cell = (boxes[:, :2] * grid).floor().clamp(0, grid - 1)
    column, row = cell.long().unbind(1)
    iou = shape_iou(boxes[:, 2:], anchors)
    best = iou.argmax(1)

    shape = (batch, len(anchors), grid, grid)
    background = torch.ones(shape, dtype=torch.bool)
    box, anchor = (iou > ignore_iou).nonzero(as_tuple=True)
    background[image[box], anchor, row[box], column[box]] = False

    place = ((image * len(anchors) + best) * grid + row) * grid + column
    owner = torch.full((background.numel(),), -1).scatter_reduce(0, place, torch.arange(len(boxes)), "amax")
    responsible = (owner >= 0).view(shape)
    wanted = torch.cat([boxes[:, :2] * grid - cell, (boxes[:, 2:] / anchors[best]).log()], 1)
    values = boxes.new_zeros(*shape, 4)
    values[responsible] = wanted[owner[owner >= 0]]
    return Targets(responsible, background & ~responsible, values)


def scale_loss(output: Tensor, targets: Targets) -> Tensor:
    """The loss of one scale: every term is a mean over all B * A * G * G anchors.

    2.5 (BCE x + BCE y) + 2.5 (MSE w + MSE h) + BCE(object) + 0.5 BCE(no object) + BCE(class).

    Args:
        output: (B, A, 6, G, G) raw x, y, w, h, object, class.
    """
    x, y, w, h, found, kind = output.float().unbind(2)
    to_x, to_y, to_w, to_h = targets.values.unbind(-1)
    mine, background = targets.responsible.float(), targets.background.float()
    place = F.binary_cross_entropy_with_logits(x, to_x, reduction="none")
    place = place + F.binary_cross_entropy_with_logits(y, to_y, reduction="none")
    size = (w - to_w).square() + (h - to_h).square()
    # softplus(-z) and softplus(z) are the BCE of a logit z with targets 1 and 0
    terms = mine * (2.5 * place + 2.5 * size + F.softplus(-found) + F.softplus(-kind))
    return (terms + 0.5 * background * F.softplus(found)).mean()


def yolo_loss(outputs: Sequence[Tensor], boxes: Sequence[Tensor], anchors: Tensor) -> Tensor:
    """The sum of the scales' losses; a box is assigned on every scale.

    Args:
        outputs: one (B, A, 6, G, G) per scale.
        boxes: B tensors (n, 4), corners x1, y1, x2, y2 as fractions of the image; n may be 0.
        anchors: (scales, A, 2) width and height as fractions of the image.
    """
    # Assigned on the CPU, where the boxes are: the few of a batch would make an accelerator wait for the host.
    corners = torch.cat([part.reshape(-1, 4) for part in boxes]).to("cpu", torch.float32)
    counts = torch.tensor([len(part) for part in boxes])
    image = torch.repeat_interleave(torch.arange(len(boxes)), counts)
    first, last = corners[:, :2], corners[:, 2:]
    centred = torch.cat([(first + last) / 2, last - first], 1)
    losses = []
    for output, shapes in zip(outputs, anchors.cpu(), strict=True):
        targets = assign(centred, image, shapes, batch=len(boxes), grid=output.shape[-1])
        losses.append(scale_loss(output, Targets(*(part.to(output.device) for part in targets))))
    return torch.stack(losses).sum()
