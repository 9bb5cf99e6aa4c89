"""Every parameter: typed, ranged, with its unit. Values and their sources are in `params.yaml`; this is its schema.

`params.yaml` holds the paper; a profile under `profiles:` is a small overlay on it. `load` merges the two and refuses an
unknown key, a wrong type or a value out of range before anything runs, naming the key.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError

from cmcgns.errors import InputError
from cmcgns.methods import METHODS
from cmcgns.typed import Count, Fraction, NonNegative, Positive, Section, without_none

RECIPES = ("crop", "moco_v1", "moco_v2", "simclr", "simclr_cxr", "convirt", "clip", "prior")
"""The augmentations of `images.augment`, which imports torch."""
TRACKERS = ("none", "tensorboard", "mlflow", "wandb")
PAIRS = (
    "classification-chexpert",
    "classification-rsna",
    "classification-covidx",
    "detection-rsna",
    "detection-object_cxr",
    "segmentation-siim",
    "segmentation-rsna",
)


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
    scheme: Literal["official", "paper", "audited"]
    seed: int
    chexpert_valid_images: Count
    covidx_valid_fraction: Fraction
    siim_subset_of: Literal["balanced", "all"]
    merge_test_into_valid: bool = Field(description="of MIMIC-CXR, under schemes paper and official")


class ImageEncoder(Section):
    arch: Literal["resnet50", "resnet18", "resnet10", "resnet10_half", "bagnet10_half"]
    weights: str = Field(
        description="imagenet1k_v1, imagenet1k_v2, random, shapes, or a file of torchvision keys"
    )


class ShapeWeights(Section):
    """How the weights `shapes` come about: an encoder learns to name drawn shapes."""

    images: Annotated[int, Field(ge=2, description="drawings, each seen once")]
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    weight_decay: NonNegative
    seed: int
    threads: Count


class TextEncoder(Section):
    name: str = Field(description="name on the hub, a local folder, or random")
    hidden: Count | None
    layers: Count | None
    heads: Count | None
    vocab_size: Annotated[int, Field(ge=64)] | None


class Encoders(Section):
    image: ImageEncoder
    text: TextEncoder
    shapes: ShapeWeights


class Training(Section):
    epochs: Count
    batch_size_per_device: Annotated[int, Field(ge=2)]
    accumulate: Count
    optimizer: Literal["adam", "adamw", "sgd", "lars"]
    lr: Positive
    warmup_start_lr: NonNegative
    warmup_epochs: NonNegative
    schedule: Literal["cosine", "step", "constant"] = Field(description="after the warm-up")
    milestones: tuple[Count, ...] = Field(strict=False, description="epochs after which step divides by 10")
    betas: tuple[Fraction, Fraction] = Field(strict=False)
    eps: Positive
    momentum: Fraction = Field(description="of sgd and lars")
    weight_decay: NonNegative
    decay_norm_and_bias: bool = Field(description="false: no decay on one-dimensional parameters")
    max_grad_norm: Positive | None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]


class Pretraining(Section):
    """The recipe common to all methods."""

    preset: Literal["paper", "official", "matched"] = Field(
        description="paper falls back to official for a method that the paper did not write"
    )
    seed: int
    augmentation: Literal[RECIPES]
    training: Training
    next_phase_from: Literal["last", "best"]
    pairing: Literal["image", "study_random"]
    final_checkpoint: Literal["best", "last"]
    checkpoint_minutes: Positive
    devices: Count
    threads: Count = Field(description="CPU threads of a pre-training job; a change changes the last digits")


class Tracking(Section):
    """Live logs of pre-training, beside `history.csv`; no step's result depends on them."""

    backend: Literal[TRACKERS]
    folder: str


class Preset(Section):
    """What a preset changes for one method; under `matched` the common recipe holds for all that it does not name."""

    image_weights: str | None = None
    augmentation: Literal[RECIPES] | None = None
    objective: dict[str, Any] = {}
    training: dict[str, dict[str, Any]] = Field({}, description="per phase, laid over pretraining.training")


