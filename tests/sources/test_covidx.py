import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.sources import covidx
from cmcgns.sources.schema import validate

TRAIN = (
    "3 SARS-Fig8a-day0.jpeg pneumonia cohen\n"
    "COVID 1 COVID(1).png COVID-19 sirm\n"
    "exam-a exam-a.png normal rsna\n"
    "exam-b exam-b.png pneumonia rnsa\n"
    "A1 A1-1.png COVID-19 stonybrook\n"
    "A1 A1-2.png COVID-19 stonybrook\n"
)
TEST = "MIDRC-1 r-0.JPG COVID-19 ricord\r\nexam-c exam-c.png normal rsna\r\n"


def write(put, train=TRAIN, test=TEST, version="_COVIDx9A"):
    put(f"covidx/test{version}.txt", test)
    return put(f"covidx/train{version}.txt", train).parent


def test_lines_are_split_from_the_right(put):
    index = covidx.read(write(put))
    names = ["SARS-Fig8a-day0.jpeg", "COVID(1).png", "exam-a.png", "exam-b.png", "A1-1.png", "A1-2.png"]
    patients = ["3", "COVID 1", "exam-a", "exam-b", "A1", "A1", "MIDRC-1", "exam-c"]
    expected = pd.DataFrame(
        {
            "image_id": [*names, "r-0.JPG", "exam-c.png"],
            "group_id": patients,
            "path": [*(f"train/{name}" for name in names), "test/r-0.JPG", "test/exam-c.png"],
            "view": "",
            "frontal": True,
            "official_split": ["train"] * 6 + ["test"] * 2,
            "patient_id": patients,
            "label": ["pneumonia", "COVID-19", "normal", "pneumonia", *["COVID-19"] * 3, "normal"],
            "origin": ["cohen", "sirm", "rsna", "rsna", "stonybrook", "stonybrook", "ricord", "rsna"],
            "listed_origin": ["cohen", "sirm", "rsna", "rnsa", "stonybrook", "stonybrook", "ricord", "rsna"],
            "row": [0, 1, 2, 3, 4, 5, 0, 1],
        }
    )
    pd.testing.assert_frame_equal(index[expected.columns], expected, check_dtype=False)
    validate("covidx", index)


def test_rows_of_rsna_origin_take_the_patient_of_the_map(put):
    groups = put("groups.csv", "image,group\nexam-a,N1\nexam-b,N2\nexam-c,N1\n3,wrong\n")
    index = covidx.read(write(put), groups=groups)
    assert index["group_id"].tolist() == ["3", "COVID 1", "N1", "N2", "A1", "A1", "MIDRC-1", "N1"]
    assert index["patient_id"].tolist()[2:4] == ["exam-a", "exam-b"]


def test_the_version_is_chosen_by_the_lists_that_are_there(put, tmp_path):
    two_classes = write(put, "p1 a.png negative rsna\n", "p2 b.png positive ricord\n", "")
    assert covidx.read(two_classes)["label"].tolist() == ["negative", "positive"]
    assert covidx.read(two_classes, version="9B")["label"].tolist() == ["negative", "positive"]
    with pytest.raises(InputError, match="class of another version.*expected the classes of V9A"):
        covidx.read(two_classes, version="9A")
    root = write(put)
    assert len(covidx.read(root)) == len(covidx.read(root, version="9A")) == 8
    assert len(covidx.read(root, version="9B")) == 2
    assert [path.name for path in covidx.label_files(root)] == ["train_COVIDx9A.txt", "test_COVIDx9A.txt"]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("a a.png normal\n", TEST, "train_COVIDx9A.txt, row line 1: the line has fewer than 4 fields"),
        ("a a.png normal rsna\n\na b.png virus rsna\n", TEST, "line 3: class of another version"),
        ("a a.png normal rsna\nb b.png positive rsna\n", TEST, "line 2: class of another version"),
        (TRAIN, "b b.png positive rsna\n", "test_COVIDx9A.txt, row line 1: class of another version"),
        ("a a.png normal rsna\nb a.png normal rsna\n", TEST, "line 2: the file is listed twice"),
        (TRAIN, "x A1-1.png normal rsna\n", "test_COVIDx9A.txt, row line 1: the file is in the train list"),
        ("\n", TEST, "train_COVIDx9A.txt: the list is empty"),
    ],
)
def test_bad_lists_are_refused(put, train, test, message):
    with pytest.raises(InputError, match=message):
        covidx.read(write(put, train, test))


def test_missing_lists_are_named(put):
    root = put("covidx/train_COVIDx9A.txt", TRAIN).parent
    with pytest.raises(
        InputError, match="train_COVIDx9A.txt and test_COVIDx9A.txt or .*train.txt and test.txt"
    ):
        covidx.read(root)
