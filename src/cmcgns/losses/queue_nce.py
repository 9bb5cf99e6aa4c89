"""MoCo's loss: a query has to tell its own key from the keys in a queue (arXiv 1911.05722, eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cmcgns.losses.precision import fp32


@fp32
def queue_nce(queries: Tensor, keys: Tensor, queue: Tensor, tau: float) -> Tensor:
    """Mean over i of -log(e^(q_i k_i / tau) / (e^(q_i k_i / tau) + sum over u of e^(q_i u / tau))).

    Args:
        queries, keys: (B, D) unit vectors; row i of both is one image.
        queue: (K, D) unit vectors u. Their positions and other rows' keys do not matter.
        tau: temperature.

    Returns:
        a scalar >= 0.
    """
    own = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([own, queries @ queue.T], dim=1) / tau
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))
