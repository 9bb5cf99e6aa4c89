"""InfoNCE among the tokens of one sample: regions, words or sentences against their cross-modal counterparts."""

import torch
from torch import Tensor

from cmcgns.losses.precision import fp32, unit


@fp32
def token_info_nce(
    a: Tensor,
    b: Tensor,
    tau: float | Tensor,
    *,
    weights: Tensor | None = None,
    counts: Tensor | None = None,
    positives: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted InfoNCE inside each sample, both directions; LoVT eq. 9, and the local losses of PRIOR and MGCA.

        l_p = logsumexp_q s_pq / tau - sum_q omega_pq s_pq / tau,   s_pq = cos(a_p, b_q)

    The sum over p with `weights`, then the mean over samples.

    Args:
        a, b: (B, T, D); token p of `a` belongs to token p of `b`.
        tau: temperature, a number or a scalar tensor.
        weights: (B, T), of each token in its sample's sum, 0 on padding; None = the mean over the real tokens.
        counts: (B, T), how often a token stands in the denominators, a number or bool; 0 = padding. None = once each.
        positives: (T, T), omega, rows that sum to 1, for tokens without padding; None = token p only.

    Returns:
        two scalars: a to b, b to a.
    """
    logits = unit(a) @ unit(b).mT / tau
    counts = logits.new_ones(a.shape[:2]) if counts is None else counts.to(logits.dtype)
    if weights is None:
        real = (counts > 0).to(logits.dtype)
        weights = real / real.sum(1, keepdim=True).clamp(min=1)
    # finite, so that a sample without any token has a loss and a gradient of 0 instead of NaN
    repeat = counts.log().clamp(min=torch.finfo(logits.dtype).min).unsqueeze(1)

    def one_way(logits: Tensor) -> Tensor:
        own = logits.diagonal(dim1=1, dim2=2) if positives is None else (positives * logits).sum(-1)
        return (weights * ((logits + repeat).logsumexp(-1) - own)).sum(1).mean()

    return one_way(logits), one_way(logits.mT)


@fp32
def clipped_weights(importance: Tensor, mask: Tensor, clip: float) -> Tensor:
    """The importance of each token, clipped at two quantiles of its sample and scaled to sum 1; without gradient (MGCA).

    Args:
        importance: (B, T), >= 0.
        mask: (B, T), True where there is a token.
        clip: the lower quantile; the upper one is 1 - clip.

    Returns:
        (B, T), 0 where there is no token.
    """
    real = importance.detach().masked_fill(~mask, torch.nan)
    bounds = torch.tensor([clip, 1 - clip], device=real.device, dtype=real.dtype)
    low, high = real.nanquantile(bounds, dim=1, keepdim=True)
    weights = real.clamp(low, high).nan_to_num(nan=0.0)
    return weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
