import pandas as pd
import pytest

from cmcgns.sources import NAMES
from cmcgns.sources.versions import PUBLISHED, count, identify


def test_the_published_numbers_add_up():
    mimic = PUBLISHED["mimic_cxr"]["2.0.0"]
    assert mimic["train"] + mimic["validate"] + mimic["test"] == mimic["images"]
    chexpert = PUBLISHED["chexpert"]["v1.0"]
    assert chexpert["train"] + chexpert["valid"] == chexpert["images"]
    assert chexpert["train frontal"] + chexpert["valid frontal"] == chexpert["frontal"] == 191_229
    rsna = PUBLISHED["rsna"]["stage 2"]
    findings = rsna["Lung Opacity"] + rsna["No Lung Opacity / Not Normal"] + rsna["Normal"]
    assert (
        findings == rsna["images"] and rsna["images"] - rsna["Lung Opacity"] + rsna["boxes"] == rsna["rows"]
    )
    for version, classes in {
        "9A": ("COVID-19", "normal", "pneumonia"),
        "9B": ("positive", "negative"),
    }.items():
        covidx = PUBLISHED["covidx"][version]
        for split in ("train", "test"):
            assert sum(covidx[f"{split} {label}"] for label in classes) == covidx[split]


@pytest.mark.parametrize(("name", "version"), [(n, v) for n in NAMES for v in PUBLISHED[n]])
def test_a_version_is_recognised_by_its_numbers(name, version):
    counts = dict(PUBLISHED[name][version])
    assert identify(name, counts | {"groups": 5}) == (version, counts)
    fewer = counts | {"images": counts["images"] * 9 // 10}
    assert identify(name, fewer) == (None, counts)


def test_only_mimic_has_a_tolerance():
    mimic = PUBLISHED["mimic_cxr"]["2.0.0"]
    assert identify("mimic_cxr", mimic | {"frontal": mimic["frontal"] + 200})[0] == "2.0.0"
    rsna = PUBLISHED["rsna"]["stage 2"]
    assert identify("rsna", rsna | {"boxes": rsna["boxes"] + 1})[0] is None


def test_the_nearest_version_has_the_same_classes():
    few = {"images": 3, "train": 2, "test": 1, "train patients": 2, "test patients": 1}
    three = {
        f"{split} {label}": 1 for split in ("train", "test") for label in ("normal", "pneumonia", "COVID-19")
    }
    assert identify("covidx", few | three) == (None, PUBLISHED["covidx"]["9A"])
    two = {f"{split} {label}": 1 for split in ("train", "test") for label in ("negative", "positive")}
    assert identify("covidx", few | two) == (None, PUBLISHED["covidx"]["9B"])


def test_counts_of_small_tables():
    common = {
        "group_id": ["a", "a", "b"],
        "frontal": [True, True, False],
        "official_split": ["train", "train", "dev"],
    }
    shapes = pd.DataFrame(common | {"shapes": [["s", "s"], [], ["s"]]})
    assert count("object_cxr", shapes) == {
        "images": 3, "frontal": 2, "groups": 2, "train": 2, "dev": 1,
        "train positive": 1, "dev positive": 1, "train objects": 2, "dev objects": 1,
    }  # fmt: skip
    codes = pd.DataFrame(
        common | {"official_split": "", "positive": [True, False, True], "rle": [["x", "y"], [], ["z"]]}
    )
    assert count("siim", codes) == {"images": 3, "frontal": 2, "groups": 2, "rows": 4, "positive": 2}
    boxes = pd.DataFrame(
        common | {"official_split": "", "finding": ["F", "G", "F"], "boxes": [[1, 2, 3], [], [4]]}
    )
    assert count("rsna", boxes) == {
        "images": 3,
        "frontal": 2,
        "groups": 2,
        "rows": 5,
        "boxes": 4,
        "F": 2,
        "G": 1,
    }
