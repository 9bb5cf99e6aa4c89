import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.sources import object_cxr
from cmcgns.sources.object_cxr import shape_box
from cmcgns.sources.schema import validate

TRAIN = "00001.jpg,0 765 2298 870 2412;1 10 30 5 20\n00002.jpg,\n00003.jpg,2 10 10 10 90 60 90 60 70 30 70 30 10\n"
DEV = "08001.jpg,1 100 200 300 400;\n"


def write(put, train=TRAIN, dev=DEV, column="image_name"):
    put("object-CXR/dev.csv", f"{column},annotation\n{dev}")
    return put("object-CXR/train.csv", f"{column},annotation\n{train}").parent


@pytest.mark.parametrize("column", ["image_name", "image_path"])
def test_one_row_an_image_with_a_tight_box_a_shape(put, column):
    index = object_cxr.read(write(put, column=column))
    expected = pd.DataFrame(
        {
            "image_id": ["00001.jpg", "00002.jpg", "00003.jpg", "08001.jpg"],
            "group_id": ["00001.jpg", "00002.jpg", "00003.jpg", "08001.jpg"],
            "path": ["train/00001.jpg", "train/00002.jpg", "train/00003.jpg", "dev/08001.jpg"],
            "view": "",
            "frontal": True,
            "official_split": ["train", "train", "train", "dev"],
            "row": [0, 1, 2, 0],
            "boxes": [
                [[765.0, 2298.0, 870.0, 2412.0], [5.0, 20.0, 10.0, 30.0]],
                [],
                [[10.0, 10.0, 60.0, 90.0]],
                [[100.0, 200.0, 300.0, 400.0]],
            ],
            "shapes": [
                ["0 765 2298 870 2412", "1 10 30 5 20"],
                [],
                ["2 10 10 10 90 60 90 60 70 30 70 30 10"],
                ["1 100 200 300 400"],
            ],
        }
    )
    pd.testing.assert_frame_equal(index, expected, check_dtype=False)
    validate("object_cxr", index)


def test_a_path_in_the_name_is_cut_to_the_file(put):
    index = object_cxr.read(write(put, "train/00001.jpg,\n", "./dev/08001.jpg,\n", "image_path"))
    assert index["path"].tolist() == ["train/00001.jpg", "dev/08001.jpg"]


def test_boxes_begin_in_the_image(put):
    root = write(put, "a.jpg,0 -5 10 90 90\nb.jpg,2 -5 10 90 -8 50 200\n", "")
    assert object_cxr.read(root)["boxes"].tolist() == [[[0, 10, 90, 90]], [[0, 0, 90, 200]]]


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ("0 30 40 10 20", [10, 20, 30, 40]),
        ("0 10 20 10 40", [10, 20, 11, 40]),
        ("0 10 20 10 20", [10, 20, 11, 21]),
        ("1 100 50 100 100", [100, 50, 101, 100]),
        ("2 0 0 9.5 3 4 8", [0, 0, 9.5, 8]),
    ],
)
def test_tight_boxes(shape, box):
    assert shape_box(shape) == box


@pytest.mark.parametrize(
    "shape",
    [
        "3 1 2 3 4", "0 1 2 3", "0 1 2 3 4 5 6", "2 1 2 3 4", "2 1 2 3 4 5 6 7", "0 a b c d", "0 1 2 nan 4", "0",
        "0 -9 -9 -1 5",
    ],
)  # fmt: skip
def test_malformed_shapes_are_refused(shape):
    with pytest.raises(ValueError):
        shape_box(shape)


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        ("a.jpg,\nb.jpg,0 1 2 3\n", DEV, "train.csv, row line 3: malformed annotation"),
        ("a.jpg,\na.jpg,\n", DEV, "line 3: the image is listed twice"),
        (",0 1 2 3 4\n", DEV, "line 2: the image name is blank"),
        (TRAIN, "00001.jpg,\n", "dev.csv, row line 2: the image is in train.csv as well"),
    ],
)
def test_bad_rows_are_refused(put, train, dev, message):
    with pytest.raises(InputError, match=message):
        object_cxr.read(write(put, train, dev))


def test_bad_headers_and_options_are_refused(put):
    with pytest.raises(InputError, match="row header.*expected image_name or image_path"):
        object_cxr.read(write(put, column="file"))
    with pytest.raises(InputError, match="unknown polygon_box 'polylabel'"):
        object_cxr.read(write(put), polygon_box="polylabel")
