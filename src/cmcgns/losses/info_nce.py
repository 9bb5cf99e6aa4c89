"""InfoNCE between two sets of paired embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cmcgns.losses.precision import fp32


@fp32
def info_nce(scores: Tensor, tau: float | Tensor, ignore: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean over i of -log softmax_j(scores_ij / tau)[i], and the same of the transpose (paper eqs. 2-3).

    The two directions are returned apart, because "symmetric InfoNCE" means their sum in one paper and their mean
    in another: the method says which.

    Args:
        scores: (N, N) cosines; pair i is on the diagonal.
        tau: temperature, a number or a scalar tensor.
        ignore: (N, N) bool, True = leave out of the denominators; its diagonal is not looked at.

    Returns:
        two scalars >= 0: rows to columns, columns to rows.
    """
    logits = scores / tau
    target = torch.arange(len(logits), device=logits.device)
    if ignore is not None:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(ignore & ~own, -torch.inf)
    return F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)