class MethodSettings(Section):
    objective: dict[str, Any] = Field(description="parameters of the objective, checked by its schema")
    shares: dict[str, Positive] = Field(description="phase -> its share of the epochs of the common recipe")
    presets: dict[Literal["paper", "official", "matched"], Preset]


class Accepted(Section):
    """A critical finding of the audit that a person lets stand, and why; tables say so below."""

    check: str = Field(description="such as A2-group-overlap")
    source: str
    reason: str


class Audit(Section):
    """The gate before every training."""

    accept: list[Accepted]
    near_duplicates: bool = Field(description="compare pixels, too: minutes for 300,000 images")


class Leakage(Section):
    """What leakage costs: the heads of some cells again under the other split schemes; no pair: not asked."""

    arms: list[Literal[tuple(METHODS)]]
    pairs: list[Literal[PAIRS]]
    fractions: list[Literal[1, 10, 100]]
    schemes: list[Literal["official", "paper", "audited"]]


class Ablation(Section):
    """Table IV: variants of one method; a variant is what it changes in the objective."""

    of: str
    pairs: list[Literal[PAIRS]]
    variants: Annotated[dict[str, dict[str, Any]], BeforeValidator(without_none)] = Field(
        description="null in a profile leaves one out"
    )


class Sensitivity(Section):
    """One parameter of the objective at a time, the others as they are."""

    of: str
    pairs: list[Literal[PAIRS]]
    fractions: list[Literal[1, 10, 100]]
    grid: Annotated[dict[str, list[Any]], BeforeValidator(without_none)] = Field(
        description="null in a profile leaves one out"
    )


class Head(Section):
    """Training of one downstream head on frozen features."""

    lr: Positive
    weight_decay: NonNegative
    batch_size: Count
    max_epochs: Count
    patience: Count = Field(description="epochs without a better validation score")
    validate_every: Count = Field(description="epochs")
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
    methods: list[Literal[tuple(METHODS)]]
    pairs: list[Literal[PAIRS]]
    fractions: list[Literal[1, 10, 100]] = Field(description="per cent of the training labels")
    seeds: Annotated[list[int], Field(min_length=1)]
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


class Alignment(Section):
    """What image-text models know without a head; a seed draws the sample that is evaluated."""

    kinds: list[Literal["retrieval", "zero_shot", "grounding"]]
    seeds: Annotated[list[int], Field(min_length=1)]
    gallery: Count = Field(description="pairs of a retrieval gallery")
    batch_size: Count


class Figures(Section):
    kinds: list[Literal["attention", "tsne"]]
    films: Count = Field(description="radiographs of an attention figure")


