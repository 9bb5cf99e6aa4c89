"""From index rows to what the heads are trained on: targets, boxes, masks, and ids that do not leave."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.evaluation.cell import hashed
from cmcgns.evaluation.classification import measure
from cmcgns.evaluation.detection import relative_boxes
from cmcgns.evaluation.segmentation import box_mask, siim_mask
from cmcgns.evaluation.targets import targets
from cmcgns.sources.vocabulary import COMPETITION


def test_uncertain_chexpert_labels_count_as_the_field_counts_them():
    rows = pd.DataFrame({name: [1.0, 0.0, np.nan, -1.0] for name in COMPETITION})
    task, names, target = targets("chexpert", rows)
    assert (task, names) == ("multilabel", COMPETITION)
    assert target[:3].tolist() == [[1] * 5, [0] * 5, [0] * 5]
    assert dict(zip(names, target[3], strict=True)) == {
        "Atelectasis": 1, "Cardiomegaly": 0, "Consolidation": 0, "Edema": 1, "Pleural Effusion": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [(["COVID-19", "normal", "pneumonia"], [2, 0, 1], 3), (["positive", "negative"], [1, 0], 2)],
)
def test_covidx_classes_of_either_version(labels, numbers, classes):
    task, names, target = targets("covidx", pd.DataFrame({"label": labels}))
    assert (task, len(names), target.tolist()) == ("multiclass", classes, numbers)


def test_an_unknown_covidx_class_is_refused_by_name():
    with pytest.raises(InputError, match=r"unknown COVIDx classes \['normal', 'positive'\]"):
        targets("covidx", pd.DataFrame({"label": ["normal", "positive"]}))


def test_accuracy_and_recall_by_class():
    probability = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    groups = pd.Series(list("abcd"))
    found = measure("multiclass", ("n", "p", "c"), probability, np.array([0, 1, 1, 0]), groups, 0)
    assert found["primary"] == 0.5
    assert found["further"] == {"recall n": 0.5, "recall p": 0.5, "recall c": None}
    assert found["interval"] is None


class Store:
    """Placements of two images, 200 x 100 and 50 x 50 pixels (height x width)."""

    def placement(self, rows):
        return pd.DataFrame({"height": [200, 50], "width": [100, 50]})


def test_boxes_become_fractions_of_the_original_image_and_are_clipped():
    images = pd.DataFrame(
        {"image_id": ["a", "b"], "row": [0, 1], "boxes": [[[10.0, 20.0, 110.0, 100.0]], []]}
    )
    first, second = relative_boxes(images, Store())
    assert np.allclose(first, [[0.1, 0.1, 1.0, 0.5]])
    assert second.shape == (0, 4)


def test_a_box_outside_its_image_is_refused():
    images = pd.DataFrame(
        {"image_id": ["a", "b"], "row": [0, 1], "boxes": [[[120.0, 20.0, 130.0, 100.0]], []]}
    )
    with pytest.raises(InputError, match="a box of a lies outside the image"):
        relative_boxes(images, Store())


def test_filled_boxes_unite_and_keep_their_area():
    mask = box_mask([[0.0, 0.0, 8.0, 8.0], [4.0, 0.0, 16.0, 8.9]], 32, 16, 16)
    assert mask[:4].all()  # the top 8 of 32 rows, all 16 columns
    assert not mask[4:].any()


def test_overlapping_run_lengths_unite():
    # column 0, rows 0-511; then columns 0-1 whole: together 2 of 1024 columns
    mask = siim_mask(["0 512", "0 2048"], 512)
    assert (mask[:, 0] == 255).all()
    assert not mask[:, 1:].any()


def test_ids_are_hidden_and_the_same_under_one_key():
    assert hashed("patient00001", "k") == hashed("patient00001", "k") != hashed("patient00001", "other")
    assert "patient" not in hashed("patient00001", "k")
