"""The step `align` on a planted model whose scores are known, and on a real untrained one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.evaluation import alignment
from cmcgns.evaluation.zero_shot import prompts
from cmcgns.files import read_json
from cmcgns.objectives.build import build_objective, save_weights
from cmcgns.parquet import read_meta, write_parquet
from cmcgns.sources.vocabulary import COMPETITION


@pytest.fixture(scope="module")
def world(alignment_world):
    return alignment_world


@pytest.fixture
def mimic(aligned_mimic) -> dict[str, Path]:
    return aligned_mimic


@pytest.fixture(scope="module")
def chexpert(tmp_path_factory, world, aligned_mimic) -> dict[str, Path]:
    files = world.write_chexpert(tmp_path_factory.mktemp("chexpert"), COMPETITION)
    return files | {name: aligned_mimic[name] for name in ("tokens", "tokenizer")}


def test_a_perfect_model_finds_every_report_and_a_mirrored_one_none(world, mimic):
    right = alignment.retrieval(world.planted_model(mimic), mimic, world.SETTINGS, [0, 1])
    assert right.n == {"pairs": 17, "pairs in a gallery": 8}
    for scores in right.seeds.values():
        assert set(scores.values()) == {1.0}
    mirrored = world.planted_model(mimic, mirrored=True)
    wrong = alignment.retrieval(mirrored, mimic, world.SETTINGS, [0, 1])
    assert all(scores["image to report R@1"] == 0 for scores in wrong.seeds.values())
    assert 1 / 8 <= right.chance["random order"]["image to report R@1"] < 2 / 8


def test_the_gallery_is_a_draw_of_its_seed(world, mimic):
    model = world.planted_model(mimic, mirrored=True)
    settings = world.SETTINGS | {"gallery": 4}
    first = alignment.retrieval(model, mimic, settings, list(range(8)))
    assert (
        first.n["pairs in a gallery"] == 4
        and first.seeds == alignment.retrieval(model, mimic, settings, list(range(8))).seeds
    )
    assert len({tuple(scores.values()) for scores in first.seeds.values()}) > 1


def test_without_a_test_split_retrieval_takes_the_validation_split(world, mimic, tmp_path):
    split = pd.read_parquet(mimic["split"]).replace({"split": {"test": "valid"}})
    write_parquet(split, tmp_path / "split.parquet")
    files = mimic | {"split": tmp_path / "split.parquet"}
    assert alignment.retrieval(world.planted_model(mimic), files, world.SETTINGS, [0]).n["pairs"] == 17


def test_a_map_that_is_hot_in_the_box_has_pointing_one(world, mimic):
    found = alignment.grounding(world.planted_model(mimic), mimic, world.SETTINGS, [0, 1, 2])
    assert found.n == {"phrases": 17, "images": 17, "phrases about training images": 0}
    # the crop cuts 16 px from every side: a corner cell shows 48 x 48 of 224 x 224 px, an edge one 48 x 64
    sides = np.array([48, 64, 64, 48]) / 224
    area = np.outer(sides, sides)
    assert found.chance["uniform"]["pointing"] == pytest.approx((1 + area[0, 0]) / 17, rel=0.03)
    for scores in found.seeds.values():
        assert scores["pointing"] == 1.0
        assert scores["mIoU"] > 0.5
        assert scores["pointing (exchanged maps)"] < 0.3  # the two images of study 0 may exchange theirs
        assert scores["mIoU (exchanged maps)"] < 0.3
        # the planted map follows the film alone: the same sentence on another film points where that one is bright
        assert scores["pointing (other film)"] < 0.3
        # what every film has in common goes away; with another film's map the box is hit by accident
        assert scores["pointing (relative)"] == 1.0
        assert scores["pointing (relative, other film)"] < 0.4


def test_each_finding_has_its_own_pointing(world, mimic, monkeypatch):
    """Two findings in turn; the planted map follows the film, so every own one is hit and few of another film's."""
    chosen = alignment.select_phrases

    def named(files, model):
        phrases, masks = chosen(files, model)
        odd = np.arange(len(phrases)) % 2
        sides = np.where(odd, " on the left", " brightly")  # no right in it
        return phrases.assign(
            label=np.where(odd, "Edema", "Lung Lesion"), phrase=phrases["phrase"] + sides
        ), masks

    monkeypatch.setattr(alignment, "select_phrases", named)
    found = alignment.grounding(world.planted_model(mimic), mimic, world.SETTINGS, [0, 1])
    for scores in found.seeds.values():
        for film in ("", " (other film)"):
            assert scores[f"pointing: a side is named{film}"] == scores[f"pointing: Edema{film}"]
        for finding in ("Edema", "Lung Lesion"):
            assert scores[f"pointing: {finding}"] == 1.0
            assert scores[f"pointing: {finding} (other film)"] < 0.4
    shares = [found.chance["uniform"][f"pointing: {finding}"] for finding in ("Edema", "Lung Lesion")]
    assert found.chance["uniform"]["pointing"] == pytest.approx(np.average(shares, weights=[8, 9]))


def test_a_mirrored_map_never_points_into_the_box(world, mimic):
    model = world.planted_model(mimic, mirrored=True)
    for scores in alignment.grounding(model, mimic, world.SETTINGS, [0, 1]).seeds.values():
        assert scores["pointing"] == 0.0 and scores["mIoU"] < 0.05


def test_without_boxes_there_is_no_score_but_a_reason(world, mimic, tmp_path):
    truth = ("findings", "sentences", "images")
    files = {name: path for name, path in mimic.items() if name not in truth} | {"raw": tmp_path}
    found = alignment.grounding(world.planted_model(mimic), files, world.SETTINGS, [0])
    assert found.seeds == {} and "no MS-CXR" in found.reason


