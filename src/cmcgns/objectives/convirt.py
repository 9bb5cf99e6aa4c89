"""ConVIRT: an image against one sentence of its report (Zhang et al., arXiv 2010.00747; no code was released)."""

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from transformers import BertModel

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines
from cmcgns.models.image import feature_dim
from cmcgns.models.pooling import segment_max
from cmcgns.models.projection import build_mlp
from cmcgns.models.seeding import seeded
from cmcgns.models.text import lower_layers
from cmcgns.objectives.base import Batch, Terms, gather
from cmcgns.objectives.sentence_maps import WholeTexts


class ConVIRT(WholeTexts):
    """InfoNCE between the pooled image and the maximum over the tokens of a random sentence.

    Args:
        dim: of the common space.
        hidden: width of the one hidden layer of both heads.
        tau: temperature.
        image_to_text_weight: the paper's lambda; the other direction has 1 - lambda.
        frozen_layers: the embeddings and so many layers of the text encoder are not trained; 0 = all are.
        gather_negatives: contrast with the pairs of all processes; False = with those of the own process.
    """

    text = "sentence"

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: BertModel,
        *,
        image_size: int,
        dim: int = 512,  # paper
        hidden: int = 2048,  # our choice: the paper names no width
        tau: float = 0.1,  # paper
        image_to_text_weight: float = 0.75,  # paper
        frozen_layers: int = 6,  # paper
        gather_negatives: bool = True,  # our choice: the paper has one process
        seed: int = 42,
    ):
        super().__init__()
        self.tau, self.frozen_layers, self.gather_negatives = tau, frozen_layers, gather_negatives
        self.loss_weights = {"image_to_text": image_to_text_weight, "text_to_image": 1 - image_to_text_weight}
        self.trunk, self.text_encoder = trunk, text_encoder
        with seeded(seed, "convirt"):
            self.image_head = build_mlp(feature_dim(trunk), hidden, dim)
            self.text_head = build_mlp(text_encoder.config.hidden_size, hidden, dim)

    def unused_parameters(self, phase: str) -> list[nn.Parameter]:
        return lower_layers(self.text_encoder, self.frozen_layers)

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        u, v = self.encode(batch)
        if self.gather_negatives:
            u, v = gather(u), gather(v)
        there, back = info_nce(cosines(u, v), self.tau)
        return {"image_to_text": there, "text_to_image": back}

    def encode_text(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.text_encoder(input_ids=token_ids, attention_mask=mask).last_hidden_state
        # the paper pools "all output vectors": [CLS] and [SEP] take part, padding does not
        pooled, _ = segment_max(hidden, mask.long() - 1)
        return self.text_head(pooled.squeeze(1))
