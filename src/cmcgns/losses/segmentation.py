"""The U-Net's loss: focal loss and the logarithm of a soft Dice (data.md 7.3)."""

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss


def soft_dice(logits: Tensor, targets: Tensor, *, smooth: float = 1.0) -> Tensor:
    """Dice of probabilities over all pixels of the batch together, in (0, 1].

    Pooling the batch keeps images without any target from giving a constant term.

    Args:
        logits: any shape.
        targets: same shape, in [0, 1]; soft at resized edges.
        smooth: added above and below, so that nothing predicted where nothing is gives 1.
    """
    probabilities, targets = torch.sigmoid(logits.float()), targets.float()
    overlap = (probabilities * targets).sum()
    return (2 * overlap + smooth) / (probabilities.sum() + targets.sum() + smooth)


def segmentation_loss(
    logits: Tensor, targets: Tensor, *, focal_weight: float = 10.0, gamma: float = 2.0, smooth: float = 1.0
) -> Tensor:
    """`focal_weight` * focal loss (no alpha, mean over pixels) - ln(soft Dice of the batch); >= 0, in fp32.

    Args:
        logits: any shape.
        targets: same shape, in [0, 1].
        gamma: the focal exponent: pixels that are right already weigh (1 - p)^gamma.
    """
    focal = sigmoid_focal_loss(logits.float(), targets.float(), alpha=-1, gamma=gamma, reduction="mean")
    return focal_weight * focal - soft_dice(logits, targets, smooth=smooth).log()
