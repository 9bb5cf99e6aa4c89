"""Cross attention between image regions and sentences."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cmcgns.models.projection import apply_rows


class CrossFeatures(NamedTuple):
    """What cross attention makes of P regions and M sentences.

    Attributes:
        image_to_report: (B, M, D), image values summed per sentence; 0 where there is no sentence.
        report_to_image: (B, P, D), sentence values summed per region.
        gates: (B, M, P), how much sentence m takes of region p, in [0, 1]; 0 where there is no sentence.
    """

    image_to_report: Tensor
    report_to_image: Tensor
    gates: Tensor


class SigmoidCrossAttention(nn.Module):
    """Single-head attention with element-wise sigmoid gates and plain sums, both ways (paper eqs. 5-6).

        A_IR = sigmoid(Q_R(f_R) K_I(f_I)^T / sqrt(D)),  f_IR = A_IR V_I(f_I)
        A_RI = sigmoid(Q_I(f_I) K_R(f_R)^T / sqrt(D)),  f_RI = A_RI V_R(f_R)

    Args:
        bias: the Q, K, V layers have one.
        share: one set of Q, K, V for both modalities instead of one set each.
        gate_start: what a score of 0 makes of a gate of A_IR. "half": 1/2, as the equations say. "mean": 1/(P + 1), by
            -ln P added to the scores (arXiv 2409.04431). Gates that start at 1/2 can close to nothing but only
            double, so they learn to leave regions out; from 1/(P + 1) they learn to pick them.
    """

    def __init__(self, dim: int, *, bias: bool = True, share: bool = False, gate_start: str = "half"):
        super().__init__()
        self.gate_start = gate_start
        # Q, K and V of a modality in one layer: the same initial distribution, a third of the launches
        self.image_qkv = nn.Linear(dim, 3 * dim, bias)
        self.text_qkv = self.image_qkv if share else nn.Linear(dim, 3 * dim, bias)

    def forward(self, regions: Tensor, sentences: Tensor, mask: Tensor) -> CrossFeatures:
        """regions (B, P, D), sentences (B, M, D), mask (B, M) True where there is a sentence."""
        # fp32: sentences of one report differ by little more than the precision of bf16 (method.md 2.3)
        with torch.autocast(regions.device.type, enabled=False):
            query_i, key_i, value_i = self.image_qkv(regions.float()).chunk(3, -1)
            query_r, key_r, value_r = self.text_qkv(sentences.float()).chunk(3, -1)
            keep = mask.unsqueeze(-1).float()  # (B, M, 1)
            scale = regions.shape[-1] ** -0.5
            # the mask multiplies after the sigmoid: adding -inf before it is fragile in half precision
            offset = math.log(regions.shape[1]) if self.gate_start == "mean" else 0.0
            gates = torch.sigmoid(query_r @ key_i.mT * scale - offset) * keep  # (B, M, P)
            gates_ri = torch.sigmoid(query_i @ key_r.mT * scale) * keep.mT  # (B, P, M)
            return CrossFeatures(gates @ value_i, gates_ri @ value_r, gates)


class SharedKeyAttention(nn.Module):
    """Single-head softmax attention both ways, whose projections K, V, O and batch norm serve both sides (LoVT).

    f_IR = BN(O(softmax(K(f_R) K(f_I)^T / sqrt(D)) V(f_I))),  f_RI = the same with the sides exchanged
    """

    def __init__(self, dim: int):
        super().__init__()
        self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(3))
        for layer in (self.key, self.value, self.output):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="linear")
            nn.init.zeros_(layer.bias)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, regions: Tensor, sentences: Tensor, mask: Tensor) -> CrossFeatures:
        """regions (B, P, D), sentences (B, M, D), mask (B, M) True where there is a sentence."""
        with torch.autocast(regions.device.type, enabled=False):  # fp32, as above
            regions, sentences = regions.float(), sentences.float()
            scores = self.key(sentences) @ self.key(regions).mT * regions.shape[-1] ** -0.5  # (B, M, P)
            # finite, so that a text without a sentence gives no NaN
            lowest = torch.finfo(scores.dtype).min
            to_regions = scores.mT.masked_fill(~mask.unsqueeze(1), lowest).softmax(-1)  # (B, P, M)
            to_sentences = scores.softmax(-1) * mask.unsqueeze(-1)
            f_ri = self.output(to_regions @ self.value(sentences))
            f_ir = self.output(to_sentences @ self.value(regions))
            normed = self.norm(f_ri.flatten(0, 1)).view_as(f_ri)
            return CrossFeatures(apply_rows(self.norm, f_ir, mask), normed, to_sentences)


def cosine_attention(
    queries: Tensor, keys: Tensor, tau: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What each query (B, Q, D) takes of the keys (B, K, D), both of unit length: softmax_k(q . k / tau) (MGCA).

    Args:
        mask: (B, K) True for keys that count.

    Returns:
        (B, Q, D) the weighted sum of keys, and (B, Q, K) the weights.
    """
    with torch.autocast(queries.device.type, enabled=False):
        scores = queries.float() @ keys.float().mT / tau
        if mask is not None:  # finite, so that a text without words gives no NaN
            scores = scores.masked_fill(~mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        return weights @ keys.float(), weights
