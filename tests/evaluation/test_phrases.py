"""Phrases with boxes: which sentences of a small truth count, and the choice for figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cmcgns.evaluation.phrases import choose, load_phrases, said_phrases, synthetic_phrases
from cmcgns.parquet import write_parquet

SENTENCES = [  # study, order, state, label, findings, sentence
    ("s1", 0, "negative", "Edema", [], "No pulmonary edema."),
    ("s1", 1, "positive", "Consolidation", [0], "Small consolidation in the left base, new since ___."),
    ("s1", 2, "positive", "Pleural Effusion", [1], "Bilateral effusions."),
    ("s1", 3, "positive", "Consolidation", [0], "Left consolidation."),
    ("s1", 4, "uncertain", "Edema", [2], "Possible edema."),
    ("s2", 0, "positive", "Consolidation", [0], "Right lower lobe consolidation."),
    ("s2", 1, "positive", "Consolidation", [1], "Right lower lobe consolidation."),
    ("s2", 2, "positive", "Support Devices", [2], "A port and a chest tube."),
    ("s2", 2, "positive", "Pneumothorax", [2], "A port and a chest tube."),
]
FINDINGS = [  # image, finding, label, part, box
    ("i1", 0, "Consolidation", "left", (0.6, 0.6, 0.8, 0.9)),
    ("i1", 1, "Pleural Effusion", "right", (0.1, 0.7, 0.4, 0.9)),
    ("i1", 1, "Pleural Effusion", "left", (0.6, 0.7, 0.9, 0.9)),
    ("i1", 2, "Edema", "left", (0.6, 0.2, 0.9, 0.9)),
    ("i1b", 0, "Consolidation", "left", (0.5, 0.5, 0.7, 0.8)),
    ("i2", 0, "Consolidation", "right", (0.1, 0.6, 0.3, 0.8)),
    ("i2", 1, "Consolidation", "right", (0.2, 0.7, 0.4, 0.9)),
    ("i2", 2, "Support Devices", "left", (0.0, 0.0, 0.1, 0.1)),
    ("i2", 3, "Fracture", "left", (float("nan"),) * 4),
]


@pytest.fixture
def truth(tmp_path) -> dict[str, Path]:
    said = [
        dict(zip(("study_id", "order", "state", "label", "findings", "sentence"), row, strict=True))
        for row in SENTENCES
    ]
    write_parquet(pd.DataFrame(said).assign(source="mimic_cxr"), tmp_path / "sentences.parquet")
    found = [
        {"image_id": image, "finding": number, "label": label, "part": part}
        | dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
        for image, number, label, part, box in FINDINGS
    ]
    write_parquet(pd.DataFrame(found).assign(source="mimic_cxr"), tmp_path / "findings.parquet")
    images = pd.DataFrame({"image_id": ["i1", "i1b", "i2"], "study_id": ["s1", "s1", "s2"]})
    write_parquet(images.assign(source="mimic_cxr"), tmp_path / "images.parquet")
    return {name: tmp_path / f"{name}.parquet" for name in ("findings", "sentences", "images")}


def test_a_finding_has_its_first_sure_sentence_on_every_image_and_all_its_boxes(truth):
    found = synthetic_phrases(**truth).to_dict("records")
    first = "small consolidation in the left base new since"
    assert found == [
        {"image_id": "i1", "label": "Consolidation", "phrase": first, "boxes": [[0.6, 0.6, 0.8, 0.9]]},
        {
            "image_id": "i1",
            "label": "Pleural Effusion",
            "phrase": "bilateral effusions",
            "boxes": [[0.1, 0.7, 0.4, 0.9], [0.6, 0.7, 0.9, 0.9]],
        },
        {"image_id": "i1b", "label": "Consolidation", "phrase": first, "boxes": [[0.5, 0.5, 0.7, 0.8]]},
        # two findings, one sentence: both places are right
        {
            "image_id": "i2",
            "label": "Consolidation",
            "phrase": "right lower lobe consolidation",
            "boxes": [[0.1, 0.6, 0.3, 0.8], [0.2, 0.7, 0.4, 0.9]],
        },
    ]


def test_boxes_come_from_the_truth_else_from_ms_cxr_else_from_nowhere(truth, tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw")
    assert len(load_phrases(truth | {"raw": raw})) == 4
    assert load_phrases({"raw": raw}).empty and load_phrases({}).empty
    (raw / "ms-cxr").mkdir()
    (raw / "ms-cxr" / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text(
        "dicom_id,category_name,label_text,x,y,w,h,image_width,image_height\n"
        'd,Edema,"Mild edema, worse.",0,0,50,25,100,100\n'
    )
    (found,) = load_phrases({"raw": raw}).to_dict("records")
    assert found == {
        "image_id": "d", "label": "Edema", "phrase": "mild edema worse", "boxes": [[0, 0, 0.5, 0.25]]
    }  # fmt: skip


def test_reports_say_what_figures_show_of_unmarked_data(tmp_path):
    reports = pd.DataFrame(
        {
            "study_id": ["s1", "s2", "s3"],
            "sentences": [
                ["no pleural effusion", "small left effusion", "moderate effusion", "the lungs are clear"],
                ["evaluate for pneumonia", "right pneumonia"],
                ["large effusion"],
            ],
            "kept": [True, True, False],
        }
    )
    write_parquet(reports, tmp_path / "r.parquet")
    index = pd.DataFrame({"image_id": ["a", "b", "c"], "study_id": ["s1", "s2", "s3"]})
    found = said_phrases(tmp_path / "r.parquet", index)
    assert found[["image_id", "label", "phrase"]].to_numpy().tolist() == [
        ["a", "Pleural Effusion", "small left effusion"],
        ["b", "Pneumonia", "right pneumonia"],
    ]
    assert found["boxes"].tolist() == [[], []]


def test_the_choice_is_of_different_images_and_findings_whatever_the_order():
    rows = [(f"i{n % 9}", label, f"{label} {n}") for label in "ABC" for n in range(12)]
    phrases = pd.DataFrame(rows, columns=["image_id", "label", "phrase"]).assign(boxes=None)
    chosen = choose(phrases, 3, seed=0)
    assert sorted(chosen["label"]) == ["A", "B", "C"] and chosen["image_id"].nunique() == 3
    shuffled = phrases.sample(frac=1, random_state=1)
    assert choose(shuffled, 3, seed=0)["phrase"].tolist() == chosen["phrase"].tolist()
    assert len(choose(phrases, 50, seed=0)) == 9  # an image is shown once
    assert choose(phrases, 3, seed=1)["phrase"].tolist() != chosen["phrase"].tolist()
