"""Reconstruction of a report as sentence prototypes: matching of unordered slots, and the loss of their choice (PRIOR)."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cmcgns.losses.precision import fp32


@fp32
def match_slots(outputs: Tensor, targets: Tensor) -> Tensor:
    """The outputs in the order of the targets: the assignment with the least sum of L1 distances.

    Args:
        outputs, targets: (B, S, D)

    Returns:
        (B, S, D), each sample's outputs permuted; gradient flows into them, not through the choice.
    """
    # not finite: a diverging run is the trainer's to report, not SciPy's
    costs = torch.cdist(targets.detach(), outputs.detach(), p=1).nan_to_num().cpu().numpy()
    order = torch.from_numpy(np.stack([linear_sum_assignment(cost)[1] for cost in costs])).to(outputs.device)
    return outputs.gather(1, order.unsqueeze(-1).expand_as(outputs))


@fp32
def choice_divergence(outputs: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """KL(softmax(targets) || softmax(outputs)), the mean over real sentences; gradient flows into both.

    Args:
        outputs, targets: (B, M, K), logits of sentences over prototypes.
        mask: (B, M), True where there is a sentence.
    """
    log_p, log_q = targets.log_softmax(-1), outputs.log_softmax(-1)
    return masked_average((log_p.exp() * (log_p - log_q)).sum(-1), mask)


@fp32
def masked_average(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where `mask` is True, both (B, M); 0 if it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
