"""Every parameter: typed, ranged, with its unit. Values and their sources are in `params.yaml`; this is its schema.

`params.yaml` holds the paper; a profile under `profiles:` is a small overlay on it. `load` merges the two and refuses an
unknown key, a wrong type or a value out of range before anything runs, naming the key.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cmcgns.errors import InputError

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]

SOURCES = ("mimic_cxr", "chexpert", "rsna", "covidx", "siim", "object_cxr")
PAIRS = (
    "classification-chexpert",
    "classification-rsna",
    "classification-covidx",
    "detection-rsna",
    "detection-object_cxr",
    "segmentation-siim",
    "segmentation-rsna",
)
ARMS = ("random", "imagenet", "cm_cgns")


class Section(BaseModel):
    """A block of `params.yaml`: nothing unknown, nothing converted in silence, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Sources(Section):
    covidx_version: Literal["9A", "9B"]
    polygon_box: Literal["tight"]
    rsna_groups: str | None = Field(description="CSV with columns image, group: RSNA exam -> NIH patient")
    max_bad_fraction: Fraction = Field(description="of missing or unreadable images before the run stops")


class Reports(Section):
    min_report_tokens: Count
    min_sentence_tokens: Count
    misspellings: Literal["upstream", "corrected"]
    deid: Literal["keep", "drop"]
    max_tokens: Annotated[int, Field(ge=8, le=512)]


class Images(Section):
    store_size: Annotated[int, Field(ge=32, le=1024, description="px, longest side")]
    size: Annotated[int, Field(ge=32, le=1024, multiple_of=32, description="px, what the networks see")]
    resize: Literal["pad256_crop224", "direct224"]


class Splits(Section):
    scheme: Literal["paper", "audited"]
    seed: int
    chexpert_valid_images: Count
    covidx_valid_fraction: Fraction
    siim_subset_of: Literal["balanced", "all"]
    merge_test_into_valid: bool = Field(description="of MIMIC-CXR, under scheme paper")


class ImageEncoder(Section):
    arch: Literal["resnet50", "resnet18", "resnet10"]
    weights: str = Field(description="imagenet1k_v1, imagenet1k_v2, random, or a file of torchvision keys")


class TextEncoder(Section):
    name: str = Field(description="name on the hub, a local folder, or random")
    hidden: Count | None
    layers: Count | None
    heads: Count | None
    vocab_size: Annotated[int, Field(ge=64)] | None


class Encoders(Section):
    image: ImageEncoder
    text: TextEncoder


class Training(Section):
    epochs: Count
    batch_size_per_device: Annotated[int, Field(ge=2)]
    accumulate: Count
    optimizer: Literal["adam", "adamw"]
    lr: Positive
    warmup_start_lr: NonNegative
    warmup_epochs: NonNegative
    betas: tuple[Fraction, Fraction] = Field(strict=False)
    eps: Positive
    weight_decay: NonNegative
    max_grad_norm: Positive | None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]


class Pretraining(Section):
    """What the loop needs that no method changes."""

    seed: int
    pairing: Literal["image", "study_random"]
    final_checkpoint: Literal["best", "last"]
    checkpoint_minutes: Positive
    devices: Count
    threads: Count = Field(description="CPU threads of a pre-training job; a change changes the last digits")


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
    attn_input_norm: Literal["none", "l2"]
    token_norm: bool
    attn_share: bool
    attn_bias: bool
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


class CMCGNS(Section):
    preset: Literal["paper", "official"]
    stage2_init: Literal["last", "best"]
    training: dict[Literal["stage1", "stage2"], Training]
    objective: CMCGNSObjective
    official: dict[str, Any] = Field(description="what preset official sets in `objective`")


class Head(Section):
    """Training of one downstream head on frozen features."""

    lr: Positive
    weight_decay: NonNegative
    batch_size: Count
    max_epochs: Count
    patience: Count
    schedule: Literal["cosine", "constant"]


class Classification(Head):
    augmentation: Literal["random_crop", "moco2"]
    views: Annotated[int, Field(ge=0)] = Field(
        description="crops a training image, encoded once and drawn from; 0 = a fresh crop each epoch"
    )


class Detection(Head):
    width: Positive = Field(description="multiplies the head's channels; 1 = YOLOv3's")
    min_score: Fraction
    max_detections: Count
    nms_iou: Fraction


class Segmentation(Head):
    decoder_channels: tuple[Count, ...] = Field(strict=False)
    scale: NonNegative
    rotate: NonNegative = Field(description="degrees")
    augment_probability: Fraction
    threshold: Fraction


class Downstream(Section):
    methods: list[Literal["random", "imagenet", "cm_cgns"]]
    pairs: list[Literal[PAIRS]]
    fractions: list[Literal[1, 10, 100]] = Field(description="per cent of the training labels")
    seeds: list[int]
    imagenet_weights: str
    classification: Classification
    detection: Detection
    segmentation: Segmentation
    overrides: dict[str, dict[str, Any]] = Field(
        description="changes for one pair, or one pair at one fraction"
    )
    precision: Literal["32-true", "bf16-mixed"]
    bootstrap: Annotated[int, Field(ge=0, description="resamples of the test set's patients for an interval")]
    threads: Count


class Synthetic(Section):
    seed: int
    image_long_side: Annotated[int, Field(ge=64)]
    sizes: dict[
        Literal[
            "mimic_studies", "chexpert_train", "chexpert_valid", "rsna", "covidx_train", "covidx_test",
            "siim", "object_train", "object_dev",
        ],
        Count,
    ]  # fmt: skip


