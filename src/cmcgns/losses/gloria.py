"""GLoRIA's local alignment of words and image regions (Huang et al., ICCV 2021; marshuang80/gloria gloria_loss.py)."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import fp32, unit


@fp32
def local_loss(
    regions: Tensor,
    words: Tensor,
    mask: Tensor,
    *,
    temp1: float = 4.0,
    temp2: float = 5.0,
    temp3: float = 10.0,
    chunk: int = 8,
) -> tuple[Tensor, Tensor]:
    """InfoNCE over the scores of every image with every text; arguments as `local_scores`.

    Args:
        temp3: multiplies the scores.

    Returns:
        two scalars, means over the batch: images to texts, texts to images.
    """
    return info_nce(local_scores(regions, words, mask, temp1=temp1, temp2=temp2, chunk=chunk), 1 / temp3)


@fp32
def local_scores(
    regions: Tensor, words: Tensor, mask: Tensor, *, temp1: float, temp2: float, chunk: int
) -> Tensor:
    """log sum_l exp(temp2 * cos(w_l, c_l)) of image i and text j, c_l being what word l of j attends to in i.

    Args:
        regions: (B, P, D), of any length.
        words: (N, L, D), of any length.
        mask: (N, L) True for words; at least one in each text.
        temp1: sharpens the attention over regions.
        chunk: texts at a time. Their attention is computed again in the backward pass, so that memory holds
            B * chunk * L * (P + D) numbers a few times, not B * N * L * (P + D).

    Returns:
        (B, N)
    """
    parts = [
        checkpoint(_scores, regions, some, where, temp1, temp2, use_reentrant=False, preserve_rng_state=False)
        for some, where in zip(words.split(chunk), mask.split(chunk), strict=True)
    ]
    return torch.cat(parts, 1)


def _scores(regions: Tensor, words: Tensor, mask: Tensor, temp1: float, temp2: float) -> Tensor:
    similarity = torch.einsum("bpd,nld->bnlp", regions, words)
    attention = word_attention(similarity, mask, temp1)
    context = torch.einsum("bnlp,bpd->bnld", attention, regions)
    match = (unit(context) * unit(words)).sum(-1)  # (B, n, L)
    return (temp2 * match).masked_fill(~mask, -torch.inf).logsumexp(-1)


@fp32
def word_attention(similarity: Tensor, mask: Tensor, temp1: float) -> Tensor:
    """What each word looks at: softmax over the words of a text, times `temp1`, then softmax over the regions.

    Args:
        similarity: (..., L, P), dot products of words and regions.
        mask: (..., L) True for words; at least one in each text.

    Returns:
        (..., L, P), rows sum to 1; uniform where there is no word.
    """
    over_words = similarity.masked_fill(~mask.unsqueeze(-1), -torch.inf).softmax(-2)
    return (temp1 * over_words).softmax(-1)
