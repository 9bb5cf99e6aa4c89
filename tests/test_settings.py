"""params.yaml: what is wrong in it is refused before anything runs, and the message names the key."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from cmcgns.errors import InputError
from cmcgns.settings import CMCGNSObjective, canonical, load

PARAMS = Path(__file__).parents[1] / "params.yaml"
PROFILES = ("paper", "demo", "ci", "real")


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
    assert [settings.cm_cgns.training[p].epochs for p in ("stage1", "stage2")] == [10, 20]
    assert settings.cm_cgns.training["stage1"].lr == 1e-5
    objective = settings.objective()
    assert (objective["tau_global"], objective["tau_local"], objective["mu"]) == (0.01, 0.01, 3.0)
    assert (objective["bml_alpha"], objective["bml_beta"], objective["lambda_re"]) == (0.2, 0.5, 10.0)
    assert settings.downstream.fractions == [1, 10, 100]


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        ("imagse", {}, "imagse"),
        ("images/size", "224", "images.size"),
        ("images/size", 100, "images.size"),
        ("cm_cgns/training/stage1/lr", 0, "cm_cgns.training.stage1.lr"),
        ("cm_cgns/training/stage1/lr", "fast", "cm_cgns.training.stage1.lr"),
        ("cm_cgns/objective/mask_unit", "pixel", "cm_cgns.objective.mask_unit"),
        ("cm_cgns/official/tau_globl", 1.0, "cm_cgns.official.tau_globl"),
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
    assert load(path, "paper").cm_cgns.training["stage1"].lr == 9e-5


def test_overrides_reach_one_pair_and_fraction_only():
    settings = load(PARAMS, "paper")
    assert settings.head("detection-rsna", 1)["batch_size"] == 8
    assert settings.head("detection-rsna", 10)["batch_size"] == 16


def test_preset_official_changes_what_it_names_and_nothing_else(tmp_path):
    paper = load(PARAMS, "paper").objective()
    settings = load(changed(tmp_path, "cm_cgns/preset", "official"), "paper")
    differing = {key for key, value in settings.objective().items() if value != paper[key]}
    assert differing == set(settings.cm_cgns.official)


def test_the_settings_are_the_objective_s_parameters():
    import inspect

    from cmcgns.objectives.cm_cgns import CMCGNS, OFFICIAL

    parameters = {
        name: p.default
        for name, p in inspect.signature(CMCGNS.__init__).parameters.items()
        if p.kind is p.KEYWORD_ONLY
    }
    assert set(CMCGNSObjective.model_fields) == set(parameters) - {"image_size", "seed"}
    settings = load(PARAMS, "paper")
    given = settings.objective()
    for name in set(given) - {"kmeans_start", "decoder_widths"}:
        assert given[name] == parameters[name], name
    assert settings.cm_cgns.official == OFFICIAL


def test_canonical_text_does_not_depend_on_order():
    assert canonical({"b": 1, "a": [1, 2.0]}) == canonical({"a": [1, 2.0], "b": 1}) == '{"a":[1,2.0],"b":1}'
