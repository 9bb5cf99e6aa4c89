"""COVIDx V9A (3 classes) and V9B (2 classes) (data.md section 4a): list files -> one row per image."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.sources.csvs import among, read_lines, refuse
from cmcgns.sources.folders import find_file, find_folder, walk
from cmcgns.sources.groups import read_groups, resolve
from cmcgns.sources.vocabulary import COVIDX_CLASSES

TITLE = "COVIDx V9"
WHERE = (
    "Kaggle data set andyczhao/covidx-cxr2 for the images; COVID-Net's labels folder for the V9A list files"
)
FOLDERS = ("covidx", "covidx-cxr2", "covidx*")
Version = Literal["9A", "9B"]
_SPLITS = ("train", "test")
_REMEDY = f"use the list as published; get it from {WHERE}"

image_files = walk  # those of other lists and of the competition's test folder, too


def find(raw: Path) -> Path | None:
    """The folder that holds the list files, or None."""
    return find_folder(raw, FOLDERS, [p.format("train") for p in _patterns(None)])


def label_files(root: Path, *, version: Version | None = None) -> list[Path]:
    """The train and the test list of one version; None prefers 9A, the version of the paper's code."""
    patterns = _patterns(version)
    for pattern in patterns:
        files = [find_file(root, (pattern.format(split),)) for split in _SPLITS]
        if all(files):
            return [file for file in files if file]
    raise InputError(
        "the label files are missing",
        file=root,
        expected=" or ".join(f"{p.format('train')} and {p.format('test')}" for p in patterns),
        remedy=f"get them from {WHERE}",
    )


def read(root: Path, *, version: Version | None = None, groups: Path | None = None) -> pd.DataFrame:
    """Index of both lists. The group is the listed patient.

    Args:
        version: the list files and their classes; None takes what is there, 9A first.
        groups: RSNA exam -> patient (see `groups.read_groups`); resolves the rows of RSNA origin, whose listed patient
            is an exam.

    Raises:
        InputError: a line without 4 fields, a class of another version, a file listed twice.
    """
    train_file, test_file = label_files(root, version=version)
    train, test = _read_list(train_file), _read_list(test_file)
    version = version or ("9B" if train["label"].iloc[0] in COVIDX_CLASSES["9B"] else "9A")
    expected = f"the classes of V{version}: {', '.join(COVIDX_CLASSES[version])}"
    patients = None if groups is None else read_groups(groups)
    for table, path in ((train, train_file), (test, test_file)):
        remedy = "give the list files of one version and name it (sources.covidx_version)"
        refuse(
            ~table["label"].isin(COVIDX_CLASSES[version]), path, "class of another version", expected, remedy
        )
        rsna = table["origin"] == "rsna"
        if patients is not None:
            table.loc[rsna, "group_id"] = resolve(table.loc[rsna, "patient_id"], patients, path)
    in_both = among(test["image_id"], train["image_id"])
    refuse(in_both, test_file, "the file is in the train list as well", "disjoint lists", _REMEDY)
    return pd.concat([_with_place(train, "train"), _with_place(test, "test")], ignore_index=True)


def _patterns(version: Version | None) -> list[str]:
    """Names of the list files in order of preference; only the plain one of Kaggle does not tell its version."""
    return [f"{{}}_COVIDx{v}.txt" for v in ([version] if version else COVIDX_CLASSES)] + ["{}.txt"]


def _read_list(path: Path) -> pd.DataFrame:
    """One list: `image_id, group_id, patient_id, label, origin, listed_origin`, indexed by line number."""
    lines = read_lines(path)
    form = "<patient id> <file name> <class> <source>, with single blanks"
    if lines.empty:
        raise InputError("the list is empty", file=path, expected=f"lines of {form}", remedy=_REMEDY)
    # from the right: a patient id may hold a blank, as in "COVID 1 COVID(1).png COVID-19 sirm"
    fields = lines.str.rsplit(" ", n=3, expand=True).reindex(columns=range(4)).astype(object)
    bad = fields.isna().any(axis=1) | (fields == "").any(axis=1)
    refuse(bad, path, "the line has fewer than 4 fields", form, _REMEDY)
    patient, image, label, origin = (fields[column].astype(str) for column in range(4))
    refuse(image.duplicated(), path, "the file is listed twice", "one line an image", _REMEDY)
    return pd.DataFrame(
        {
            "image_id": image,
            "group_id": patient,
            "patient_id": patient,
            "label": label,
            "origin": origin.replace("rnsa", "rsna"),  # 199 rows of the published 9A list are misspelt
            "listed_origin": origin,
            "row": np.arange(len(lines)),
        }
    )


def _with_place(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table.assign(path=f"{split}/" + table["image_id"], view="", frontal=True, official_split=split)
