"""params.yaml: what is wrong in it is refused before anything runs, and the message names the key."""

from __future__ import annotations

import copy
import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from cmcgns.errors import InputError
from cmcgns.files import canonical
from cmcgns.methods import METHODS
from cmcgns.objectives.cm_cgns import CMCGNS
from cmcgns.settings import load, share_out

PARAMS = Path(__file__).parents[1] / "params.yaml"
PROFILES = ("paper", "demo", "ci", "real", "science", "grounding", "science_gpu")


def changed(tmp_path: Path, keys: str, value: object) -> Path:
    tree = yaml.safe_load(PARAMS.read_text())
    position = tree = copy.deepcopy(tree)
    *parents, last = keys.split("/")
    for key in parents:
        position = position[key]
    position[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_valid(profile):
    assert load(PARAMS, profile).profile == profile


def test_the_base_is_the_paper():
    settings = load(PARAMS, "paper")
    assert settings.encoders.image.arch == "resnet50"
    assert settings.encoders.text.name == "emilyalsentzer/Bio_ClinicalBERT"
    stages = [settings.training("cm_cgns", phase) for phase in ("stage1", "stage2")]
    assert [stage["epochs"] for stage in stages] == [10, 20]
    assert [(stage["lr"], stage["optimizer"]) for stage in stages] == [(1e-5, "adam")] * 2
    objective = settings.objective("cm_cgns")
    assert (objective["tau_global"], objective["tau_local"], objective["mu"]) == (0.01, 0.01, 3.0)
    assert (objective["bml_alpha"], objective["bml_beta"], objective["lambda_re"]) == (0.2, 0.5, 10.0)
    assert settings.downstream.fractions == [1, 10, 100]


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        ("imagse", {}, "imagse"),
        ("images/size", "224", "images.size"),
        ("images/size", 100, "images.size"),
        ("pretraining/training/lr", 0, "pretraining.training.lr"),
        ("pretraining/training/lr", "fast", "pretraining.training.lr"),
        ("pretraining/augmentation", "crops", "pretraining.augmentation"),
        ("methods/cm_cgns/objective/mask_unit", "pixel", "methods.cm_cgns.objective.mask_unit"),
        (
            "methods/cm_cgns/presets/official/objective",
            {"tau_globl": 1.0},
            "methods.cm_cgns.presets.official.objective.tau_globl",
        ),
        (
            "methods/cm_cgns/presets/paper/training/stage1/lr",
            -1.0,
            "training.stage1.lr",
        ),
        ("methods/cm_cgns/presets/matched", {"training": {"stage3": {}}}, "matched.training.stage3"),
        ("methods/cm_cgns/shares", {"stage1": 1.0}, "methods.cm_cgns.shares"),
        ("methods/cm_cgnss", {}, "methods.cm_cgnss"),
        ("ablation/variants/mir", {"clusterin": False}, "ablation.variants.mir.clusterin"),
        ("ablation/of", "random", "ablation.of"),
        ("sensitivity/grid/mu", [-1.0], "sensitivity.grid.mu"),
        ("sensitivity/grid/decoder_widths", [[8, 8, 8, 8]], "sensitivity.grid.decoder_widths"),
        ("downstream/seeds", [], "downstream.seeds"),
        ("downstream/methods", ["randomm"], "downstream.methods.0"),
        ("downstream/seeds", [0, "1"], "downstream.seeds.1"),
        ("downstream/overrides/detection-rsna-1", {"lrr": 1.0}, "downstream.overrides.detection-rsna-1.lrr"),
        ("downstream/overrides/detection-rsnaa", {"lr": 1.0}, "downstream.overrides.detection-rsnaa"),
        ("sources/max_bad_fraction", 1.5, "sources.max_bad_fraction"),
        ("profiles/demo/images/sizes", 96, "profiles.demo.images.sizes"),
        ("profiles/real/splits/chexpert_valid_images", 0, "profiles.real.splits.chexpert_valid_images"),
    ],
)
def test_a_wrong_key_type_or_range_is_refused_by_name(tmp_path, keys, value, named):
    with pytest.raises(InputError, match=named.replace(".", r"\.")):
        load(changed(tmp_path, keys, value), "paper")


