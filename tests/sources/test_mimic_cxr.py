import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.sources import mimic_cxr
from cmcgns.sources.schema import validate

ROWS = [
    # dicom_id, subject_id, study_id, ViewPosition, split
    ("d1", "10000032", "50414267", "PA", "train"),
    ("d2", "10000032", "50414267", "AP", "train"),
    ("d3", "10000032", "50414267", "LATERAL", "train"),
    ("d4", "11000011", "51000001", "", "validate"),
    ("d5", "11000011", "51000001", "AP AXIAL", "validate"),
    ("d6", "12000022", "52000002", "LL", "test"),
]


def write(put, rows=ROWS, split_rows=None, end=".csv.gz"):
    metadata = "".join(f'{d},{s},{t},"CHEST, NA",{v}\n' for d, s, t, v, _ in rows)
    columns = "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition\n"
    put(f"mimic/mimic-cxr-2.0.0-metadata{end}", columns + metadata)
    split = "".join(f"{d},{t},{s},{part}\n" for d, s, t, _, part in reversed(split_rows or rows))
    return put(f"mimic/mimic-cxr-2.0.0-split{end}", "dicom_id,study_id,subject_id,split\n" + split).parent


@pytest.mark.parametrize("end", [".csv", ".csv.gz"])
def test_every_image_is_a_row_and_only_ap_and_pa_are_frontal(put, end):
    index = mimic_cxr.read(write(put, end=end))
    expected = pd.DataFrame(
        {
            "image_id": ["d1", "d2", "d3", "d4", "d5", "d6"],
            "group_id": ["10000032"] * 3 + ["11000011"] * 2 + ["12000022"],
            "path": [
                "files/p10/p10000032/s50414267/d1.jpg",
                "files/p10/p10000032/s50414267/d2.jpg",
                "files/p10/p10000032/s50414267/d3.jpg",
                "files/p11/p11000011/s51000001/d4.jpg",
                "files/p11/p11000011/s51000001/d5.jpg",
                "files/p12/p12000022/s52000002/d6.jpg",
            ],
            "view": ["PA", "AP", "LATERAL", "", "AP AXIAL", "LL"],
            "frontal": [True, True, False, False, False, False],
            "official_split": ["train"] * 3 + ["validate"] * 2 + ["test"],
            "subject_id": ["10000032"] * 3 + ["11000011"] * 2 + ["12000022"],
            "study_id": ["50414267"] * 3 + ["51000001"] * 2 + ["52000002"],
        }
    )
    pd.testing.assert_frame_equal(index, expected, check_dtype=False)
    validate("mimic_cxr", index)


@pytest.mark.parametrize(
    ("rows", "split_rows", "message"),
    [
        ([("d1", "1000003", "50414267", "PA", "train")], None, "metadata.*line 2: subject_id is malformed"),
        ([("d1", "10000032", "s50414267", "PA", "train")], None, "line 2: study_id is malformed"),
        ([("", "10000032", "50414267", "PA", "train")], None, "line 2: dicom_id is malformed"),
        ([ROWS[0], ROWS[0]], None, "line 3: the image is listed twice"),
        ([ROWS[0], ROWS[5]], [ROWS[0]], "metadata.*line 3: the image is not the same in the split"),
        (
            [ROWS[0]],
            [("d1", "10000032", "50414268", "", "train")],
            "metadata.*line 2: the image is not the same",
        ),
        ([ROWS[0]], [ROWS[0], ROWS[5]], "split.*line 2: the image is not in the metadata"),
        ([(*ROWS[0][:4], "valid")], None, "split.*line 2: unknown split. expected train or validate or test"),
    ],
)
def test_contradictions_are_refused(put, rows, split_rows, message):
    with pytest.raises(InputError, match=message):
        mimic_cxr.read(write(put, rows, split_rows))


def test_a_missing_label_file_is_named(put, tmp_path):
    put("mimic/mimic-cxr-2.0.0-metadata.csv.gz")
    with pytest.raises(InputError, match="split.csv is missing.*PhysioNet"):
        mimic_cxr.read(tmp_path / "mimic")


def test_images_are_listed_below_files_only(put, tmp_path):
    put("mimic/files/p10/p10000032/s50414267/d1.jpg")
    put("mimic/preview/d2.jpg")
    assert list(mimic_cxr.image_files(tmp_path / "mimic")) == ["files/p10/p10000032/s50414267/d1.jpg"]
