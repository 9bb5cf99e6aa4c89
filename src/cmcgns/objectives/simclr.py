"""SimCLR: two views of an image agree against all other images of the batch (arXiv 2002.05709)."""

from itertools import pairwise

import torch
from torch import nn
from torchvision.models import ResNet

from cmcgns.losses.nt_xent import nt_xent
from cmcgns.models.image import feature_dim
from cmcgns.models.seeding import seeded
from cmcgns.objectives.base import Batch, Objective, Terms, gather


class SimCLR(Objective):
    """Both views go through encoder and head as one batch; negatives come from all processes.

    Args:
        head_layers: linear layers of the head, the hidden ones as wide as the features.
        head_norm: batch norm after each of them, the last one without a shift; else nothing in its place.
        sync_batch_norm: statistics of batch norm over all processes; the same as without in a single one.
        loss_weight: 2 adds the means over the first and over the second views, 1 is the mean over both.
    """

    views = 2
    text = "none"

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: nn.Module | None = None,
        *,
        image_size: int = 224,
        seed: int = 42,
        dim: int = 128,  # google-research/simclr run.py
        head_layers: int = 3,  # run.py
        head_norm: bool = True,  # model_util.py
        tau: float = 0.1,  # run.py
        sync_batch_norm: bool = True,  # run.py, global_bn
        loss_weight: float = 2.0,  # objective.py
    ):
        super().__init__()
        self.trunk, self.tau, self.loss_weights = trunk, tau, {"contrast": loss_weight}
        with seeded(seed, "simclr"):
            self.head = _build_head([feature_dim(trunk)] * head_layers + [dim], head_norm)
        if sync_batch_norm:
            nn.SyncBatchNorm.convert_sync_batchnorm(self)

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        views = torch.cat([batch.images, batch.second])
        first, second = self.head(self.trunk(views)).chunk(2)
        return {"contrast": nt_xent(gather(first), gather(second), self.tau)}


def _build_head(widths: list[int], norm: bool) -> nn.Sequential:
    """Linear layers without biases from width to width, ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers.append(nn.Linear(inputs, outputs, bias=False))
        if norm:
            nn.init.normal_(layers[-1].weight, std=0.01)  # google-research/simclr model_util.py
            layers.append(nn.BatchNorm1d(outputs))
        layers.append(nn.ReLU())
    layers.pop()
    if norm:
        layers[-1].register_parameter("bias", None)
    return nn.Sequential(*layers)