class Settings(Section):
    profile: str
    sources: Sources
    reports: Reports
    images: Images
    splits: Splits
    encoders: Encoders
    pretraining: Pretraining
    cm_cgns: CMCGNS
    downstream: Downstream
    synthetic: Synthetic | None

    def head(self, pair: str, fraction: int) -> dict[str, Any]:
        """The head's settings for one pair and fraction: the task's, with the overrides laid over."""
        task = pair.split("-")[0]
        values = getattr(self.downstream, task).model_dump(mode="json")
        for key in (pair, f"{pair}-{fraction}"):
            values |= self.downstream.overrides.get(key, {})
        return values

    def objective(self) -> dict[str, Any]:
        """CM-CGNS's parameters under the chosen preset."""
        values = self.cm_cgns.objective.model_dump(mode="json")
        return values | (self.cm_cgns.official if self.cm_cgns.preset == "official" else {})


def canonical(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no blanks. Snakemake compares parameters as text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def load(path: str | Path, profile: str) -> Settings:
    """Read `params.yaml`, lay the profile over it and validate.

    Raises:
        InputError: naming the key, what was found and what is allowed.
    """
    try:
        tree = _numbers(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError("the settings file does not exist", file=path) from None
    except yaml.YAMLError as error:
        raise InputError(f"not YAML ({' '.join(str(error).split())})", file=path) from None
    if not isinstance(tree, dict):
        raise InputError("no settings in the file", file=path)
    profiles = tree.pop("profiles", None) or {}
    if profile not in profiles:
        raise InputError(f"no profile named {profile!r}", file=path, expected=f"one of {', '.join(profiles)}")
    # The base and every profile are checked, not only what this run reads: a wrong value is wrong today.
    _settings(tree, {}, path, "")
    return {name: _settings(tree, overlay or {}, path, name) for name, overlay in profiles.items()}[profile]


def _settings(base: dict, overlay: dict, path: str | Path, profile: str) -> Settings:
    try:
        settings = Settings(profile=profile, **_merge(base, overlay))
        _check_partial(settings)
    except ValidationError as error:
        raise _as_input_error(error, path, profile, overlay) from None
    return settings


def _check_partial(settings: Settings) -> None:
    """Validate the dictionaries that change part of a section: presets and overrides."""
    if list(settings.cm_cgns.training) != ["stage1", "stage2"]:
        raise InputError("cm_cgns.training: wrong phases", expected="stage1, then stage2")
    objective = settings.cm_cgns.objective.model_dump(mode="json")
    _validate(CMCGNSObjective, objective | settings.cm_cgns.official, ("cm_cgns", "official"))
    heads = {"classification": Classification, "detection": Detection, "segmentation": Segmentation}
    for key, change in settings.downstream.overrides.items():
        where = ("downstream", "overrides", key)
        pair, _, fraction = key.partition("-")[2].rpartition("-")
        known = key in PAIRS or (
            f"{key.partition('-')[0]}-{pair}" in PAIRS and fraction in {"1", "10", "100"}
        )
        if not known:
            expected = f"{', '.join(PAIRS)}, or one of them with -1, -10 or -100"
            raise InputError(f"{'.'.join(where)}: not a pair", expected=expected)
        if (
            shared := {"views", "augmentation"} & change.keys()
        ):  # features are made once for all fractions and seeds
            raise InputError(
                f"{'.'.join(where)}: {min(shared)} cannot differ between runs",
                remedy="change it in downstream.classification",
            )
        task = key.split("-")[0]
        _validate(heads[task], getattr(settings.downstream, task).model_dump(mode="json") | change, where)


def _validate(model: type[Section], values: dict[str, Any], where: tuple[str, ...]) -> None:
    try:
        model(**values)
    except ValidationError as error:
        details = [{**e, "loc": (*where, *e["loc"])} for e in error.errors()]
        raise ValidationError.from_exception_data(
            model.__name__,
            [
                {"type": d["type"], "loc": d["loc"], "input": d["input"], "ctx": d.get("ctx", {})}
                for d in details
            ],
        ) from None


def _merge(base: Any, overlay: Any) -> Any:
    if isinstance(base, dict) and isinstance(overlay, dict):
        return base | {key: _merge(base.get(key), value) for key, value in overlay.items()}
    return overlay


def _numbers(value: Any) -> Any:
    """Read `9e-05` as a number: DVC writes YAML 1.2, PyYAML reads YAML 1.1, where that is a string."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _as_input_error(error: ValidationError, path: str | Path, profile: str, overlay: dict) -> InputError:
    # A misspelt key is unknown and leaves another one missing: the unknown one is what was typed.
    first, *others = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    keys = [str(part) for part in first["loc"]]
    position, inside = overlay, bool(overlay)
    for key in keys:
        inside = inside and isinstance(position, dict) and key in position
        position = position.get(key) if inside else None
    name = ".".join(([f"profiles.{profile}"] if inside else []) + keys)
    problem = (
        "unknown key" if first["type"] == "extra_forbidden" else f"{first['msg']} (found {first['input']!r})"
    )
    if first["type"] == "missing":
        problem = "the key is missing"
    more = f" ({len(others)} more faults)" if others else ""
    return InputError(f"{name}: {problem}{more}", file=path, remedy="see the comments in params.yaml")