def test_a_profile_leaves_out_what_it_sets_to_null(tmp_path):
    plain = load(PARAMS, "demo")
    fewer = load(changed(tmp_path, "profiles/demo/ablation", {"variants": {"mir": None}}), "demo")
    assert set(plain.ablation.variants) - set(fewer.ablation.variants) == {"mir"}
    fewer = load(changed(tmp_path, "profiles/demo/sensitivity", {"grid": {"mu": None}}), "demo")
    assert set(plain.sensitivity.grid) - set(fewer.sensitivity.grid) == {"mu"}


def test_a_misspelt_section_is_named_before_the_one_it_leaves_missing(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("\nimages:", "\nimagess:", 1))
    with pytest.raises(InputError, match="imagess: unknown key"):
        load(path, "paper")


def test_an_unknown_profile_and_a_missing_file_are_told():
    with pytest.raises(InputError, match="no profile named 'dmo'"):
        load(PARAMS, "dmo")
    with pytest.raises(InputError, match="does not exist"):
        load("nowhere.yaml", "demo")


def test_a_number_as_dvc_writes_it_is_a_number(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("lr: 1.0e-5 ", "lr: 9e-05 "))
    assert load(path, "paper").training("cm_cgns", "stage1")["lr"] == 9e-5


def test_overrides_reach_one_pair_and_fraction_only():
    settings = load(PARAMS, "paper")
    assert settings.head("detection-rsna", 1)["batch_size"] == 8
    assert settings.head("detection-rsna", 10)["batch_size"] == 16


def test_preset_official_changes_what_it_names_and_nothing_else(tmp_path):
    paper = load(PARAMS, "paper").objective("cm_cgns")
    settings = load(changed(tmp_path, "pretraining/preset", "official"), "paper")
    differing = {key for key, value in settings.objective("cm_cgns").items() if value != paper[key]}
    assert differing == set(settings.preset("cm_cgns").objective)


@pytest.mark.parametrize("profile", ["paper", "science"])
def test_under_matched_all_methods_have_one_recipe_and_the_same_image_passes(tmp_path, profile):
    settings = load(changed(tmp_path, "pretraining/preset", "matched"), profile)
    common = settings.pretraining.training.model_dump(mode="json")
    for name in settings.methods:
        phases = [settings.training(name, phase) for phase in METHODS[name].phases]
        assert sum(phase["epochs"] for phase in phases) * METHODS[name].views == common["epochs"]
        for phase in phases:
            assert {key for key in phase if phase[key] != common[key]} <= {"epochs", "warmup_epochs"}
            assert phase["warmup_epochs"] <= phase["epochs"] / 4
        assert settings.preset(name).image_weights is None


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.objective])
def test_the_settings_are_the_objective_s_parameters(name):
    module, kind = METHODS[name].objective.split(".")
    objective = getattr(import_module(f"cmcgns.objectives.{module}"), kind)
    parameters = inspect.signature(objective.__init__).parameters.values()
    own = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"image_size", "seed"}
    assert set(METHODS[name].parameters.model_fields) == own
    assert (METHODS[name].phases, METHODS[name].views) == (objective.phases, objective.views)
    assert METHODS[name].text == (objective.text != "none")


def test_the_paper_s_values_are_the_objective_s_defaults():
    parameters = inspect.signature(CMCGNS.__init__).parameters
    given = load(PARAMS, "paper").objective("cm_cgns")
    for name in set(given) - {"kmeans_start", "decoder_widths"}:
        assert given[name] == parameters[name].default, name


def test_canonical_text_does_not_depend_on_order():
    assert canonical({"b": 1, "a": [1, 2.0]}) == canonical({"a": [1, 2.0], "b": 1}) == '{"a":[1,2.0],"b":1}'


@pytest.mark.parametrize(
    ("total", "shares", "epochs"),
    [
        (30, [1, 2], [10, 20]),
        (15, [1], [15]),
        (150, [20, 30, 100], [20, 30, 100]),
        (7, [5, 2], [5, 2]),
        (4, [2, 3, 10], [1, 1, 2]),
        (2, [1, 1, 8], [1, 1, 1]),
    ],
)
def test_epochs_are_shared_out_over_phases(total, shares, epochs):
    assert share_out(total, shares) == epochs
