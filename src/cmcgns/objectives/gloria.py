"""GLoRIA: words of a sentence against regions of the image, and both as a whole (Huang et al., ICCV 2021)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from transformers import BertModel

from cmcgns.errors import InputError
from cmcgns.losses.gloria import local_loss, word_attention
from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines, unit
from cmcgns.models.image import feature_dim, feature_maps, local_regions, upsampled
from cmcgns.models.pooling import masked_mean, members, word_sum, words_of_sentences
from cmcgns.models.seeding import seeded
from cmcgns.objectives.base import Batch, Objective, Terms


@dataclass
class Features:
    """What one pass through the encoders gives.

    Attributes:
        regions: (B, P, D) cells of layer3; grid: (h, w), P = h * w.
        words: (B, W, D), [CLS] and the words of the text, 0 where there is none; mask: (B, W) True where there is one.
        image, text: (B, D) global embeddings.
    """

    regions: Tensor
    grid: tuple[int, int]
    words: Tensor
    mask: Tensor
    image: Tensor
    text: Tensor


class GLoRIA(Objective):
    """Global and local InfoNCE in the space of the text encoder, which has no projection.

    The official code draws a sentence of the impression, this one a sentence of the report; both contrast within a
    process.

    Args:
        last_layers: so many last layers of the text encoder are summed.
        temp1: sharpens the attention of a word over the regions.
        temp2: of the sum over words.
        temp3: multiplies global cosines and local scores.
        lambda_global, lambda_local: weights of the two terms, each the sum of both directions.
        upsample: side in pixels to which images are enlarged; None = as they are.
        chunk: texts at a time in the local loss, which bounds memory and changes no value.
    """

    text = "sentence"

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: BertModel,
        *,
        image_size: int,
        last_layers: int = 4,  # marshuang80/gloria chexpert_gloria_pretrain_config.yaml, as the next five
        temp1: float = 4.0,
        temp2: float = 5.0,
        temp3: float = 10.0,
        lambda_global: float = 1.0,
        lambda_local: float = 1.0,
        upsample: int | None = None,  # 299 in marshuang80/gloria vision_model.py
        chunk: int = 8,  # our choice
        seed: int = 42,
    ):
        super().__init__()
        layers = text_encoder.config.num_hidden_layers
        if not 1 <= last_layers <= layers:
            raise InputError(
                f"last_layers is {last_layers}", expected=f"1 to {layers}, the text encoder's layers"
            )
        self.last_layers, self.upsample = last_layers, upsample
        self.temp1, self.temp3 = temp1, temp3
        self.local_options = {"temp1": temp1, "temp2": temp2, "temp3": temp3, "chunk": chunk}
        self.loss_weights = {"global": lambda_global, "local": lambda_local}
        self.trunk, self.text_encoder = trunk, text_encoder
        channels, dim = feature_dim(trunk), text_encoder.config.hidden_size
        with seeded(seed, "gloria"):
            self.image_head = nn.Linear(channels, dim)
            self.region_head = nn.Linear(channels // 2, dim, bias=False)

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        features = self.encode(batch)
        return {
            "global": sum(info_nce(cosines(features.image, features.text), 1 / self.temp3)),
            "local": sum(local_loss(features.regions, features.words, features.mask, **self.local_options)),
        }

    def encode(self, batch: Batch) -> Features:
        """Both encoders and the two image heads."""
        maps = feature_maps(self.trunk, upsampled(batch.images, self.upsample), ["layer3", "layer4"])
        tokens = self._tokens(batch)
        words, mask = word_sum(tokens, words_with_cls(batch.word_index))
        return Features(
            regions=self.region_head(local_regions(maps["layer3"])),
            grid=maps["layer3"].shape[2:],
            words=words,
            mask=mask,
            image=self.image_head(maps["layer4"].mean((2, 3))),
            # the official mean over words has the direction of the mean over tokens, [CLS] and [SEP] included
            text=masked_mean(tokens, batch.attention_mask),
        )

    def _tokens(self, batch: Batch) -> Tensor:
        out = self.text_encoder(
            input_ids=batch.token_ids, attention_mask=batch.attention_mask, output_hidden_states=True
        )
        return torch.stack(out.hidden_states[-self.last_layers :]).sum(0)

    @torch.no_grad()
    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As in the base class; the global similarity alone, since the local one is no product of two vectors."""
        features = self.encode(batch)
        return unit(features.image), unit(features.text)

    @torch.no_grad()
    def attention_maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As in the base class: the mean attention of a sentence's words; a map sums to 1."""
        features = self.encode(batch)
        similarity = features.words @ features.regions.mT
        attention = word_attention(similarity, features.mask, self.temp1)  # (B, W, P)
        shared = words_of_sentences(batch.sentence_index, words_with_cls(batch.word_index))  # (B, M, W)
        maps = shared @ attention / shared.sum(-1, keepdim=True).clamp(min=1)
        return maps.unflatten(-1, features.grid), members(batch.sentence_index).any(-1)


def words_with_cls(word_index: Tensor) -> Tensor:
    """(B, L) -> (B, L): [CLS] is word 0, the words of the text follow, [SEP] and padding stay -1.

    As the official code, whose number of words counts [CLS] but leaves the last one, [SEP], out of the local loss.
    """
    index = torch.where(word_index < 0, word_index, word_index + 1)
    index[:, 0] = 0
    return index
