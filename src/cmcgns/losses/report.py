"""The report loss: InfoNCE from sentences to their cross-modal features, with cluster centres as hard negatives."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cmcgns.losses.precision import fp32

SETS = ("batch_second", "all_other_centroids", "own_second")
FORMS = ("prob_weight", "logit_offset", "official_logit_product")


@fp32
def report_loss(
    s: Tensor,
    q: Tensor | None = None,
    *,
    tau: float = 0.01,
    mu: float = 3.0,
    hard_negative_set: str = "batch_second",
    hard_negative_form: str = "prob_weight",
    exclude_own_cluster: bool = False,
    exclude: Tensor | None = None,
    bidirectional: bool = False,
) -> Tensor:
    """Mean over i of -log exp(s_ii/tau) / (sum_k exp(s_ik/tau) + hard negatives of i) (paper eq. 7, method.md 4.2).

    Args:
        s: (N, N) cosines of sentence i with cross-modal feature k; the pair of i is on the diagonal.
        q: (N, K) cosines of sentence i with centroid c, -inf for a centroid that is not in use; None = no hard
            negatives (the clustering has not started).
        mu, hard_negative_set, hard_negative_form, exclude_own_cluster: see `hard_negative_logits`.
        exclude: (N, N) bool, True = leave k out of the denominator of i; never applied to the diagonal.
        bidirectional: average with the plain InfoNCE from cross-modal features to sentences.

    Returns:
        a scalar >= 0.
    """
    logits = s / tau
    if exclude is not None:
        own = torch.eye(len(s), dtype=torch.bool, device=s.device)
        logits = logits.masked_fill(exclude & ~own, -torch.inf)
    candidates = logits
    if q is not None:
        extra = hard_negative_logits(
            q,
            tau=tau,
            mu=mu,
            hard_negative_set=hard_negative_set,
            hard_negative_form=hard_negative_form,
            exclude_own_cluster=exclude_own_cluster,
        )
        candidates = torch.cat([logits, extra], 1)
    loss = (candidates.logsumexp(1) - logits.diagonal()).mean()
    if bidirectional:
        reverse = (logits.logsumexp(0) - logits.diagonal()).mean()
        loss = (loss + reverse) / 2
    return loss


def hard_negative_logits(
    q: Tensor,
    *,
    tau: float,
    mu: float,
    hard_negative_set: str = "batch_second",
    hard_negative_form: str = "prob_weight",
    exclude_own_cluster: bool = False,
) -> Tensor:
    """The logits that cluster centres add to the denominator of each sentence (method.md 4.2, 4.3).

    Let c_i1 and c_i2 be the best and second-best centroid of sentence i. The hard negative of i is c_i2. Instead of
    one column per sentence, there is one column per centroid, weighted by how often it occurs.

    Args:
        q: (N, K) cosines, K >= 2 in use.
        mu: weight of the hard negative; the ordinary ones weigh 1.
        hard_negative_set: the ordinary ones are "batch_second": c_k2 of the other sentences k of the batch;
            "all_other_centroids": all but c_i1 and c_i2; "own_second": none.
        hard_negative_form: "prob_weight": mu multiplies exp(q / tau); "logit_offset": mu is added to q / tau;
            "official_logit_product": mu multiplies q, and every ordinary one has logit 0 (the released code).
        exclude_own_cluster: c_i1 is no ordinary negative of i.

    Returns:
        (N, K), or (N, 2) for "official_logit_product"; -inf where there is nothing to add.
    """
    if hard_negative_set not in SETS or hard_negative_form not in FORMS:
        raise ValueError(f"unknown hard negatives: {hard_negative_set!r}, {hard_negative_form!r}")
    first, second = q.topk(2, dim=1).indices.unbind(1)
    best, hard = F.one_hot(first, q.shape[1]), F.one_hot(second, q.shape[1])
    if hard_negative_set == "batch_second":
        ordinary = hard.sum(0) - hard
    elif hard_negative_set == "all_other_centroids":
        ordinary = q.isfinite() * (1 - best - hard)
    else:
        ordinary = torch.zeros_like(hard)
    if exclude_own_cluster:
        ordinary = ordinary * (1 - best)
    if hard_negative_form == "official_logit_product":
        product = mu / tau * q.gather(1, second.unsqueeze(1))
        return torch.cat([product, ordinary.sum(1, keepdim=True).to(q.dtype).log()], 1)
    factor = mu if hard_negative_form == "prob_weight" else math.exp(mu)
    return q / tau + (ordinary + factor * hard).to(q.dtype).log()
