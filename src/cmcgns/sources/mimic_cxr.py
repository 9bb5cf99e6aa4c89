"""MIMIC-CXR-JPG 2.0.0 (data.md section 1a): metadata and split files -> one row per image, laterals included."""

from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd

from cmcgns.sources.csvs import among, read_strings, refuse
from cmcgns.sources.folders import find_file, find_folder, need_files, walk

TITLE = "MIMIC-CXR-JPG 2.0.0"
WHERE = "PhysioNet: MIMIC-CXR-JPG 2.0.0 for images and labels, MIMIC-CXR 2.0.0 for the reports (credentialed access)"
FOLDERS = (
    "mimic",
    "mimic-cxr-jpg/2.*",
    "mimic-cxr-jpg*",
    "physionet.org/files/mimic-cxr-jpg/2.*",
)
REPORT_FOLDERS = (
    "mimic-reports",
    "mimic-cxr-reports",
    "mimic-cxr/2.*",
    "mimic-cxr",
    "physionet.org/files/mimic-cxr/2.*",
    *FOLDERS,
)
REPORT_ZIP = "mimic-cxr-reports.zip"
_FILES = ("mimic-cxr-2.0.0-metadata.csv", "mimic-cxr-2.0.0-split.csv")
_IDS = ["dicom_id", "subject_id", "study_id"]
_REMEDY = f"use both files as published; get them from {WHERE}"

find = partial(find_folder, patterns=FOLDERS, holding=_FILES)
label_files = partial(need_files, names=_FILES, where=WHERE)
image_files = partial(walk, under=("files",))


def find_reports(raw: Path) -> Path | None:
    """The folder whose `files/` holds the reports, or the archive `mimic-cxr-reports.zip`, or None."""
    for pattern in REPORT_FOLDERS:
        folder = find_folder(raw, (pattern,), (REPORT_ZIP,))
        if folder is None:
            continue
        inner = folder / "mimic-cxr-reports"
        if _has_reports(inner):
            return inner
        # where both are, files/ holds the images and the archive the reports
        if archive := find_file(folder, (REPORT_ZIP,)):
            return archive
        if _has_reports(folder):
            return folder
    return find_file(raw, (REPORT_ZIP,))


def read(root: Path) -> pd.DataFrame:
    """Index of all images: frontal is a ViewPosition of exactly AP or PA; the group is the subject.

    Raises:
        InputError: an id that is malformed, listed twice, or not the same in both files; an unknown split.
    """
    metadata_file, split_file = label_files(root)
    metadata = _read_ids(metadata_file, "ViewPosition")
    split = _read_ids(split_file, "split")
    known = ("train", "validate", "test")
    refuse(~split["split"].isin(known), split_file, "unknown split", " or ".join(known), _REMEDY)
    subject, study, dicom = metadata["subject_id"], metadata["study_id"], metadata["dicom_id"]
    here = split.set_index("dicom_id").reindex(dicom).set_axis(metadata.index)
    differs = (here["subject_id"] != subject) | (here["study_id"] != study)
    both = "the same dicom_id, subject_id and study_id in metadata and split"
    refuse(differs, metadata_file, "the image is not the same in the split file", both, _REMEDY)
    refuse(~among(split["dicom_id"], dicom), split_file, "the image is not in the metadata", both, _REMEDY)
    return pd.DataFrame(
        {
            "image_id": dicom,
            "group_id": subject,
            "path": "files/p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + dicom + ".jpg",
            "view": metadata["ViewPosition"],
            "frontal": metadata["ViewPosition"].isin(["AP", "PA"]),
            "official_split": here["split"],
            "subject_id": subject,
            "study_id": study,
        }
    ).reset_index(drop=True)


def _read_ids(path: Path, column: str) -> pd.DataFrame:
    table = read_strings(path, [*_IDS, column])
    for name in ("subject_id", "study_id"):
        bad = ~table[name].str.fullmatch(r"\d{8}")
        refuse(bad, path, f"{name} is malformed", "8 digits", _REMEDY)
    bad = ~table["dicom_id"].str.fullmatch(r"[\w.-]+")
    refuse(bad, path, "dicom_id is malformed", "5 groups of 8 hex digits joined by -", _REMEDY)
    refuse(table["dicom_id"].duplicated(), path, "the image is listed twice", "one row an image", _REMEDY)
    return table


def _has_reports(folder: Path) -> bool:
    """Whether `folder/files` holds report texts; a few patients tell, and walking all of them takes minutes."""
    patients = islice(folder.glob("files/p[0-9]*/p[0-9]*"), 5)
    return any(next(patient.glob("s*.txt"), None) for patient in patients)
