"""PRIOR: alignment, sentence prototypes, and reconstruction of each modality from the other (Cheng et al., ICCV 2023)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet
from transformers import BertModel

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines, unit
from cmcgns.losses.prototypes import choice_divergence, masked_average, match_slots
from cmcgns.losses.reconstruction import reconstruction_loss
from cmcgns.losses.simsiam import simsiam_loss
from cmcgns.losses.tokens import token_info_nce
from cmcgns.models.attention import CrossFeatures, SigmoidCrossAttention
from cmcgns.models.image import STRIDE, feature_dim, forward_features, local_regions
from cmcgns.models.pooling import AttentionPool, ImageAttentionPool, sentence_mean
from cmcgns.models.projection import build_predictor, build_projection
from cmcgns.models.prototypes import SentencePrototypes
from cmcgns.models.report_decoder import ReportDecoder, UpBlockDecoder
from cmcgns.models.seeding import seeded
from cmcgns.objectives.base import Batch, Objective, Terms, gather


@dataclass
class Features:
    """What one pass through the encoders gives.

    Attributes:
        f_i: (B, P, D) regions; grid: (h, w), P = h * w.
        sentences: (B, M, D) as encoded; f_r: (B, M, D) as used: from stage 2 on their mixtures of prototypes.
        choice: (B, M, K) logits of that mixture, None before stage 2; mask: (B, M) True for sentences.
        cross: what regions and sentences take of each other.
        u_i, u_r: (B, D) global embeddings.
    """

    f_i: Tensor
    grid: tuple[int, int]
    sentences: Tensor
    f_r: Tensor
    choice: Tensor | None
    mask: Tensor
    cross: CrossFeatures
    u_i: Tensor
    u_r: Tensor


class PRIOR(Objective):
    """Three stages: alignment; the same with sentences as mixtures of prototypes; and reconstruction.

    The released trunk has a one-channel stem, RGB kernels summed: three equal channels give the same. Where it pairs
    a slot of the decoder with a prototype it applies the inverse of the assignment; here each slot meets its match.

    Args:
        dim: D, of the common space.
        heads: of both attention pools.
        local_layout: "spatial"; "channel_view" is the released code's, whose regions are no places (baselines T1).
        tau_global, tau_local: where the two learned temperatures start.
        max_scale: the learned 1 / temperature is clamped to it in training; None = free (baselines T8).
        prototypes: K, their number.
        tau_prototype: temperature of the mixture; its Gumbel noise is drawn in training only (baselines T19).
        slots: queries of the report decoder; in stage 3 further sentences are cut.
        decoder_layers, decoder_heads, decoder_dropout: of the report decoder.
        drop_channels: part of the regions' channels that the image decoder does not see in training.
        lambda_global: of the global loss in stage 3; 1 before.
        lambda_prototype: of both L1 distances to prototypes, of sentences and of the decoder's slots.
    """

    phases = ("stage1", "stage2", "stage3")
    text = "shuffled"

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: BertModel,
        *,
        image_size: int,
        dim: int = 768,  # QtacierP/PRIOR configs/pretrain_model/prior.yaml
        heads: int = 8,  # modules/sentence_pool.py, encoders/image/resnet.py
        local_layout: str = "spatial",  # paper
        tau_global: float = 0.01,  # prior.yaml
        tau_local: float = 0.01,  # prior.yaml
        max_scale: float | None = None,  # models/prior.py
        prototypes: int = 512,  # prior.yaml
        tau_prototype: float = 0.9,  # modules/spb.py
        slots: int = 16,  # prior.yaml
        decoder_layers: int = 8,  # decoders/sentence.py
        decoder_heads: int = 12,  # decoders/sentence.py
        decoder_dropout: float = 0.1,  # decoders/sentence.py
        drop_channels: float = 0.5,  # prior.yaml
        lambda_global: float = 10.0,  # models/prior.py
        lambda_prototype: float = 10.0,  # prior.yaml
        seed: int = 42,
    ):
        super().__init__()
        self.local_layout, self.slots = local_layout, slots
        self.max_log_scale = math.inf if max_scale is None else math.log(max_scale)
        one = {"global": 1.0, "local_image": 1.0, "local_text": 1.0}
        two = {**one, "prototypes": lambda_prototype}
        retelling = {"image": 1.0, "report": lambda_prototype, "choice": 1.0, "report_global": 1.0}
        three = {**two, "global": lambda_global, **retelling}
        self.loss_weights = {"stage1": one, "stage2": two, "stage3": three}
        self.trunk, self.text_encoder = trunk, text_encoder
        channels, width = feature_dim(trunk), text_encoder.config.hidden_size
        with seeded(seed, "prior"):
            self.image_pool = ImageAttentionPool(channels, image_size // STRIDE, heads)
            self.text_pool = AttentionPool(dim, heads)
            self.global_image = build_projection(channels, dim)
            self.local_image = build_projection(channels, dim)
            self.local_text = build_projection(width, dim)
            self.attention = SigmoidCrossAttention(dim)
            self.predictor = build_predictor(dim, dim // 2)
            self.prototypes = SentencePrototypes(dim, prototypes, tau_prototype)
            self.image_decoder = UpBlockDecoder(dim, drop_channels)
            self.report_decoder = ReportDecoder(dim, slots, decoder_layers, decoder_heads, decoder_dropout)
        self.log_scales = nn.Parameter(torch.tensor([tau_global, tau_local]).log().neg())
        self.register_buffer("mixes", torch.tensor(False))  # the prototypes have been trained

    def weights(self, phase: str) -> dict[str, float]:
        if phase not in self.phases:
            raise ValueError(f"unknown phase {phase!r}")
        return self.loss_weights[phase]

    def unused_parameters(self, phase: str) -> list[nn.Parameter]:
        modules: dict[str, list[nn.Module]] = {
            "stage1": [self.prototypes, self.image_decoder, self.report_decoder],
            "stage2": [self.image_decoder, self.report_decoder],
            "stage3": [],
        }
        return [parameter for module in modules[phase] for parameter in module.parameters()]

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        names, mixes = self.weights(phase), phase != "stage1"
        noise = generator if self.training else None
        if self.training:
            if mixes and generator is None:
                raise ValueError("mixtures and dropped channels need a generator")
            self.mixes.fill_(mixes)
            with torch.no_grad():
                self.log_scales.clamp_(max=self.max_log_scale)
        x = self.encode(batch, mixes, noise, self.slots if phase == "stage3" else None)
        f_i, f_r, f_ir, f_ri = x.f_i, x.f_r, x.cross.image_to_report, x.cross.report_to_image
        tau_local = self.log_scales[1].neg().exp()
        terms = {
            "global": self._contrast(x.u_i, x.u_r),
            "local_image": simsiam_loss(self.predictor(f_i), self.predictor(f_ri), f_i, f_ri),
            "local_text": sum(token_info_nce(f_r, f_ir, tau_local, counts=x.mask)) / 2,
        }
        if mixes:
            terms["prototypes"] = masked_average((f_r - x.sentences).abs().mean(-1), x.mask)
        if phase == "stage3":
            image = self.image_decoder(f_i, f_ri, x.grid, noise)
            terms["image"] = reconstruction_loss(image, batch.images.mean(1, keepdim=True))  # grey
            terms |= self._report_terms(x, noise)
        return {name: terms[name] for name in names}

    def encode(
        self, batch: Batch, mixes: bool, noise: torch.Generator | None = None, slots: int | None = None
    ) -> Features:
        """Both encoders; `mixes` replaces sentences by mixtures of prototypes, `slots` is the most that are kept."""
        fmap = forward_features(self.trunk, batch.images)
        f_i = self.local_image(local_regions(fmap, self.local_layout))
        hidden = self.text_encoder(input_ids=batch.token_ids, attention_mask=batch.attention_mask)
        sentences, mask = sentence_mean(self.local_text(hidden.last_hidden_state), batch.sentence_index)
        sentences, mask = sentences[:, :slots], mask[:, :slots]
        f_r, choice = self.prototypes(sentences, noise) if mixes else (sentences, None)
        f_r = f_r * mask.unsqueeze(-1)
        cross = self.attention(f_i, f_r, mask)
        u_i, u_r = self.global_image(self.image_pool(fmap)), self.text_pool(f_r, mask)
        return Features(f_i, fmap.shape[2:], sentences, f_r, choice, mask, cross, u_i, u_r)

    def _contrast(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean of both directions of InfoNCE over all processes, at the learned temperature."""
        return sum(info_nce(cosines(gather(a), gather(b)), self.log_scales[0].neg().exp())) / 2

    def _report_terms(self, x: Features, noise: torch.Generator | None) -> dict[str, Tensor]:
        """The report as the image tells it: slots against prototypes, their choice, and the whole against the report."""
        count = x.mask.shape[1]
        targets = F.pad(x.f_r, (0, 0, 0, self.slots - count)).float()  # an empty slot's target is 0
        matched = match_slots(self.report_decoder(x.f_i), targets)
        retold, choice = self.prototypes(matched[:, :count], noise)
        return {
            "report": (matched - targets).abs().mean(),
            "choice": choice_divergence(choice, x.choice, x.mask),
            "report_global": self._contrast(self.text_pool(retold, x.mask), x.u_r),
        }

    @torch.no_grad()
    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As in the base class; sentences are mixtures of prototypes once these have been trained."""
        x = self.encode(batch, bool(self.mixes))
        return unit(x.u_i), unit(x.u_r)

    @torch.no_grad()
    def attention_maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """As in the base class: the gates of each sentence, in (0, 1); cells are places with "spatial" only."""
        x = self.encode(batch, bool(self.mixes))
        return x.cross.gates.unflatten(-1, x.grid), x.mask
