"""MS-CXR: sentences about images of MIMIC-CXR, with the boxes radiologists drew for them (Boecking et al., 2022)."""

from pathlib import Path

import pandas as pd

from cmcgns.sources.csvs import numbers, read_strings, refuse
from cmcgns.sources.folders import find_file, find_folder, need_file

WHERE = "PhysioNet: MS-CXR (credentialed access)"
FOLDERS = ("ms-cxr", "ms-cxr/*", "ms-cxr*", "physionet.org/files/ms-cxr/*")
_FILES = ("MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv")
_SIZES = ["image_width", "image_height"]
_BOX = ["x", "y", "w", "h"]
_REMEDY = f"use the file as published; get it from {WHERE}"


def find(raw: Path) -> Path | None:
    """The folder that holds the CSV file, or None."""
    root = find_folder(raw, FOLDERS, _FILES)
    # a folder of another data set may have a name that begins alike, such as MS-CXR-T
    return root if root is not None and find_file(root, _FILES) else None


def label_files(root: Path) -> list[Path]:
    """The CSV file; the JSON file beside it says the same."""
    return [need_file(root, _FILES, WHERE)]


def read(root: Path) -> pd.DataFrame:
    """A row a sentence and image: `image_id`, `label`, `phrase`, and `boxes`, x1, y1, x2, y2 as fractions of the image.

    Raises:
        InputError: the file is missing or cut, or a box is not inside its image.
    """
    (path,) = label_files(root)
    table = read_strings(path, ["dicom_id", "category_name", "label_text", *_BOX, *_SIZES])
    refuse(
        (table["dicom_id"] == "") | (table["label_text"] == ""),
        path,
        "no dicom_id or no label_text",
        "both",
        _REMEDY,
    )
    values = pd.DataFrame({name: numbers(table[name], path, blank=False) for name in (*_BOX, *_SIZES)})
    boxes = pd.DataFrame(
        {
            "x1": values["x"] / values["image_width"],
            "y1": values["y"] / values["image_height"],
            "x2": (values["x"] + values["w"]) / values["image_width"],
            "y2": (values["y"] + values["h"]) / values["image_height"],
        }
    )
    slack = 0.01  # boxes drawn by hand may reach a few pixels over the edge
    inside = (boxes >= -slack).all(axis=1) & (boxes <= 1 + slack).all(axis=1)
    with_area = (values[["w", "h", *_SIZES]] > 0).all(axis=1)
    expected = "x, y, w, h in pixels, with an area inside image_width x image_height"
    refuse(~(inside & with_area), path, "the box is not inside its image", expected, _REMEDY)
    table["box"] = boxes.clip(0, 1).to_numpy().tolist()
    keys = ["dicom_id", "category_name", "label_text"]
    grouped = table.groupby(keys, sort=False)["box"].agg(list).reset_index()
    return grouped.set_axis(["image_id", "label", "phrase", "boxes"], axis=1)
