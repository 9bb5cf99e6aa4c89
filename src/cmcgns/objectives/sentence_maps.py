"""Where an image resembles a sentence, for methods that compare whole images with whole texts."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cmcgns.losses.precision import unit
from cmcgns.models.image import forward_features, local_regions
from cmcgns.models.pooling import members
from cmcgns.objectives.base import Batch, Objective


class WholeTexts(Objective):
    """A method that compares whole images with whole texts.

    Attributes:
        image_head: (..., C) -> (..., D), without batch norm.
    """

    image_head: nn.Module

    def encode_text(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and attention mask (N, L) -> (N, D)."""
        raise NotImplementedError

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Image and text embeddings, (B, D) each."""
        pooled = forward_features(self.trunk, batch.images).mean((2, 3))
        return self.image_head(pooled), self.encode_text(batch.token_ids, batch.attention_mask)

    @torch.no_grad()
    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        u, v = self.encode(batch)
        return unit(u), unit(v)

    @torch.no_grad()
    def attention_maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        fmap = forward_features(self.trunk, batch.images)
        return sentence_maps(batch, fmap, self.image_head, self.encode_text)


def sentence_maps(
    batch: Batch, fmap: Tensor, image_head: nn.Module, encode_text: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Cosine of each sentence with each cell of the layer4 map sent through the image head (class activation).

    Args:
        fmap: (B, C, h, w)
        image_head: (..., C) -> (..., D), without batch norm.
        encode_text: token ids (N, L), attention mask (N, L) -> (N, D).

    Returns:
        (B, M, h, w), 0 where there is no sentence, and (B, M) True for real sentences.
    """
    token_ids, mask, real = sentence_texts(batch)
    texts = unit(encode_text(token_ids, mask)).unflatten(0, real.shape)  # (B, M, D)
    cells = unit(image_head(local_regions(fmap)))  # (B, P, D)
    maps = texts @ cells.mT * real.unsqueeze(-1)
    return maps.unflatten(-1, fmap.shape[2:]), real


def sentence_texts(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Every sentence as a text of its own, between its report's special tokens.

    Returns:
        token ids and attention mask (B * M, L), L being the longest of these texts, and (B, M) True for real
        sentences; a text without a sentence is its special tokens alone.
    """
    sentences = members(batch.sentence_index)  # (B, M, L)
    special = batch.attention_mask & (batch.sentence_index < 0)
    keep = (sentences | special.unsqueeze(1)).flatten(0, 1)
    order = keep.int().argsort(dim=-1, descending=True, stable=True)  # what is kept comes first, in its order
    order = order[:, : int(keep.sum(-1).max())]
    token_ids = batch.token_ids.repeat_interleave(sentences.shape[1], 0)
    return token_ids.gather(1, order), keep.gather(1, order), sentences.any(-1)
