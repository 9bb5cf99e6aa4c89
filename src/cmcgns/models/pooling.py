"""Pools: image regions -> image, sentences -> report, tokens -> sentences. All batched over padded input."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcgns.errors import InputError


def masked_mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of the rows of x (B, T, C) where mask (B, T) is True -> (B, C); no valid row gives 0."""
    if mask is None:
        return x.mean(1)
    keep = mask.unsqueeze(-1).to(x.dtype)
    return (x * keep).sum(1) / keep.sum(1).clamp(min=1)


class AttentionPool(nn.Module):
    """Multi-head self-attention over [mean; tokens], of which only the mean's row is computed (method.md 1.1, 1.3).

    No dropout, residual or normalisation.
    """

    def __init__(self, dim: int, heads: int = 8):
        super().__init__()
        if dim % heads:
            raise InputError(f"an attention pool of {dim} dimensions cannot have {heads} heads")
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.c_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, T, C), mask (B, T) True where valid -> (B, C)."""
        return self.attend(torch.cat([masked_mean(x, mask).unsqueeze(1), x], 1), mask)

    def attend(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens (B, 1 + T, C) with the query first, mask (B, T) of the others -> (B, C)."""
        batch, length, dim = tokens.shape
        query, key, value = (
            projection(part).view(batch, -1, self.heads, dim // self.heads).transpose(1, 2)
            for projection, part in (
                (self.q_proj, tokens[:, :1]),
                (self.k_proj, tokens),
                (self.v_proj, tokens),
            )
        )
        valid = None if mask is None else F.pad(mask, (1, 0), value=True)[:, None, None, :]
        pooled = F.scaled_dot_product_attention(
            query, key, value, attn_mask=valid
        )  # (B, heads, 1, C / heads)
        return self.c_proj(pooled.transpose(1, 2).reshape(batch, dim))


class ImageAttentionPool(AttentionPool):
    """The attention pool of a feature map, with a learned vector per position (CLIP's).

    Args:
        grid: cells per side of the positional table; other maps get it interpolated.
    """

    def __init__(self, dim: int, grid: int = 7, heads: int = 8):
        super().__init__(dim, heads)
        self.grid = grid
        self.positions = nn.Parameter(torch.randn(1 + grid * grid, dim) / dim**0.5)

    def forward(self, fmap: Tensor) -> Tensor:
        """fmap (B, C, h, w) -> (B, C)."""
        x = fmap.flatten(2).transpose(1, 2)
        tokens = torch.cat([x.mean(1, keepdim=True), x], 1)
        return self.attend(tokens + self.position_table(*fmap.shape[2:]))

    def position_table(self, height: int, width: int) -> Tensor:
        """(1 + height * width, C): the mean's vector, then one per cell, row by row."""
        if (height, width) == (self.grid, self.grid):
            return self.positions
        cells = self.positions[1:].T.reshape(1, -1, self.grid, self.grid)
        cells = F.interpolate(cells, (height, width), mode="bicubic", align_corners=False)
        return torch.cat([self.positions[:1], cells[0].flatten(1).T])


class MeanQueryPool(nn.Module):
    """Multi-head attention over the tokens with their mean as the query, which is no key; gives its weights (LoVT)."""

    def __init__(self, dim: int, heads: int = 8):
        super().__init__()
        if dim % heads:
            raise InputError(f"an attention pool of {dim} dimensions cannot have {heads} heads")
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, C), mask (B, T) True where valid.

        Returns:
            (B, C), and (B, T) the weights of the tokens, averaged over heads; they sum to 1.
        """
        query = masked_mean(x, mask).unsqueeze(1)
        # a text without a valid token attends to all of its padding: without any key, softmax would give NaN
        padding = None if mask is None else ~mask & mask.any(1, keepdim=True)
        pooled, weights = self.attention(query, x, x, key_padding_mask=padding)
        return pooled.squeeze(1), weights.squeeze(1)


def sentence_mean(tokens: Tensor, sentence_index: Tensor, token_norm: bool = False) -> tuple[Tensor, Tensor]:
    """The mean of the token vectors of each sentence (method.md 1.2).

    Args:
        tokens: (B, L, D)
        sentence_index: (B, L) int, the sentence of each token, -1 = none.
        token_norm: L2-normalise each token vector first, as the released code does.

    Returns:
        (B, M, D) with zeros where there is no sentence, and (B, M) bool, True where there is one;
        M is the largest number of sentences in the batch.
    """
    if token_norm:
        tokens = F.normalize(tokens.float(), dim=-1, eps=1e-6)
    member = members(sentence_index)
    counts = member.sum(-1, keepdim=True)
    return member.to(tokens.dtype) @ tokens / counts.clamp(min=1), counts.squeeze(-1) > 0


def word_sum(tokens: Tensor, word_index: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the word pieces of each word, as GLoRIA and MGCA pool them.

    Args:
        tokens: (B, L, D)
        word_index: (B, L) int, the word of each token, -1 = none.

    Returns:
        (B, W, D) with zeros where there is no word, and (B, W) bool, True where there is one.
    """
    member = members(word_index)
    return member.to(tokens.dtype) @ tokens, member.any(-1)


def segment_max(tokens: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The maximum over the tokens of each segment (sentence, word), per channel; shapes as `word_sum`."""
    member = members(index)
    filled = tokens.unsqueeze(1).masked_fill(~member.unsqueeze(-1), -torch.inf).amax(2)
    mask = member.any(-1)
    return torch.where(mask.unsqueeze(-1), filled, filled.new_zeros(())), mask


def members(index: Tensor) -> Tensor:
    """index (B, L) with values -1..M-1 -> (B, M, L) bool, True where token l belongs to segment m; M >= 1."""
    segments = torch.arange(max(int(index.max()) + 1, 1), device=index.device)
    return index.unsqueeze(1) == segments[:, None]


def words_of_sentences(sentence_index: Tensor, word_index: Tensor) -> Tensor:
    """Indices as above -> (B, M, W) float, 1 where word w has a token in sentence m, else 0."""
    return (members(sentence_index).float() @ members(word_index).float().mT > 0).float()
