"""RSNA Pneumonia Detection Challenge, stage 2 (data.md section 3a): boxes and class info -> one row per image."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cmcgns.sources.csvs import among, numbers, read_strings, refuse
from cmcgns.sources.folders import find_file, find_folder, need_files, walk
from cmcgns.sources.groups import NIH_MAP, read_groups, resolve
from cmcgns.sources.vocabulary import RSNA_FINDINGS

TITLE = "RSNA Pneumonia Detection, stage 2"
WHERE = "Kaggle competition rsna-pneumonia-detection-challenge, stage 2 files"
FOLDERS = ("rsna", "rsna-pneumonia-detection-challenge", "rsna-pneumonia*", "rsna_pneumonia*")
IMAGE_SIZE = 1024  # pixels; every film of the challenge
_FILES = ("stage_2_train_labels.csv", "stage_2_detailed_class_info.csv")
_REMEDY = f"use both CSV files as published; get them from {WHERE}"

find = partial(find_folder, patterns=FOLDERS, holding=_FILES)
image_files = walk  # those of the unlabelled test folder, too


def label_files(root: Path) -> list[Path]:
    """Labels, class info and, where it lies beside them, the public map to NIH patients."""
    files = need_files(root, _FILES, WHERE)
    nih_map = find_file(root, (NIH_MAP,))
    return files + ([nih_map] if nih_map else [])


def read(root: Path, *, groups: Path | None = None) -> pd.DataFrame:
    """Index of the labelled images, in the labels' order; boxes are [x1, y1, x2, y2] in pixels of the 1024 px film.

    Args:
        groups: see `groups.read_groups`; None takes the NIH map in `root`, and without one groups by image: a
            `patientId` is an exam, and most exams share a patient with another.

    Raises:
        InputError: boxes and targets that contradict each other, a box outside the film, class info that does not fit.
    """
    labels_file, info_file, *nih_map = label_files(root)
    labels = _read_boxes(labels_file)
    targets = labels.drop_duplicates("patientId")
    image = targets["patientId"]
    finding = image.map(_read_findings(info_file))
    refuse(finding.isna(), labels_file, "the image has no class info", f"a row in {info_file.name}", _REMEDY)
    contradiction = (targets["Target"] == 1) != (finding == "Lung Opacity")
    agree = f"Target 1 exactly where {info_file.name} says Lung Opacity"
    refuse(contradiction, labels_file, "Target and class info contradict each other", agree, _REMEDY)
    chosen = groups if groups is not None else next(iter(nih_map), None)
    group = image if chosen is None else resolve(image, read_groups(chosen), labels_file)
    return pd.DataFrame(
        {
            "image_id": image,
            "group_id": group,
            "path": "stage_2_train_images/" + image + ".dcm",
            "view": "",  # in the DICOM header only
            "frontal": True,
            "official_split": "",
            "target": targets["Target"],
            "finding": finding,
            "boxes": _collect_boxes(labels, image),
        }
    ).reset_index(drop=True)


def _read_boxes(path: Path) -> pd.DataFrame:
    """Rows of the labels file with `Target` (int64) and the corners `x1, y1, x2, y2` (float64, NaN on negatives)."""
    table = read_strings(path, ("patientId", "x", "y", "width", "height", "Target"))
    refuse(table["patientId"] == "", path, "patientId is blank", "an id", _REMEDY)
    refuse(~table["Target"].isin(["0", "1"]), path, "unknown Target", "0 or 1", _REMEDY)
    target = table["Target"].astype(np.int64)
    box = pd.DataFrame({c: numbers(table[c], path, blank=True) for c in ("x", "y", "width", "height")})
    filled = box.notna().sum(axis=1)
    refuse(filled != 4 * target, path, "Target and box contradict", "4 numbers with 1, none with 0", _REMEDY)
    x2, y2 = box["x"] + box["width"], box["y"] + box["height"]
    inside = (box[["x", "y"]] >= 0).all(axis=1) & (x2 <= IMAGE_SIZE) & (y2 <= IMAGE_SIZE)
    good = inside & (box[["width", "height"]] > 0).all(axis=1)
    size = f"a box with an area inside the {IMAGE_SIZE} x {IMAGE_SIZE} film"
    refuse(~good & (target == 1), path, "the box has no area or leaves the film", size, _REMEDY)
    image = table["patientId"]
    negative = among(image, image[target == 0])
    refuse(negative & image.duplicated(), path, "a negative image has another row", "one row", _REMEDY)
    return pd.DataFrame(
        {"patientId": image, "Target": target, "x1": box["x"], "y1": box["y"], "x2": x2, "y2": y2}
    )


def _read_findings(path: Path) -> pd.Series:
    """Class text by image; the file repeats a row for every box."""
    table = read_strings(path, ("patientId", "class"))
    refuse(~table["class"].isin(RSNA_FINDINGS), path, "unknown class", " or ".join(RSNA_FINDINGS), _REMEDY)
    unique = table[["patientId", "class"]].drop_duplicates()
    refuse(unique["patientId"].duplicated(), path, "the image has two classes", "one class an image", _REMEDY)
    return unique.set_index("patientId")["class"]


def _collect_boxes(labels: pd.DataFrame, image: pd.Series) -> pd.Series:
    """A list of boxes per image, indexed as `image`."""
    positive = labels[labels["Target"] == 1]
    collected: dict[str, list[list[float]]] = {name: [] for name in image}
    corners = positive[["x1", "y1", "x2", "y2"]].to_numpy().tolist()
    for name, box in zip(positive["patientId"], corners, strict=True):
        collected[name].append(box)
    return pd.Series(list(collected.values()), index=image.index, dtype=object)
