"""CheXpert v1.0 and v1.0-small (data.md section 2a): train.csv and valid.csv -> one row per image."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cmcgns.sources.csvs import numbers, read_strings, refuse
from cmcgns.sources.folders import find_folder, need_files, walk
from cmcgns.sources.vocabulary import CHEXPERT_LABELS

TITLE = "CheXpert v1.0"
WHERE = "Stanford AIMI: CheXpert (v1.0 or v1.0-small)"
FOLDERS = (
    "chexpert-v1.0",
    "chexpert/chexpert-v1.0",
    "chexpert-v1.0-small",
    "chexpert/chexpert-v1.0-small",
    "chexpert",
    "chexpertchestxrays*/chexpert-v1.0*",
)
_FILES = ("train.csv", "valid.csv")
_REMEDY = f"use the file as published; get it from {WHERE}"

find = partial(find_folder, patterns=FOLDERS, holding=_FILES)
label_files = partial(need_files, names=_FILES, where=WHERE)
image_files = partial(walk, under=("train", "valid"))


def read(root: Path) -> pd.DataFrame:
    """Index of both files; labels are 1, 0, -1 (uncertain) or NaN (blank), as published; the group is the patient.

    Raises:
        InputError: a path of another form or of the other split, a label outside the vocabulary, a row twice.
    """
    train, valid = label_files(root)
    return pd.concat([_read_split(train, "train"), _read_split(valid, "valid")], ignore_index=True)


def _read_split(path: Path, split: str) -> pd.DataFrame:
    table = read_strings(path, ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_LABELS))
    parts = table["Path"].str.extract(rf"^[^/]+/({split}/(patient\d+)/.+)$")
    form = f"<distribution folder>/{split}/patient<number>/.../<file>.jpg"
    refuse(parts[0].isna(), path, "the Path has another form", form, _REMEDY)
    refuse(parts[0].duplicated(), path, "the image is listed twice", "one row an image", _REMEDY)
    kind = table["Frontal/Lateral"]
    refuse(~kind.isin(["Frontal", "Lateral"]), path, "unknown Frontal/Lateral", "Frontal or Lateral", _REMEDY)
    frontal = kind == "Frontal"
    labels = {name: numbers(table[name], path, blank=True) for name in CHEXPERT_LABELS}
    for name, values in labels.items():
        bad = ~(values.isin([1.0, 0.0, -1.0]) | values.isna())
        refuse(bad, path, f"unknown label in column {name!r}", "1.0, 0.0, -1.0 or a blank", _REMEDY)
    return pd.DataFrame(
        {
            "image_id": parts[0],
            "group_id": parts[1],
            "path": parts[0],
            # laterals have a blank AP/PA; a few frontal films have LL or RL there
            "view": table["AP/PA"].where(frontal, "LATERAL"),
            "frontal": frontal,
            "official_split": split,
            "sex": table["Sex"],
            "age": numbers(table["Age"], path, blank=True),
            "row": np.arange(len(table)),
            **labels,
        }
    ).astype({"official_split": str})
