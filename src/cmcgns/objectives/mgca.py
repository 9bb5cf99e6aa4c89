"""MGCA: alignment of instances, of words and patches, and of prototypes (Wang et al., NeurIPS 2022)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet
from transformers import BertModel

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines, unit
from cmcgns.losses.sinkhorn import prototype_loss
from cmcgns.losses.tokens import clipped_weights, token_info_nce
from cmcgns.models.attention import cosine_attention
from cmcgns.models.image import feature_dim, feature_maps, local_regions, upsampled
from cmcgns.models.pooling import word_sum, words_of_sentences
from cmcgns.models.projection import apply_rows, build_mlp
from cmcgns.models.seeding import seeded
from cmcgns.models.text import encode_with_cls_attention
from cmcgns.objectives.base import Batch, Objective, Terms


@dataclass
class Features:
    """What one pass through the encoders gives; all embeddings have unit length.

    Attributes:
        patches: (B, P, D), cells of layer3; grid: (h, w), P = h * w.
        words: (B, T, D), the W words of the text, then, with `word_slots`, one for all empty slots.
        counts: (B, T), how many words each stands for: 1, 0 on padding, the number of empty slots at the end.
        mask: (B, T) True for words; importance: (B, T), attention of [CLS] on each.
        image, report: (B, D) global embeddings.
    """

    patches: Tensor
    grid: tuple[int, int]
    words: Tensor
    counts: Tensor
    mask: Tensor
    importance: Tensor
    image: Tensor
    report: Tensor


class MGCA(Objective):
    """Three levels of alignment, each between the image and report of one process.

    It differs from the released code in two things: a word's weight is the attention of [CLS] on that word, where the
    code takes the token after it; and [SEP] is no word, whose weight is 0 there.

    Args:
        dim: D, of the common space.
        hidden: width of the one hidden layer of the four heads.
        tau_global, tau_local, tau_prototype: temperatures.
        word_slots: so many word positions stand in the denominators of the word loss; the words of a text fill them
            from the start, the embedding of a zero vector the rest (baselines T28). None = words only.
        weight_clip: words' weights are clipped at this quantile of their text and at 1 minus it.
        prototypes: K, their number.
        epsilon: of the Sinkhorn assignment.
        sinkhorn_iterations: of the same.
        freeze_steps: batches at the start in which prototypes are not trained; the released code counts an epoch.
        lambda_global, lambda_local, lambda_prototype: weights of the three levels.
        upsample: side in pixels to which images are enlarged; None = as they are.
    """

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: BertModel,
        *,
        image_size: int,
        dim: int = 128,  # HKU-MedAI/MGCA mgca_module.py, as all below without another source
        hidden: int = 2048,  # encoder.py
        tau_global: float = 0.07,
        tau_local: float = 0.1,
        tau_prototype: float = 0.2,
        word_slots: int | None = 111,  # pretrain_dataset.py: 112 tokens, of which [CLS] is no word
        weight_clip: float = 0.1,
        prototypes: int = 500,
        epsilon: float = 0.05,
        sinkhorn_iterations: int = 3,
        freeze_steps: int = 1613,  # one epoch: 232,286 pairs in batches of 144
        lambda_global: float = 1.0,  # the parser's defaults, which replace the class's 1, 0.7 and 0.5
        lambda_local: float = 1.0,
        lambda_prototype: float = 1.0,
        upsample: int | None = None,  # 299 in encoder.py
        seed: int = 42,
    ):
        super().__init__()
        self.tau_global, self.tau_local = tau_global, tau_local
        self.word_slots, self.weight_clip, self.upsample = word_slots, weight_clip, upsample
        self.assignment = {"tau": tau_prototype, "epsilon": epsilon, "iterations": sinkhorn_iterations}
        self.freeze_steps = freeze_steps
        self.loss_weights = {
            "global": lambda_global,
            "words": lambda_local,
            "patches": lambda_local,
            "prototypes": lambda_prototype,
        }
        self.trunk, self.text_encoder = trunk, text_encoder
        channels, width = feature_dim(trunk), text_encoder.config.hidden_size
        with seeded(seed, "mgca"):
            self.global_image = build_mlp(channels, hidden, dim, norm="last_plain")
            self.local_image = build_mlp(channels // 2, hidden, dim, norm="last_plain")
            self.global_text = build_mlp(width, hidden, dim, norm="last_plain")
            self.local_text = build_mlp(width, hidden, dim, norm="last_plain")
            self.prototypes = nn.Linear(dim, prototypes, bias=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        x = self.encode(batch)
        seen, _ = cosine_attention(x.words, x.patches, self.tau_local)
        told, _ = cosine_attention(x.patches, x.words, self.tau_local, x.mask)
        weights = clipped_weights(x.importance, x.mask, self.weight_clip)
        words = token_info_nce(x.words, seen, self.tau_local, weights=weights, counts=x.counts)
        patches = token_info_nce(x.patches, told, self.tau_local)
        return {
            "global": sum(info_nce(cosines(x.image, x.report), self.tau_global)),
            "words": sum(words) / 2,
            "patches": sum(patches) / 2,
            "prototypes": prototype_loss(x.image, x.report, self._prototype_vectors(), **self.assignment),
        }

    def encode(self, batch: Batch) -> Features:
        """Both encoders and the four heads."""
        maps = feature_maps(self.trunk, upsampled(batch.images, self.upsample), ["layer3", "layer4"])
        cells = local_regions(maps["layer3"])
        hidden, cls_attention = encode_with_cls_attention(
            self.text_encoder, batch.token_ids, batch.attention_mask
        )
        words, mask = word_sum(hidden, batch.word_index)
        importance, _ = word_sum(cls_attention.unsqueeze(-1), batch.word_index)
        counts = mask.float()
        if self.word_slots is not None:
            empty = (self.word_slots - counts.sum(1, keepdim=True)).clamp(min=0)
            counts = torch.cat([counts, empty], 1)
            words, importance = (F.pad(value, (0, 0, 0, 1)) for value in (words, importance))
            mask = F.pad(mask, (0, 1))
        return Features(
            patches=unit(self.local_image(cells.flatten(0, 1)).unflatten(0, cells.shape[:2])),
            grid=maps["layer3"].shape[2:],
            words=unit(apply_rows(self.local_text, words, counts > 0)),
            counts=counts,
            mask=mask,
            importance=importance.squeeze(-1),
            image=unit(self.global_image(maps["layer4"].mean((2, 3)))),
            report=unit(self.global_text(hidden[:, 0])),
        )

    def _prototype_vectors(self) -> Tensor:
        """(K, D) unit vectors; in training the parameter itself is scaled to them and the batch counted."""
        weight = self.prototypes.weight
        if not self.training:
            return unit(weight)
        with torch.no_grad():
            weight.copy_(unit(weight))
        # frozen = a gradient of 0: no branch on the device's counter, and no parameter that DDP would miss;
        # weight decay only scales the vectors, which is undone above
        free = (self.steps >= self.freeze_steps).to(weight.dtype)
        self.steps += 1
        return free * weight + (1 - free) * weight.detach()

    @torch.no_grad()
    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As in the base class; the similarity of instances alone, since the local ones are no product of two vectors."""
        x = self.encode(batch)
        return x.image, x.report

    @torch.no_grad()
    def attention_maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As in the base class: the mean attention of a sentence's words; a map sums to 1."""
        x = self.encode(batch)
        shares = words_of_sentences(batch.sentence_index, batch.word_index)  # (B, M, W)
        _, of_words = cosine_attention(x.words, x.patches, self.tau_local)
        maps = shares @ of_words[:, : shares.shape[2]] / shares.sum(-1, keepdim=True).clamp(min=1)
        return maps.unflatten(-1, x.grid), shares.any(-1)
