"""MS-CXR's CSV: phrases with all their boxes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.sources import ms_cxr

HEADER = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split\n"
ROWS = [
    "d1,Pneumothorax,Small left apical pneumothorax,files/p10/d1.jpg,1000,100,500,400,2000,1000,val",
    "d1,Edema,Bilateral edema,files/p10/d1.jpg,100,200,800,600,2000,1000,val",
    "d1,Edema,Bilateral edema,files/p10/d1.jpg,1100,200,800,600,2000,1000,val",
    'd2,Edema,"Edema, mild",files/p11/d2.jpg,0,0,1000,500,1000,1000,test',
]


def write(root: Path, rows: list[str], folder: str = "ms-cxr", version: str = "1.1.0") -> Path:
    path = root / folder / f"MS_CXR_Local_Alignment_v{version}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_a_phrase_has_all_its_boxes_as_fractions(tmp_path):
    write(tmp_path, ROWS)
    table = ms_cxr.read(ms_cxr.find(tmp_path))
    assert table.to_dict("list") == {
        "image_id": ["d1", "d1", "d2"],
        "label": ["Pneumothorax", "Edema", "Edema"],
        "phrase": ["Small left apical pneumothorax", "Bilateral edema", "Edema, mild"],
        "boxes": [
            [[0.5, 0.1, 0.75, 0.5]],
            [[0.05, 0.2, 0.45, 0.8], [0.55, 0.2, 0.95, 0.8]],
            [[0.0, 0.0, 1.0, 0.5]],
        ],
    }


@pytest.mark.parametrize(
    ("folder", "version"),
    [("ms-cxr/0.1", "1.0.0"), ("physionet.org/files/ms-cxr/1.1.0", "1.1.0"), ("MS-CXR", "1.1.0")],
)
def test_it_is_found_under_its_published_names(tmp_path, folder, version):
    path = write(tmp_path, ROWS, folder, version)
    assert ms_cxr.label_files(ms_cxr.find(tmp_path)) == [path]


def test_no_folder_is_none_and_a_folder_without_the_file_is_refused(tmp_path):
    assert ms_cxr.find(tmp_path) is None
    (tmp_path / "ms-cxr").mkdir()
    with pytest.raises(InputError, match=r"MS_CXR_Local_Alignment_v1\.1\.0\.csv is missing"):
        ms_cxr.read(ms_cxr.find(tmp_path))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (ROWS[0].replace("1000,100,500", "1600,100,500"), "line 3: the box is not inside its image"),
        (ROWS[0].replace(",500,400,", ",0,400,"), "line 3: the box is not inside its image"),
        (ROWS[0].replace("1000,100", "left,100"), "line 3: column 'x' is not a number"),
        (ROWS[0].replace("Small left apical pneumothorax", ""), "line 3: no dicom_id or no label_text"),
        (ROWS[0] + ",more", "12 fields"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, row, problem):
    write(tmp_path, [ROWS[1], row])
    with pytest.raises(InputError, match=problem):
        ms_cxr.read(ms_cxr.find(tmp_path))


def test_a_missing_column_is_named(tmp_path):
    path = write(tmp_path, ROWS)
    path.write_text(path.read_text().replace("label_text", "text"))
    with pytest.raises(InputError, match="columns missing: label_text"):
        ms_cxr.read(ms_cxr.find(tmp_path))
