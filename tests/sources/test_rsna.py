import json

import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.sources import rsna
from cmcgns.sources.schema import validate

LABELS = [
    "neg,,,,,0",
    "two,264.0,152.0,213.0,379.0,1",
    "not,,,,,0",
    "one,0.0,0.0,1024.0,1024.0,1",
    "two,562.0,152.0,256.0,453.0,1",  # not beside the image's first row
]
INFO = [
    "two,Lung Opacity",
    "one,Lung Opacity",
    "neg,Normal",
    "not,No Lung Opacity / Not Normal",
    "two,Lung Opacity",
]


def write(put, labels=LABELS, info=INFO):
    put("rsna/stage_2_train_labels.csv", "patientId,x,y,width,height,Target\n" + "\n".join(labels) + "\n")
    return put("rsna/stage_2_detailed_class_info.csv", "patientId,class\n" + "\n".join(info) + "\n").parent


def test_one_row_an_image_with_all_its_boxes(put):
    index = rsna.read(write(put))
    expected = pd.DataFrame(
        {
            "image_id": ["neg", "two", "not", "one"],
            "group_id": ["neg", "two", "not", "one"],
            "path": [f"stage_2_train_images/{name}.dcm" for name in ("neg", "two", "not", "one")],
            "view": "",
            "frontal": True,
            "official_split": "",
            "target": [0, 1, 0, 1],
            "finding": ["Normal", "Lung Opacity", "No Lung Opacity / Not Normal", "Lung Opacity"],
            "boxes": [
                [],
                [[264.0, 152.0, 477.0, 531.0], [562.0, 152.0, 818.0, 605.0]],
                [],
                [[0.0, 0.0, 1024.0, 1024.0]],
            ],
        }
    )
    pd.testing.assert_frame_equal(index, expected, check_dtype=False)
    validate("rsna", index)


def test_groups_are_patients_where_a_map_is_given_or_lies_beside_the_labels(put):
    root = write(put)
    by_hand = put("groups.csv", "image,group\nneg,a\ntwo,a\nnot,b\none,b\n")
    assert rsna.read(root, groups=by_hand)["group_id"].tolist() == ["a", "a", "b", "b"]
    entries = [
        {"subset_img_id": image, "img_id": f"{patient:08d}_000.png"}
        for image, patient in [("one", 1), ("two", 2), ("neg", 1), ("not", 30805), ("never used", 3)]
    ]
    put("rsna/pneumonia-challenge-dataset-mappings_2018.json", json.dumps(entries))
    assert rsna.read(root)["group_id"].tolist() == ["00000001", "00000002", "00030805", "00000001"]
    assert [path.name for path in rsna.label_files(root)][
        2
    ] == "pneumonia-challenge-dataset-mappings_2018.json"
    assert rsna.read(root, groups=by_hand)["group_id"].tolist() == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("labels", "info", "message"),
    [
        (["a,,,,,1"], ["a,Lung Opacity"], "labels.csv, row line 2: Target and box contradict"),
        (["a,1.0,2.0,3.0,,1"], ["a,Lung Opacity"], "line 2: Target and box contradict"),
        (["a,1.0,2.0,3.0,4.0,0"], ["a,Normal"], "line 2: Target and box contradict"),
        (["a,,,,,2"], ["a,Normal"], "line 2: unknown Target"),
        ([",,,,,0"], ["a,Normal"], "line 2: patientId is blank"),
        (["a,x,2.0,3.0,4.0,1"], ["a,Lung Opacity"], "line 2: column 'x' is not a number"),
        (["a,1.0,2.0,1023.5,4.0,1"], ["a,Lung Opacity"], "line 2: the box has no area or leaves the film"),
        (["a,-1.0,2.0,10.0,4.0,1"], ["a,Lung Opacity"], "line 2: the box has no area or leaves"),
        (["a,1.0,2.0,0.0,4.0,1"], ["a,Lung Opacity"], "line 2: the box has no area"),
        (["a,,,,,0", "a,1.0,2.0,3.0,4.0,1"], ["a,Lung Opacity"], "line 3: a negative image has another row"),
        (["a,1.0,2.0,3.0,4.0,1", "a,,,,,0"], ["a,Lung Opacity"], "line 3: a negative image has another row"),
        (["a,,,,,0"], ["a,Normal", "a,Lung Opacity"], "class_info.csv, row line 3: the image has two classes"),
        (["a,,,,,0"], ["a,normal"], "class_info.csv, row line 2: unknown class"),
        (["a,,,,,0"], ["b,Normal"], "labels.csv, row line 2: the image has no class info"),
        (["b,,,,,0", "a,,,,,0"], ["a,Lung Opacity", "b,Normal"], "line 3: Target and class info contradict"),
        (["a,1.0,2.0,3.0,4.0,1"], ["a,Normal"], "line 2: Target and class info contradict"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(put, labels, info, message):
    with pytest.raises(InputError, match=message):
        rsna.read(write(put, labels, info))
