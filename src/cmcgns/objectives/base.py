"""What every pre-training method shares: a batch, the interface of an objective, and gathering over processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


@dataclass
class Batch:
    """B image-report pairs; texts are padded to the longest of the batch.

    Attributes:
        images: (B, 3, H, W) float, in [-1, 1].
        token_ids: (B, L) int64.
        attention_mask: (B, L) bool, False on padding.
        sentence_index: (B, L) int64, the sentence of each token; -1 on special tokens and padding.
        word_index: (B, L) int64, the word of each token, counted over the whole text; -1 as above.
        study: (B,) int64, equal for images of one study.
        second: (B, 3, H, W), another view of the same images, for methods with two views; else None.
    """

    images: Tensor
    token_ids: Tensor
    attention_mask: Tensor
    sentence_index: Tensor
    word_index: Tensor
    study: Tensor
    second: Tensor | None = None


Terms = dict[str, Tensor]
"""Scalar loss terms, or statistics, by name."""

Text = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Token ids, sentence index and word index of one text, of equal length (`reports.tokens.encode`)."""


def pad_texts(texts: Sequence[Text], pad_token_id: int) -> dict[str, Tensor]:
    """The four text fields of a `Batch`, padded to the longest text."""

    def padded(rows: Sequence[np.ndarray], value: int) -> Tensor:
        return pad_sequence([torch.from_numpy(row.astype(np.int64)) for row in rows], True, value)

    ids, sentences, words = zip(*texts, strict=True)
    return {
        "token_ids": padded(ids, pad_token_id),
        "attention_mask": padded([np.ones(len(row)) for row in ids], 0).bool(),
        "sentence_index": padded(sentences, -1),
        "word_index": padded(words, -1),
    }


class Objective(nn.Module):
    """One pre-training method: a batch in, un-weighted loss terms out.

    It touches no optimiser, file, rank or device. Everything it remembers is in its state dict. Each is constructed from
    `trunk`, the image encoder (`models.image.build_trunk`), and `text_encoder`, a BERT without pooler
    (`models.text.build_text_encoder`), with `image_size`, the side of the training images in pixels, and `seed`; a method
    need not look at all of them.

    Attributes:
        trunk: the image encoder that is exported.
        phases: the names that `phase` may have, in the order they are trained.
        views: image views of a batch; 2 fills `Batch.second`.
        passes: images a pair that go through an image encoder with a gradient, and without; None = (views, 0).
        text: what a batch's text is: "report", "shuffled" (its sentences in random order), "sentence" (one of them,
            drawn anew each time) or "none" (the text fields have no columns).
        loss_weights: of the terms, where they are the same in all phases.
    """

    trunk: nn.Module
    phases: ClassVar[tuple[str, ...]] = ("stage1",)
    views: ClassVar[int] = 1
    passes: ClassVar[tuple[int, int] | None] = None
    text: ClassVar[str] = "report"
    loss_weights: Mapping[str, float]

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        """The un-weighted scalar loss terms of `phase`; their names are the keys of `weights(phase)`.

        Args:
            generator: for what the method itself draws at random (masks, noise); the caller gives a fixed one
                in validation, so that the value repeats.
        """
        raise NotImplementedError

    def weights(self, phase: str) -> dict[str, float]:
        """The weight of each term in `phase`; the total is the weighted sum."""
        return dict(self.loss_weights)

    def unused_parameters(self, phase: str) -> list[nn.Parameter]:
        """Parameters that get no gradient in `phase`: the trainer leaves them out of the optimiser and of DDP."""
        return []

    def logs(self) -> Terms:
        """Detached scalar statistics of the last forward."""
        return {}

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, D) images and (B, D) texts, of unit length; their product is the method's similarity of a pair.

        For evaluation: any text may be paired with any image. Methods without text do not have it.
        """
        raise NotImplementedError

    @torch.no_grad()
    def attention_maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B, M, h, w), how much each sentence looks at each cell of the image, and (B, M) True for real sentences.

        Any scale; larger is more. Methods without text do not have it.
        """
        x = self.encode(batch)
        return x.gates.unflatten(-1, x.grid), x.mask


def total_loss(terms: Terms, weights: dict[str, float]) -> Tensor:
    """The weighted sum of `terms`; both must have the same names."""
    if terms.keys() != weights.keys():
        raise ValueError(f"loss terms {sorted(terms)} and weights {sorted(weights)} differ")
    return torch.stack([weights[name] * terms[name] for name in terms]).sum()


class _AllGather(torch.autograd.Function):
    """Concatenate equal-sized tensors of all processes; the gradient is summed over processes, then sliced."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def world_size() -> int:
    """Number of processes; 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather(x: Tensor) -> Tensor:
    """Rows of all processes in rank order, with gradient; the identity in a single process.

    When every process computes the same loss of the gathered rows, the average of the gradients over processes
    (as DDP takes it) is the gradient of the one-process loss.

    Args:
        x: (n, ...), the same n in every process.

    Returns:
        (world size * n, ...)
    """
    return x if world_size() == 1 else _AllGather.apply(x)


def gather_uneven(x: Tensor) -> Tensor:
    """As `gather`, for a number of rows that differs between processes; costs one host synchronisation."""
    if world_size() == 1:
        return x
    sizes = gather(torch.tensor([len(x)], device=x.device)).tolist()
    padding = x.new_zeros(max(sizes) - len(x), *x.shape[1:])
    parts = gather(torch.cat([x, padding])).split(max(sizes))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
