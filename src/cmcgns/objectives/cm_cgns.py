"""CM-CGNS: cross-modal cluster-guided negative sampling, with masked image reconstruction (arXiv 2506.11674)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import ResNet
from transformers import BertModel

from cmcgns.errors import InputError
from cmcgns.losses.bml import bml_loss, false_negatives
from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines, unit
from cmcgns.losses.reconstruction import reconstruction_loss
from cmcgns.losses.report import report_loss
from cmcgns.losses.simsiam import simsiam_loss
from cmcgns.models.attention import SigmoidCrossAttention
from cmcgns.models.decoder import ImageDecoder
from cmcgns.models.image import STRIDE, feature_dim, forward_features, local_regions
from cmcgns.models.kmeans import SentenceClusters
from cmcgns.models.masking import mask_regions
from cmcgns.models.pooling import AttentionPool, ImageAttentionPool, masked_mean, sentence_mean
from cmcgns.models.projection import build_predictor, build_projection
from cmcgns.models.seeding import seeded
from cmcgns.objectives import cm_cgns_logs
from cmcgns.objectives.base import Batch, Objective, Terms, gather, gather_uneven

OPTIONS = {
    "local_layout": ("spatial", "channel_view"),
    "image_pool": ("attention", "mean"),
    "text_pool": ("attention", "mean"),
    "global_reduction": ("sum", "mean"),
    "attn_input_norm": ("none", "l2", "position", "position_l2"),
    "attn_gate_start": ("half", "mean"),
    "hard_negative_set": ("batch_second", "all_other_centroids", "own_second"),
    "hard_negative_form": ("prob_weight", "official_logit_product", "logit_offset"),
    "false_negative_rule": ("crossmodal_members", "text_assignment"),
    "bml_reduction": ("fn_pairs", "all_pairs"),
    "mask_unit": ("position", "channel", "element"),
    "stage2_losses": ("all", "reconstruction", "no_reconstruction"),
}
MAX_SCALE = 100.0  # of a learnable temperature, as CLIP clamps it


@dataclass
class Features:
    """What one pass through the encoders gives.

    Attributes:
        f_i: (B, P, D) regions; f_r: (B, M, D) sentences; mask: (B, M) True where there is a sentence.
        f_ir: (B, M, D) image-to-report; f_ri: (B, P, D) report-to-image; gates: (B, M, P).
        grid: (h, w), P = h * w.
        u_i, u_r: (B, D) global embeddings.
    """

    f_i: Tensor
    f_r: Tensor
    mask: Tensor
    f_ir: Tensor
    f_ri: Tensor
    gates: Tensor
    grid: tuple[int, int]
    u_i: Tensor
    u_r: Tensor


class CMCGNS(Objective):
    """The defaults are the preset `paper`; what the released code does instead is the preset `official` of params.yaml.

    Letters after a parameter name its row in the table of discrepancies (method.md 9). Every width follows from the
    two encoders and `dim`. Its attention maps are A_IR, in (0, 1); their cells are image regions only with
    `local_layout="spatial"`.

    Args:
        dim: D, the common dimension.
        heads: of both attention pools.
        decoder_widths: channels of the decoder's first four convolutions.
        attn_input_norm: what regions and sentences are before the attention: "none" as they are; "l2" of unit length;
            "position": each region is standardised over the batch at its place, so that it holds how a film differs from
            others there and how much (a mean square length of 1); "position_l2": of unit length after that. Gates that
            a sentence opens at the same places of any film then sum to nothing.
        attn_gate_start: of the gates of A_IR, "half" or "mean" (`models.attention.SigmoidCrossAttention`).
        clustering: False = conventional local alignment: plain InfoNCE over the batch, no BML (paper, table IV).
        stage2_losses: "all", "reconstruction" alone, or "no_reconstruction" (D34).
    """

    phases = ("stage1", "stage2")

    def __init__(
        self,
        trunk: ResNet,
        text_encoder: BertModel,
        *,
        image_size: int = 224,
        dim: int = 768,
        heads: int = 8,
        local_layout: str = "spatial",  # D1
        image_pool: str = "attention",  # D2
        text_pool: str = "attention",  # D3
        proj_type: str = "linear",  # D4
        tau_global: float = 0.01,  # D5
        learnable_tau: bool = False,  # D5
        tau_local: float = 0.01,  # D6
        global_reduction: str = "sum",  # D8
        mask_same_study_negatives: bool = False,  # section 3
        attn_input_norm: str = "none",  # D9
        token_norm: bool = False,  # D10
        attn_share: bool = False,  # D11
        attn_bias: bool = True,  # D12
        attn_gate_start: str = "half",
        clustering: bool = True,
        kmeans_mode: str = "ema",  # D13
        num_clusters: int = 128,  # D14
        kmeans_lr: float = 1e-3,  # D15
        kmeans_reduction: str = "mean",  # D15
        kmeans_renorm: bool = True,  # D15
        kmeans_start: Mapping[str, object] | None = None,  # D16; None = mean cosine <= 0.4, from step 0
        kmeans_init: str = "chain",  # D17
        kmeans_init_pool: int = 0,
        kmeans_iters: int = 10,
        kmeans_reseed_after: int | None = None,
        mu: float = 3.0,
        hard_negative_form: str = "prob_weight",  # D18
        hard_negative_set: str = "batch_second",  # D19
        exclude_own_cluster_from_hard_negatives: bool = False,  # D20
        exclude_false_negatives_from_denominator: bool = False,  # D20
        false_negative_rule: str = "crossmodal_members",  # D21
        bml_reduction: str = "fn_pairs",  # D22
        bml_weight: float = 1.0,  # D23
        bml_alpha: float = 0.2,  # D24
        bml_beta: float = 0.5,  # D24
        report_bidirectional: bool = False,  # D25
        local_gather: bool = False,  # D26
        predictor_hidden: int = 384,  # D27
        mask_unit: str = "position",  # D28
        mask_ratio: float = 0.5,
        mask_in_eval: bool = True,  # D29
        output_activation: str = "tanh",  # D30
        decoder_widths: Sequence[int] = (512, 256, 128, 64),
        lambda_re: float = 10.0,  # D32
        lambda_global: float = 1.0,  # D33
        lambda_local: float = 1.0,  # D33
        stage2_losses: str = "all",  # D34
        seed: int = 42,
    ):
        super().__init__()
        given = locals()
        for name, allowed in OPTIONS.items():
            if given[name] not in allowed:
                raise InputError(f"unknown {name} {given[name]!r}", expected=f"one of {', '.join(allowed)}")
        if image_size % STRIDE:
            raise InputError(f"image_size is {image_size}", expected=f"a multiple of {STRIDE}")
        self.local_layout, self.attn_input_norm, self.token_norm = local_layout, attn_input_norm, token_norm
        self.global_reduction, self.mask_same_study_negatives = global_reduction, mask_same_study_negatives
        self.clustering, self.false_negative_rule, self.local_gather = (
            clustering,
            false_negative_rule,
            local_gather,
        )
        self.exclude_false_negatives = exclude_false_negatives_from_denominator
        self.report_options = {
            "tau": tau_local,
            "mu": mu,
            "hard_negative_set": hard_negative_set,
            "hard_negative_form": hard_negative_form,
            "exclude_own_cluster": exclude_own_cluster_from_hard_negatives,
            "bidirectional": report_bidirectional,
        }
        self.bml_options = {"alpha": bml_alpha, "beta": bml_beta, "reduction": bml_reduction}
        self.mask_unit, self.mask_ratio, self.mask_in_eval = mask_unit, mask_ratio, mask_in_eval
        self.stage2_losses = stage2_losses
        self.loss_weights = {
            "global": lambda_global,
            "report": lambda_local,
            "bml": lambda_local * bml_weight,
            "image": lambda_local,
            "reconstruction": lambda_re,
        }
        self.trunk, self.text_encoder = trunk, text_encoder
        channels, hidden = feature_dim(trunk), text_encoder.config.hidden_size
        with seeded(seed, "cm_cgns"):
            self.local_image = build_projection(channels, dim, proj_type)
            self.global_image = build_projection(channels, dim, proj_type)
            self.local_text = build_projection(hidden, dim, proj_type)
            self.image_pool = (
                ImageAttentionPool(channels, image_size // STRIDE, heads)
                if image_pool == "attention"
                else None
            )
            self.text_pool = AttentionPool(dim, heads) if text_pool == "attention" else None
            self.attention = SigmoidCrossAttention(
                dim, bias=attn_bias, share=attn_share, gate_start=attn_gate_start
            )
            self.predictor = build_predictor(dim, predictor_hidden)
            self.region_norm = (
                nn.BatchNorm1d((image_size // STRIDE) ** 2 * dim, affine=False)
                if attn_input_norm.startswith("position")
                else None
            )
            self.decoder = ImageDecoder(dim, widths=decoder_widths, output_activation=output_activation)
        scale = torch.tensor(-math.log(tau_global))
        self.tau_global = tau_global
        self.log_scale = nn.Parameter(scale) if learnable_tau else None
        self.clusters = SentenceClusters(
            dim,
            num_clusters=num_clusters,
            mode=kmeans_mode,
            lr=kmeans_lr,
            reduction=kmeans_reduction,
            renorm=kmeans_renorm,
            init=kmeans_init,
            start=kmeans_start,
            init_pool=kmeans_init_pool,
            iters=kmeans_iters,
            reseed_after=kmeans_reseed_after,
            seed=seed,
        )
        self._last: dict[str, Tensor] = {}

    def term_names(self, phase: str) -> list[str]:
        """The loss terms of `phase` (paper eqs. 11, 13)."""
        if phase not in self.phases:
            raise ValueError(f"unknown phase {phase!r}")
        alignment = ["global", "report", *(["bml"] if self.clustering else []), "image"]
        if phase == "stage1" or self.stage2_losses == "no_reconstruction":
            return alignment
        return (
            ["reconstruction"] if self.stage2_losses == "reconstruction" else [*alignment, "reconstruction"]
        )

    def weights(self, phase: str) -> dict[str, float]:
        return {name: self.loss_weights[name] for name in self.term_names(phase)}

    def unused_parameters(self, phase: str) -> list[nn.Parameter]:
        names = self.term_names(phase)
        modules: list[nn.Module | None] = [] if "reconstruction" in names else [self.decoder]
        if "global" not in names:
            modules += [self.image_pool, self.global_image, self.text_pool, self.predictor]
        unused = [parameter for module in modules if module is not None for parameter in module.parameters()]
        return unused + ([self.log_scale] if self.log_scale is not None and "global" not in names else [])

    def forward(self, batch: Batch, phase: str, generator: torch.Generator | None = None) -> Terms:
        names = self.term_names(phase)
        features = self.encode(batch)
        self._last = {name: value.detach() for name, value in vars(features).items() if name != "grid"}
        terms: dict[str, Tensor] = {}
        if "global" in names:
            terms["global"] = self._global_term(features, batch.study)
            terms |= self._report_terms(features)
            terms["image"] = simsiam_loss(
                self.predictor(features.f_i), self.predictor(features.f_ri), features.f_i, features.f_ri
            )
        if "reconstruction" in names:
            terms["reconstruction"] = reconstruction_loss(self.reconstruct(features, generator), batch.images)
        return {name: terms[name] for name in names}

    def encode(self, batch: Batch) -> Features:
        """Both encoders, projections, pools and cross attention (method.md 1, 2)."""
        fmap = forward_features(self.trunk, batch.images)
        pooled = fmap.mean((2, 3)) if self.image_pool is None else self.image_pool(fmap)
        f_i = self.local_image(local_regions(fmap, self.local_layout))
        hidden = self.text_encoder(input_ids=batch.token_ids, attention_mask=batch.attention_mask)
        tokens = self.local_text(hidden.last_hidden_state)
        f_r, mask = sentence_mean(tokens, batch.sentence_index, self.token_norm)
        if self.region_norm is not None:
            f_i = self.region_norm(f_i.flatten(1).float()).view_as(f_i)
        if self.attn_input_norm != "none":
            f_i = f_i * f_i.shape[-1] ** -0.5 if self.attn_input_norm == "position" else unit(f_i)
            # the mean of unit tokens stays as it is, shorter than 1, as in the released code
            f_r = f_r if self.token_norm else unit(f_r)
        f_ir, f_ri, gates = self.attention(f_i, f_r, mask)
        u_r = masked_mean(f_r, mask) if self.text_pool is None else self.text_pool(f_r, mask)
        return Features(f_i, f_r, mask, f_ir, f_ri, gates, fmap.shape[2:], self.global_image(pooled), u_r)

    def _global_term(self, features: Features, study: Tensor) -> Tensor:
        """Symmetric InfoNCE over the images and reports of all processes (paper eqs. 1-4)."""
        tau: float | Tensor = self.tau_global
        if self.log_scale is not None:
            if self.training:
                with torch.no_grad():
                    self.log_scale.clamp_(max=math.log(MAX_SCALE))
            tau = self.log_scale.neg().exp()
        same_study = None
        if self.mask_same_study_negatives:
            study = gather(study)
            same_study = study.unsqueeze(1) == study
        both = info_nce(cosines(gather(features.u_i), gather(features.u_r)), tau, same_study)
        return sum(both) if self.global_reduction == "sum" else sum(both) / 2

    def _report_terms(self, features: Features) -> dict[str, Tensor]:
        """The report loss and BML over all sentences of the batch (paper eqs. 7-9; the steps of method.md 4.6)."""
        valid = features.mask.flatten().nonzero().squeeze(1)
        z1, z2 = (unit(f.flatten(0, 1).index_select(0, valid)) for f in (features.f_r, features.f_ir))
        if self.local_gather:
            z1, z2 = gather_uneven(z1), gather_uneven(z2)
        s = cosines(z1, z2)
        usable = self.clustering and self._clusters_usable(z1, z2)
        self._last |= {"s": s.detach(), "z2": z2.detach()}
        if not usable:
            terms = {"report": report_loss(s, **self.report_options)}
            return terms | ({"bml": s.new_zeros(())} if self.clustering else {})
        q = self.clusters.cosines(z1)
        anchors = q.argmax(1)
        members = anchors
        if self.false_negative_rule == "crossmodal_members":
            members = self.clusters.cosines(z2).argmax(1)
        pairs = false_negatives(anchors, members)
        self._last |= {"q": q.detach(), "pairs": pairs}
        exclude = pairs if self.exclude_false_negatives else None
        return {
            "report": report_loss(s, q, exclude=exclude, **self.report_options),
            "bml": bml_loss(s, pairs, **self.bml_options),
        }

    def _clusters_usable(self, z1: Tensor, z2: Tensor) -> bool:
        if not self.training:
            return self.clusters.started
        # sentences differ in number between processes; with local_gather they are gathered already
        return self.clusters.update(z1.detach(), z2.detach(), None if self.local_gather else gather_uneven)

    def reconstruct(self, features: Features, generator: torch.Generator | None) -> Tensor:
        """The decoded image (B, 3, H, W) from masked regions and what the report says of them (method.md 6)."""
        regions = features.f_i
        if self.training or self.mask_in_eval:
            if generator is None:
                raise ValueError("masking needs a generator")
            regions = mask_regions(regions, generator, ratio=self.mask_ratio, unit=self.mask_unit)
        return self.decoder(regions, features.f_ri, features.grid)

    @torch.no_grad()
    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        x = self.encode(batch)
        return unit(x.u_i), unit(x.u_r)

    @torch.no_grad()
    def logs(self) -> dict[str, Tensor]:
        return cm_cgns_logs.statistics(self._last, self.clusters) if self._last else {}