def test_ms_cxr_s_images_count_whatever_their_split(world, mimic, tmp_path):
    (tmp_path / "ms-cxr").mkdir()
    # i03 is of the test split, i17 of the training split; the film of i03 is bright at cell 3: x 192-256, y 0-64
    (tmp_path / "ms-cxr" / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text(
        "dicom_id,category_name,label_text,x,y,w,h,image_width,image_height\n"
        "i03,Lesion,Bright square at place D.,192,0,64,64,256,256\n"
        "i17,Lesion,Bright square at place D.,192,128,64,64,256,256\n"
        "unknown,Lesion,Bright square at place D.,192,0,64,64,256,256\n"
    )
    truth = ("findings", "sentences", "images")
    files = {name: path for name, path in mimic.items() if name not in truth} | {"raw": tmp_path}
    model = world.planted_model(mimic)
    phrases, masks = alignment.select_phrases(files, model)
    assert phrases["image_id"].tolist() == ["i03", "i17"] and phrases["split"].tolist() == ["test", "train"]
    found = alignment.grounding(model, files, world.SETTINGS, [0])
    assert found.n == {"phrases": 2, "images": 2, "phrases about training images": 1}
    assert masks[0, 5, 60] and not masks[0, 60, 60]


def test_a_model_that_knows_the_findings_classifies_perfectly(world, chexpert):
    texts, weights = prompts()
    # a stating sentence is its class's cell, a denying one the opposite
    vectors = {
        text: (np.eye(16)[:5].T @ np.sign(row)).astype(np.float32)
        for text, row in zip(texts, weights, strict=True)
    }
    found = alignment.zero_shot(world.planted_model(chexpert, vectors), chexpert, world.SETTINGS, [0, 1])
    assert found.n == {"test images": 12, "images a class of 5x200": 3}
    for scores in found.seeds.values():
        assert set(scores) == {*(f"AUC {name}" for name in COMPETITION), "AUC mean", "ACC 5x200"}
        assert set(scores.values()) <= {1.0, None}
        assert scores["ACC 5x200"] == 1.0
    assert found.chance["guessing"]["ACC 5x200"] == 0.2
    denied = {text: -vector for text, vector in vectors.items()}
    opposite = alignment.zero_shot(world.planted_model(chexpert, denied), chexpert, world.SETTINGS, [0])
    assert opposite.seeds[0]["AUC mean"] == 0.0 == opposite.seeds[0]["ACC 5x200"]


def test_a_diverged_model_is_refused(world, mimic, monkeypatch):
    model = world.planted_model(mimic)
    monkeypatch.setattr(model.objective, "_cells", lambda batch: batch.images[:, 0, :4, :4] * float("nan"))
    for evaluate in (alignment.retrieval, alignment.grounding):
        with pytest.raises(InputError, match="not finite"):
            evaluate(model, mimic, world.SETTINGS, [0])


def test_patients_are_drawn_whole_and_with_replacement():
    groups = pd.Series(["a", "a", "b", "c", "c", "c"])
    drawn = alignment.resample(groups, list(range(50)))
    assert drawn.shape == (50, 6)
    for row in drawn:
        assert row[0] == row[1] and row[3] == row[4] == row[5] and row[0] + row[2] + row[3] == 3
    assert drawn.std(0).min() > 0
    assert np.array_equal(drawn[7], alignment.resample(groups, [7])[0])


@pytest.mark.parametrize("kind", ["retrieval", "grounding"])
def test_the_step_writes_what_it_found_and_repeats_it(world, mimic, tmp_path, kind):
    """An untrained CM-CGNS, from its weights file, is the model that wrote them, and near chance."""
    settings = world.SETTINGS
    weights = tmp_path / "w.safetensors"
    objective = build_objective(
        "cm_cgns.CMCGNS",
        settings["encoders"],
        settings["objective"],
        seed=3,
        vocab_size=read_meta(mimic["tokens"])["vocab_size"],
        size=64,
    )
    save_weights(objective, weights)
    options = {
        "arm": "cm_cgns",
        "objective": "cm_cgns.CMCGNS",
        "weights": weights,
        **mimic,
        "settings": settings,
        "seeds": [0, 1],
    }
    told = []
    alignment.align(
        kind=kind, metrics=tmp_path / "a.json", progress=lambda *done: told.append(done), **options
    )
    assert told[:2] == [(5, 17), (10, 17)] and told[-1] == (17, 17)
    # another seed of the start changes nothing: all weights come from the file
    options["settings"] = settings | {"seed": 4, "batch_size": 17}
    alignment.align(kind=kind, metrics=tmp_path / "b.json", **options)
    written, again = (read_json(tmp_path / f"{name}.json") for name in "ab")
    assert written["kind"] == kind and written["arm"] == "cm_cgns" and set(written["seeds"]) == {"0", "1"}
    for seed in ("0", "1"):
        assert again["seeds"][seed] == pytest.approx(written["seeds"][seed])
    name = "pointing" if kind == "grounding" else "image to report R@1"
    assert written["seeds"]["0"][name] < 0.6


def test_a_method_without_text_is_refused(world, mimic, tmp_path):
    settings = world.SETTINGS | {"objective": {}}
    with pytest.raises(InputError, match=r"moco\.MoCo has no text encoder"):
        alignment.align(
            kind="retrieval",
            arm="moco",
            objective="moco.MoCo",
            weights=tmp_path / "w",
            **mimic,
            settings=settings,
            seeds=[0],
            metrics=tmp_path / "m.json",
        )
