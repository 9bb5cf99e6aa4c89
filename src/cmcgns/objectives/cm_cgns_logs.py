"""Statistics that tell whether CM-CGNS training is healthy (method.md 4.6 step 7, 5)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cmcgns.losses.precision import cosines, unit
from cmcgns.models.kmeans import SentenceClusters


def statistics(last: Mapping[str, Tensor], clusters: SentenceClusters) -> dict[str, Tensor]:
    """Scalars of the last forward; those of a part that did not run are left out.

    Args:
        last: detached tensors by name: the fields of `Features`, and where they were computed `s` (N, N),
            `z2` (N, D), `q` (N, K), `pairs` (N, N).
    """
    gates = last["gates"][last["mask"]]
    out = {"gate_mean": gates.mean(), "gate_std": gates.std()}
    for name in ("f_i", "f_ri"):
        out |= _collapse(name, last[name])
    out |= _retrieval(last["u_i"], last["u_r"])
    if "s" in last:
        out |= _sentences(last["s"], last["z2"], last["mask"])
    if "q" in last:
        second = last["q"].topk(2, dim=1).values[:, 1]
        out["hard_negative_cosine"] = second.mean()
        out["false_negatives_per_anchor"] = last["pairs"].sum(1).float().mean()
        out["clusters_used"] = (clusters.counts > 0).float().mean()
        out["largest_cluster_share"] = clusters.counts.max() / clusters.counts.sum().clamp(min=1)
    out["clustering_started"] = clusters.initialized.float()
    return out


def _collapse(name: str, x: Tensor) -> dict[str, Tensor]:
    """Signs of collapse over all local vectors x (B, P, D): healthy is a spread near D^-0.5 and a cosine near 0."""
    flat = unit(x).flatten(0, 1)
    count = len(flat)
    # the mean over pairs i != j from the norm of the sum, without the N x N matrix
    pairwise = (flat.sum(0).square().sum() - count) / max(1, count * (count - 1))
    return {f"{name}_spread": flat.std(0).mean(), f"{name}_cosine": pairwise}


def _retrieval(u_i: Tensor, u_r: Tensor) -> dict[str, Tensor]:
    """Percent of this process's pairs among the best 1 and 5, mean of the two directions."""
    scores = cosines(u_i, u_r)
    own = scores.diagonal()
    # a tie counts against: collapsed embeddings must not look like perfect retrieval
    ranks = torch.cat([(scores >= own[:, None]).sum(1), (scores >= own[None, :]).sum(0)]) - 1
    return {f"retrieval_top{k}": 100 * (ranks < k).float().mean() for k in (1, 5)}


def _sentences(s: Tensor, z2: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Mean cosines of pairs, of all else, and of cross-modal features within and across reports."""
    count = len(s)
    total, own = s.sum(), s.diagonal().sum()
    out = {"pair_cosine": own / count, "negative_cosine": (total - own) / max(1, count * (count - 1))}
    if count == int(mask.sum()):  # not gathered: the rows are those of this process's reports
        report = mask.nonzero()[:, 0]
        same = report.unsqueeze(1) == report
        similar = z2 @ z2.T
        within = same & ~torch.eye(count, dtype=torch.bool, device=s.device)
        out["crossmodal_cosine_within"] = (similar * within).sum() / within.sum().clamp(min=1)
        out["crossmodal_cosine_across"] = (similar * ~same).sum() / (~same).sum().clamp(min=1)
    return out
