"""The arms of the comparison: what each is, where its definition comes from, and the schema of its parameters.

The values are in `params.yaml`. Adding a method: a file in `objectives/`, an entry here, its values there.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from cmcgns.typed import Count, Fraction, Natural, NonNegative, Positive, Section


class KmeansStart(Section):
    rule: Literal["mean_cos", "step", "z2_spread"]
    threshold: float
    min_step: Annotated[int, Field(ge=0)]


class CMCGNSObjective(Section):
    """Table 9 of the method specification: each alternative with a parameter name."""

    dim: Count
    heads: Count
    local_layout: Literal["spatial", "channel_view"]
    image_pool: Literal["attention", "mean"]
    text_pool: Literal["attention", "mean"]
    proj_type: Literal["linear", "mlp"]
    tau_global: Positive
    learnable_tau: bool
    tau_local: Positive
    global_reduction: Literal["sum", "mean"]
    mask_same_study_negatives: bool
    attn_input_norm: Literal["none", "l2", "position", "position_l2"]
    token_norm: bool
    attn_share: bool
    attn_bias: bool
    attn_gate_start: Literal["half", "mean"]
    clustering: bool
    kmeans_mode: Literal["ema", "minibatch"]
    num_clusters: Annotated[int, Field(ge=2)]
    kmeans_lr: Fraction
    kmeans_reduction: Literal["mean", "sum"]
    kmeans_renorm: bool
    kmeans_iters: Count
    kmeans_init: Literal["chain", "kmeans++"]
    kmeans_init_pool: Annotated[int, Field(ge=0)]
    kmeans_start: KmeansStart
    kmeans_reseed_after: Count | None
    mu: NonNegative
    hard_negative_form: Literal["prob_weight", "official_logit_product", "logit_offset"]
    hard_negative_set: Literal["batch_second", "all_other_centroids", "own_second"]
    exclude_own_cluster_from_hard_negatives: bool
    exclude_false_negatives_from_denominator: bool
    false_negative_rule: Literal["crossmodal_members", "text_assignment"]
    bml_alpha: float
    bml_beta: float
    bml_reduction: Literal["fn_pairs", "all_pairs"]
    bml_weight: NonNegative
    report_bidirectional: bool
    local_gather: bool
    predictor_hidden: Count
    mask_unit: Literal["position", "channel", "element"]
    mask_ratio: Fraction
    mask_in_eval: bool
    decoder_widths: tuple[Count, ...] = Field(strict=False)
    output_activation: Literal["tanh", "relu_tanh", "none"]
    lambda_global: NonNegative
    lambda_local: NonNegative
    lambda_re: NonNegative
    stage2_losses: Literal["all", "reconstruction", "no_reconstruction"]


class MoCoObjective(Section):
    dim: Count
    queue_size: Count = Field(description="a multiple of a step's pairs, less than the data set")
    momentum: Fraction
    tau: Positive
    head: Literal["linear", "mlp"]
    bn_splits: Count = Field(description="groups of a process's batch for batch norm; divides the batch")


class SimCLRObjective(Section):
    dim: Count
    head_layers: Annotated[int, Field(ge=2)]
    head_norm: bool
    tau: Positive
    sync_batch_norm: bool
    loss_weight: Positive = Field(description="2 adds the means of the two views, 1 is the mean over both")


class ConVIRTObjective(Section):
    dim: Count
    hidden: Count
    tau: Positive
    image_to_text_weight: Fraction
    frozen_layers: Natural
    gather_negatives: bool


class CLIPObjective(Section):
    dim: Count
    tau: Positive
    max_scale: Annotated[float, Field(gt=1)]


class GLoRIAObjective(Section):
    last_layers: Count
    temp1: Positive
    temp2: Positive
    temp3: Positive
    lambda_global: NonNegative
    lambda_local: NonNegative
    upsample: Count | None
    chunk: Count


class LoVTObjective(Section):
    dim: Count
    hidden: Count
    heads: Count
    frozen_layers: Natural
    tau_global: Positive
    tau_local: Positive
    positive_radius: NonNegative
    positive_decay: NonNegative
    lambda_image_to_report: NonNegative
    lambda_report_to_image: NonNegative
    lambda_local: NonNegative


class PRIORObjective(Section):
    dim: Count
    heads: Count
    local_layout: Literal["spatial", "channel_view"]
    tau_global: Positive
    tau_local: Positive
    max_scale: Positive | None
    prototypes: Count
    tau_prototype: Positive
    slots: Count
    decoder_layers: Count
    decoder_heads: Count
    decoder_dropout: Fraction
    drop_channels: Annotated[float, Field(ge=0, lt=1)]
    lambda_global: NonNegative
    lambda_prototype: NonNegative


class MGCAObjective(Section):
    dim: Count
    hidden: Count
    tau_global: Positive
    tau_local: Positive
    tau_prototype: Positive
    word_slots: Count | None
    weight_clip: Annotated[float, Field(ge=0, lt=0.5)]
    prototypes: Count
    epsilon: Positive
    sinkhorn_iterations: Count
    freeze_steps: Natural
    lambda_global: NonNegative
    lambda_local: NonNegative
    lambda_prototype: NonNegative
    upsample: Count | None


@dataclass(frozen=True)
class Method:
    """One arm.

    Attributes:
        title: as in the paper's tables.
        family: what it learns from.
        source: the code its preset `official` follows.
        objective: module and class under `cmcgns.objectives`; empty for an initialisation.
        parameters: the schema of the objective's parameters.
        phases: names of the training phases, in order; none for an initialisation.
        views: image views a step, which divide the epochs of the common recipe.
        text: reads reports.
        last_phase_only: parameters that nothing before the last phase reads.
    """

    title: str
    family: str
    source: str
    objective: str = ""
    parameters: type[Section] | None = None
    phases: tuple[str, ...] = ("stage1",)
    views: int = 1
    text: bool = False
    last_phase_only: frozenset[str] = frozenset()


METHODS = {
    "random": Method("Random Init", "initialisation", "a seed", phases=()),
    "imagenet": Method("ImageNet Init", "initialisation", "torchvision, weights IMAGENET1K_V1", phases=()),
    "shapes": Method(
        "Drawn Shapes Init",
        "initialisation",
        "cmcgns.synthetic.shape_weights, in place of ImageNet",
        phases=(),
    ),
    "moco": Method(
        "MoCo", "image only", "facebookresearch/moco at 89d6176", "moco.MoCo", MoCoObjective, views=2
    ),
    "moco_v2": Method(
        "MoCoV2", "image only", "facebookresearch/moco at 89d6176", "moco.MoCo", MoCoObjective, views=2
    ),
    "simclr": Method(
        "SimCLR", "image only", "google-research/simclr at 383d414", "simclr.SimCLR", SimCLRObjective, views=2
    ),
    "convirt": Method(
        "ConVIRT",
        "global image-text",
        "arXiv 2010.00747 (no code released)",
        "convirt.ConVIRT",
        ConVIRTObjective,
        text=True,
    ),
    "clip": Method(
        "CLIP",
        "global image-text",
        "openai/CLIP at d05afc4, trained as mlfoundations/open_clip at 89fb801",
        "clip.CLIP",
        CLIPObjective,
        text=True,
    ),
    "gloria": Method(
        "GLoRIA",
        "local image-text",
        "marshuang80/gloria at 416466a",
        "gloria.GLoRIA",
        GLoRIAObjective,
        text=True,
    ),
    "lovt": Method(
        "LoVT", "local image-text", "philip-mueller/lovt at f548985", "lovt.LoVT", LoVTObjective, text=True
    ),
    "prior": Method(
        "PRIOR",
        "local image-text",
        "QtacierP/PRIOR at 086bf2e",
        "prior.PRIOR",
        PRIORObjective,
        ("stage1", "stage2", "stage3"),
        text=True,
    ),
    "mgca": Method(
        "MGCA", "local image-text", "HKU-MedAI/MGCA at 680fe4a", "mgca.MGCA", MGCAObjective, text=True
    ),
    "cm_cgns": Method(
        "CM-CGNS",
        "local image-text",
        "arXiv 2506.11674; violet-42/CM-CGNS at 4e75806",
        "cm_cgns.CMCGNS",
        CMCGNSObjective,
        ("stage1", "stage2"),
        text=True,
        last_phase_only=frozenset({"mask_unit", "mask_ratio", "mask_in_eval", "lambda_re", "stage2_losses"}),
    ),
}
