"""MoCo v1 and v2: two views of an image agree against a queue of past images (arXiv 1911.05722, 2003.04297).

Version 2 is `head="mlp"`, `tau=0.2` and stronger augmentation. Values and their order follow facebookresearch/moco.
"""

from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from cmcgns.errors import InputError
from cmcgns.losses.precision import unit
from cmcgns.losses.queue_nce import queue_nce
from cmcgns.models.image import feature_dim
from cmcgns.models.momentum import KeyQueue, ema_update, split_batch_norm
from cmcgns.models.projection import build_mlp
from cmcgns.models.seeding import seeded
from cmcgns.objectives.base import Batch, Objective, Terms, gather


class MoCo(Objective):
    """Queries come from the first view and the trained encoder, keys from the second and a slow copy of it.

    Through the statistics of batch norm an embedding carries a trace of the images it was computed with; were these the
    same for query and key, the trace alone would tell the pair. So the batch is split in `bn_splits` groups with
    statistics of their own, and the keys' groups are drawn anew each step. The original has a group a device and refuses
    to run on one; here the groups are made within each process, and no images are exchanged.

    Args:
        queue_size: keys to tell apart; a multiple of the pairs a step, and less than the data set has.
        momentum: of the key encoder.
        head: "linear" (v1) or "mlp" (v2: one hidden layer as wide as the features, no batch norm).
        bn_splits: groups of a process's batch; 1 = plain batch norm and no protection.
    """

    views = 2
    passes = (1, 1)
    text = "none"
    loss_weights: ClassVar = {"contrast": 1.0}

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: nn.Module | None = None,
        *,
        image_size: int = 224,
        seed: int = 42,
        dim: int = 128,  # facebookresearch/moco main_moco.py
        queue_size: int = 65536,  # main_moco.py
        momentum: float = 0.999,  # main_moco.py
        tau: float = 0.07,  # main_moco.py; README of v2: 0.2
        head: str = "linear",  # main_moco.py; README of v2: mlp
        bn_splits: int = 8,  # README: 8 devices with 32 images each
    ):
        super().__init__()
        if head not in ("linear", "mlp"):
            raise InputError(f"unknown head {head!r}", expected="'linear' or 'mlp'")
        width = feature_dim(trunk)
        split_batch_norm(trunk, bn_splits)
        self.trunk, self.tau, self.momentum, self.bn_splits = trunk, tau, momentum, bn_splits
        with seeded(seed, "moco"):
            self.head = nn.Linear(width, dim) if head == "linear" else build_mlp(width, width, dim)
            self.queue = KeyQueue(queue_size, dim)
        self.key_encoder = nn.Sequential(deepcopy(trunk), deepcopy(self.head))

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        if self.training and len(batch.images) % self.bn_splits:
            raise InputError(
                f"a batch of {len(batch.images)} in {self.bn_splits} groups",
                expected="a multiple of bn_splits",
            )
        queries = unit(self.head(self.trunk(batch.images)))
        with torch.no_grad():
            if self.training:
                fast = (*self.trunk.parameters(), *self.head.parameters())
                ema_update(self.key_encoder.parameters(), fast, self.momentum)
            keys = self._keys(batch.second, generator)
        # a copy, because the keys of this batch overwrite rows that the backward pass still reads
        terms = {"contrast": queue_nce(queries, keys, self.queue.keys.clone(), self.tau)}
        if self.training:
            self.queue.push(gather(keys))
        return terms

    def _keys(self, views: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or self.bn_splits == 1:  # without groups the order of a batch changes nothing
            return unit(self.key_encoder(views))
        if generator is None:
            raise ValueError("the groups of the keys need a generator")
        order = torch.randperm(len(views), generator=generator, device=generator.device).to(views.device)
        return unit(self.key_encoder(views[order]))[order.argsort()]

    def unused_parameters(self, phase: str) -> list[nn.Parameter]:
        return list(self.key_encoder.parameters())
