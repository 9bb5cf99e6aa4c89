"""CLIP: an image against its whole report, with a learned temperature (Radford et al., arXiv 2103.00020).

OpenAI released the model without its training; the training follows open_clip. The image encoder is a plain ResNet and
the text encoder a BERT, because the paper's heads cannot load CLIP's modified ResNet.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from transformers import BertModel

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines
from cmcgns.models.image import feature_dim
from cmcgns.models.seeding import seeded
from cmcgns.objectives.base import Batch, Terms, gather
from cmcgns.objectives.sentence_maps import WholeTexts


class CLIP(WholeTexts):
    """Symmetric InfoNCE between linear projections of the pooled image and of [CLS], over all processes.

    Args:
        dim: of the common space.
        tau: the temperature before the first step.
        max_scale: upper bound of 1 / temperature; the lower bound is 1.
    """

    loss_weights: ClassVar = {"image_to_text": 0.5, "text_to_image": 0.5}

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: BertModel,
        *,
        image_size: int,
        dim: int = 1024,  # openai/CLIP, model RN50
        tau: float = 0.07,  # openai/CLIP model.py
        max_scale: float = 100.0,  # open_clip train.py
        seed: int = 42,
    ):
        super().__init__()
        self.max_log_scale = math.log(max_scale)
        self.trunk, self.text_encoder = trunk, text_encoder
        with seeded(seed, "clip"):
            self.image_head = _projection(feature_dim(trunk), dim)
            self.text_head = _projection(text_encoder.config.hidden_size, dim)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(tau)))

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        if self.training:  # the bound after a step is the bound before the next
            with torch.no_grad():
                self.log_scale.clamp_(0, self.max_log_scale)
        u, v = self.encode(batch)
        there, back = info_nce(cosines(gather(u), gather(v)), self.temperature())
        return {"image_to_text": there, "text_to_image": back}

    def temperature(self) -> Tensor:
        """A scalar in [1 / max_scale, 1]."""
        if self.training:
            return self.log_scale.neg().exp()
        return self.log_scale.clamp(0, self.max_log_scale).neg().exp()

    def encode_text(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.text_encoder(input_ids=token_ids, attention_mask=mask).last_hidden_state
        return self.text_head(hidden[:, 0])

    def logs(self) -> dict[str, Tensor]:
        return {"temperature": self.temperature().detach()}


def _projection(inputs: int, outputs: int) -> nn.Linear:
    """As CLIP draws it: N(0, inputs^-0.5), no bias."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer
