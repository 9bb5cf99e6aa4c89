"""LoVT: regions and sentences against what they attend to in the other modality (Müller et al., ECCV 2022)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from transformers import BertModel

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines, unit
from cmcgns.losses.tokens import token_info_nce
from cmcgns.models.attention import SharedKeyAttention
from cmcgns.models.image import feature_dim, forward_features, local_regions
from cmcgns.models.pooling import MeanQueryPool, segment_max
from cmcgns.models.projection import apply_rows, build_mlp
from cmcgns.models.seeding import seeded
from cmcgns.models.text import lower_layers
from cmcgns.objectives.base import Batch, Objective, Terms


@dataclass
class Features:
    """What one pass through the encoders gives.

    Attributes:
        f_i: (B, P, D) regions; f_ri: (B, P, D) what they attend to in the report; grid: (h, w), P = h * w.
        f_r: (B, M, D) sentences; f_ir: (B, M, D) what they attend to in the image; mask: (B, M) True for sentences.
        gates: (B, M, P), how much sentence m attends to region p; rows sum to 1.
        region_weights, sentence_weights: (B, P) and (B, M), of the global pools, without gradient.
        u_i, u_r: (B, D) global embeddings.
    """

    f_i: Tensor
    f_ri: Tensor
    grid: tuple[int, int]
    f_r: Tensor
    f_ir: Tensor
    mask: Tensor
    gates: Tensor
    region_weights: Tensor
    sentence_weights: Tensor
    u_i: Tensor
    u_r: Tensor


class LoVT(Objective):
    """Global InfoNCE in the batch, local InfoNCE inside each sample.

    It differs from the released code in what that makes of padding, which enters its averages and batch norms, and
    in the order of sentences: uniformly random here, random swaps there. Negatives are those of the own process.

    Args:
        dim: D, of the common space, local and global.
        hidden: width of the one hidden layer of the four heads.
        heads: of both attention pools.
        frozen_layers: the embeddings and so many layers of the text encoder are not trained; 0 = all are.
        tau_global, tau_local: temperatures.
        positive_radius: cells nearer than this part of the grid's diagonal are positives of a region.
        positive_decay: their weight is exp(-positive_decay * distance), the distance in diagonals.
        lambda_image_to_report, lambda_report_to_image: weights of the two directions of the global loss.
        lambda_local: weight of each of the two directions of each of the two local losses.
    """

    text = "shuffled"

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: BertModel,
        *,
        image_size: int,
        dim: int = 512,  # philip-mueller/lovt pretraining_utils.py
        hidden: int = 2048,  # pretraining_utils.py
        heads: int = 8,  # aggregation.py
        frozen_layers: int = 6,  # bioclinicalbert_sentatt.yaml
        tau_global: float = 0.1,  # global_contrastive.yaml
        tau_local: float = 0.3,  # scan_local_intra_contrastive.yaml, report_sent_intra_contrastive.yaml
        positive_radius: float = 0.5,  # scan_local_intra_contrastive.yaml
        positive_decay: float = 1.0,  # scan_local_intra_contrastive.yaml
        lambda_image_to_report: float = 0.75,  # LoVT_100.yaml
        lambda_report_to_image: float = 0.25,  # LoVT_100.yaml
        lambda_local: float = 0.375,  # LoVT_100.yaml
        seed: int = 42,
    ):
        super().__init__()
        self.frozen_layers, self.tau_global, self.tau_local = frozen_layers, tau_global, tau_local
        self.positive_radius, self.positive_decay = positive_radius, positive_decay
        self.loss_weights = {
            "image_to_report": lambda_image_to_report,
            "report_to_image": lambda_report_to_image,
            "regions": lambda_local,
            "sentences": lambda_local,
        }
        self.trunk, self.text_encoder = trunk, text_encoder
        channels, width = feature_dim(trunk), text_encoder.config.hidden_size
        with seeded(seed, "lovt"):
            self.image_pool, self.text_pool = MeanQueryPool(channels, heads), MeanQueryPool(width, heads)
            self.local_image = build_mlp(channels, hidden, dim, norm="hidden")
            self.global_image = build_mlp(channels, hidden, dim, norm="hidden")
            self.local_text = build_mlp(width, hidden, dim, norm="hidden")
            self.global_text = build_mlp(width, hidden, dim, norm="hidden")
            self.attention = SharedKeyAttention(dim)

    def unused_parameters(self, phase: str) -> list[nn.Parameter]:
        return lower_layers(self.text_encoder, self.frozen_layers)

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        x = self.encode(batch)
        there, back = info_nce(cosines(x.u_i, x.u_r), self.tau_global)
        near = neighbours(x.grid, self.positive_radius, self.positive_decay, x.f_i.device)
        regions = token_info_nce(x.f_i, x.f_ri, self.tau_local, weights=x.region_weights, positives=near)
        sentences = token_info_nce(
            x.f_r, x.f_ir, self.tau_local, weights=x.sentence_weights * x.mask, counts=x.mask
        )
        return {
            "image_to_report": there,
            "report_to_image": back,
            "regions": sum(regions),
            "sentences": sum(sentences),
        }

    def encode(self, batch: Batch) -> Features:
        """Both encoders, pools, heads and the cross attention."""
        fmap = forward_features(self.trunk, batch.images)
        cells = local_regions(fmap)
        image, region_weights = self.image_pool(cells)
        hidden = self.text_encoder(input_ids=batch.token_ids, attention_mask=batch.attention_mask)
        sentences, mask = segment_max(hidden.last_hidden_state, batch.sentence_index)
        text, sentence_weights = self.text_pool(sentences, mask)
        f_i = self.local_image(cells.flatten(0, 1)).unflatten(0, cells.shape[:2])
        f_r = apply_rows(self.local_text, sentences, mask)
        f_ir, f_ri, gates = self.attention(f_i, f_r, mask)
        return Features(
            f_i, f_ri, fmap.shape[2:], f_r, f_ir, mask, gates, region_weights.detach(), sentence_weights.detach(),
            self.global_image(image), self.global_text(text),
        )  # fmt: skip

    @torch.no_grad()
    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x = self.encode(batch)
        return unit(x.u_i), unit(x.u_r)


def neighbours(grid: tuple[int, int], radius: float, decay: float, device: torch.device) -> Tensor:
    """(P, P), how much cell q is a positive of cell p: exp(-decay * d) for d <= radius, rows scaled to sum 1.

    d is the distance between centres in diagonals of the grid, sqrt(h^2 + w^2).
    """
    height, width = grid
    rows, columns = (torch.arange(n, device=device, dtype=torch.float32) for n in grid)
    cells = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).flatten(0, 1)  # (P, 2)
    distance = (cells.unsqueeze(1) - cells).norm(dim=-1) / math.hypot(height, width)
    weight = torch.exp(-decay * distance) * (distance <= radius)
    return weight / weight.sum(1, keepdim=True)
