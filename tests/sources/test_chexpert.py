import numpy as np
import pytest

from cmcgns.errors import InputError
from cmcgns.sources import chexpert
from cmcgns.sources.schema import validate
from cmcgns.sources.vocabulary import CHEXPERT_LABELS

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_LABELS) + "\n"
FIRST = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP"
TRAIN = [
    f"{FIRST},1.0,,,,,,,,,0.0,,,,1.0",
    "CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Unknown,0,Frontal,LL,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
    "CheXpert-v1.0-small/train/patient00002/study1/view2_lateral.jpg,Male,83,Lateral,,,,1.0,,,,,,,,,,1.0,",
]
VALID = [
    "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA"
    + ",0.0" * 13
    + ",1.0"
]


def write(put, train=TRAIN, valid=VALID, header=HEADER):
    put("chexpert/valid.csv", header + "\n".join(valid) + "\n")
    return put("chexpert/train.csv", header + "\n".join(train) + "\n").parent


def test_rows_of_both_files(put):
    index = chexpert.read(write(put))
    assert index["image_id"].tolist() == index["path"].tolist() == [
        "train/patient00001/study1/view1_frontal.jpg",
        "train/patient00002/study2/view1_frontal.jpg",
        "train/patient00002/study1/view2_lateral.jpg",
        "valid/patient64541/study1/view1_frontal.jpg",
    ]  # fmt: skip
    assert index["group_id"].tolist() == ["patient00001", "patient00002", "patient00002", "patient64541"]
    assert index["view"].tolist() == ["AP", "LL", "LATERAL", "PA"]
    assert index["frontal"].tolist() == [True, True, False, True]
    assert index["official_split"].tolist() == ["train", "train", "train", "valid"]
    assert index["sex"].tolist() == ["Female", "Unknown", "Male", "Male"]
    assert index["age"].tolist() == [68, 0, 83, 73]
    assert index["row"].tolist() == [0, 1, 2, 0]
    validate("chexpert", index)


def test_labels_stay_as_published_blank_is_nan(put):
    index = chexpert.read(write(put))
    blank = np.nan
    np.testing.assert_array_equal(index["Cardiomegaly"], [blank, -1, 1, 0])
    np.testing.assert_array_equal(index["Lung Opacity"], [blank, 1, blank, 0])
    np.testing.assert_array_equal(index["Pneumothorax"], [0, blank, blank, 0])
    np.testing.assert_array_equal(index["Support Devices"], [1, blank, blank, 1])
    assert index.columns[-14:].tolist() == list(CHEXPERT_LABELS)


def test_columns_are_read_by_name_not_by_place(put):
    swapped = HEADER.replace("Lung Opacity,Lung Lesion", "Lung Lesion,Lung Opacity")
    index = chexpert.read(write(put, header=swapped))
    np.testing.assert_array_equal(index["Lung Lesion"], [np.nan, 1, np.nan, 0])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (FIRST.replace("/train/", "/valid/") + "," * 14, "train.csv.*line 2: the Path has another form"),
        (FIRST.replace("CheXpert-v1.0-small/", "") + "," * 14, "the Path has another form"),
        (FIRST.replace("patient00001", "p1") + "," * 14, "the Path has another form"),
        (FIRST.replace("Frontal", "frontal") + "," * 14, "unknown Frontal/Lateral"),
        (FIRST + ",2.0" + "," * 13, "unknown label in column 'No Finding'"),
        (FIRST + ",yes" + "," * 13, "'No Finding' is not a number"),
        (FIRST.replace("68", "old") + "," * 14, "'Age' is not a number"),
        (FIRST + "," * 13, "18 fields"),
    ],
)
def test_bad_rows_are_refused(put, row, message):
    with pytest.raises(InputError, match=message):
        chexpert.read(write(put, [row]))


def test_an_image_listed_twice_is_refused(put):
    with pytest.raises(InputError, match="line 5: the image is listed twice"):
        chexpert.read(write(put, [*TRAIN, TRAIN[0]]))
