"""SimCLR's loss: NT-Xent, the normalised temperature-scaled cross entropy (arXiv 2002.05709, eq. 1)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cmcgns.losses.precision import cosines, fp32


@fp32
def nt_xent(a: Tensor, b: Tensor, tau: float) -> Tensor:
    """Mean over the 2B rows z of [a; b] of -log softmax_j(cos(z_i, z_j) / tau)[the other view of i], without j = i.

    Args:
        a, b: (B, D), any length; row i of both is one image.
        tau: temperature.

    Returns:
        a scalar >= 0.
    """
    z = torch.cat([a, b])
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)
    logits = (cosines(z, z) / tau).masked_fill(own, -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(a)))