class Synthetic(Section):
    seed: int
    image_long_side: Annotated[int, Field(ge=64)]
    conspicuity: Annotated[
        float, Field(gt=0, le=4, description="how much plainer findings are than in a clinic")
    ]
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
    audit: Audit
    encoders: Encoders
    pretraining: Pretraining
    tracking: Tracking
    methods: dict[Literal[tuple(m for m in METHODS if METHODS[m].phases)], MethodSettings]
    leakage: Leakage
    ablation: Ablation
    sensitivity: Sensitivity
    downstream: Downstream
    alignment: Alignment
    figures: Figures
    synthetic: Synthetic | None

    def head(self, pair: str, fraction: int) -> dict[str, Any]:
        """The head's settings for one pair and fraction: the task's, with the overrides laid over."""
        task = pair.split("-")[0]
        values = getattr(self.downstream, task).model_dump(mode="json")
        for key in (pair, f"{pair}-{fraction}"):
            values |= self.downstream.overrides.get(key, {})
        return values

    def preset(self, method: str) -> Preset:
        """The changes that the chosen preset makes for one method."""
        presets = self.methods[method].presets
        wanted = self.pretraining.preset
        return presets[wanted] if wanted in presets else presets["official"]

    def objective(self, method: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        """A method's parameters under the chosen preset, with a variant's changes laid over."""
        return self.methods[method].objective | self.preset(method).objective | (changes or {})

    def training(self, method: str, phase: str) -> dict[str, Any]:
        """A phase's training; without epochs of its own it has its share of the common recipe's image passes."""
        common = self.pretraining.training.model_dump(mode="json")
        shares, views = self.methods[method].shares, METHODS[method].views
        epochs = share_out(common["epochs"] / views, list(shares.values()))
        common["epochs"] = epochs[list(shares).index(phase)]
        # a phase of an epoch or two must not end inside its warm-up, at the highest rate
        common["warmup_epochs"] = min(common["warmup_epochs"], common["epochs"] / 4)
        return common | self.preset(method).training.get(phase, {})


def share_out(total: float, shares: list[float]) -> list[int]:
    """Whole numbers, at least 1 each, in the proportion of `shares` and, where possible, with the sum `total`."""
    ends = [round(total * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    parts = [max(1, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    while sum(parts) > max(round(total), len(parts)):
        parts[parts.index(max(parts))] -= 1
    return parts


def load(path: str | Path, profile: str) -> Settings:
    """Read `params.yaml`, lay the profile over it and validate.

    Raises:
        InputError: naming the key, what was found and what is allowed.
    """
    return load_all(path, profile)[profile]


def load_all(path: str | Path, profile: str) -> dict[str, Settings]:
    """The settings of every profile, `profile` among them."""
    try:
        # libyaml's parser where PyYAML was built with it: a tenth of half a second
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        tree = _numbers(yaml.load(Path(path).read_text(encoding="utf-8"), loader))
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
    return {name: _settings(tree, overlay or {}, path, name) for name, overlay in profiles.items()}


def _settings(base: dict, overlay: dict, path: str | Path, profile: str) -> Settings:
    try:
        settings = Settings(profile=profile, **_merge(base, overlay))
        _check_partial(settings)
    except ValidationError as error:
        raise _as_input_error(error, path, profile, overlay) from None
    return settings


def _check_partial(settings: Settings) -> None:
    """Validate the dictionaries that change part of a section: presets and overrides."""
    _check_methods(settings)
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


def _check_methods(settings: Settings) -> None:
    common = settings.pretraining.training.model_dump(mode="json")
    for name, method in settings.methods.items():
        where, schema = ("methods", name), METHODS[name].parameters
        if tuple(method.shares) != METHODS[name].phases:
            raise InputError(
                f"{'.'.join(where)}.shares: wrong phases", expected=", ".join(METHODS[name].phases)
            )
        if not {"official", "matched"} <= method.presets.keys():
            raise InputError(f"{'.'.join(where)}.presets: incomplete", expected="official and matched")
        _validate(schema, method.objective, (*where, "objective"))
        for preset, change in method.presets.items():
            place = (*where, "presets", preset)
            _validate(schema, method.objective | change.objective, (*place, "objective"))
            for phase, training in change.training.items():
                if phase not in METHODS[name].phases:
                    raise InputError(f"{'.'.join(place)}.training.{phase}: no such phase of {name}")
                _validate(Training, common | training, (*place, "training", phase))
    for section in ("ablation", "sensitivity"):
        of = getattr(settings, section).of
        if of not in settings.methods:
            raise InputError(f"{section}.of: {of!r} has no objective", expected=", ".join(settings.methods))
    of = settings.ablation.of
    for variant, change in settings.ablation.variants.items():
        if not re.fullmatch("[a-z0-9_]+", variant):
            raise InputError(f"ablation.variants.{variant}: not a name", expected="a-z, 0-9 and _")
        _validate(METHODS[of].parameters, settings.objective(of, change), ("ablation", "variants", variant))
    of = settings.sensitivity.of
    for key, values in settings.sensitivity.grid.items():
        for value in values:
            if not isinstance(value, int | float | str) or not re.fullmatch(r"[A-Za-z0-9_.+-]+", str(value)):
                raise InputError(
                    f"sensitivity.grid.{key}: {value!r} cannot be part of a name",
                    expected="numbers, words, true or false",
                )
            _validate(METHODS[of].parameters, settings.objective(of, {key: value}), ("sensitivity", "grid"))


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
