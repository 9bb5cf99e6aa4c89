"""False negatives, and the bidirectional margin loss (BML) that keeps them at a middle distance."""

import torch
from torch import Tensor

from cmcgns.losses.precision import fp32


def false_negatives(anchor_cluster: Tensor, candidate_cluster: Tensor) -> Tensor:
    """Which candidates j are false negatives of anchor i: those of the anchor's cluster, but its own (paper, eq. 8).

    Args:
        anchor_cluster: (N,) the centroid nearest to sentence i.
        candidate_cluster: (N,) the cluster of cross-modal feature j (paper), or `anchor_cluster` again (released code).

    Returns:
        (N, N) bool, False on the diagonal.
    """
    same = anchor_cluster.unsqueeze(1) == candidate_cluster.unsqueeze(0)
    return same.fill_diagonal_(False)


@fp32
def bml_loss(
    s: Tensor, pairs: Tensor, *, alpha: float = 0.2, beta: float = 0.5, reduction: str = "fn_pairs"
) -> Tensor:
    """relu(d + alpha) + relu(-d - beta) with d_ij = s_ij - s_ii, over false negatives (paper eq. 9, method.md 4.5).

    It is 0 for -beta <= d <= -alpha: a false negative is less similar than the pair, but not by much.

    Args:
        s: (N, N) cosines; the pair of i is on the diagonal.
        pairs: (N, N) bool, the false negatives.
        reduction: "fn_pairs": mean over them, 0 if there are none; "all_pairs": mean over all N^2 with d = 0 where
            there is none, as in the released code, which adds a constant of up to alpha.
    """
    difference = s - s.diagonal().unsqueeze(1)
    if reduction == "all_pairs":
        difference = difference * pairs
    elif reduction != "fn_pairs":
        raise ValueError(f"unknown bml_reduction {reduction!r}")
    penalty = torch.relu(difference + alpha) + torch.relu(-difference - beta)
    if reduction == "all_pairs":
        return penalty.mean()
    return (penalty * pairs).sum() / pairs.sum().clamp(min=1)
