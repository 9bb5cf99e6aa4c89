"""SIIM-ACR Pneumothorax (data.md section 5a): run-length rows -> one row per image, and the run-length code itself."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.sources.csvs import among, first_line, read_strings, refuse
from cmcgns.sources.folders import find_folder, need_file, walk

TITLE = "SIIM-ACR Pneumothorax"
WHERE = "Kaggle data set seesee/siim-train-test (the merged stage 2 list)"
FOLDERS = ("siim", "siim/siim", "siim-train-test/siim", "siim-train-test", "siim*", "pneumothorax")
MASK_SHAPE = (1024, 1024)  # (height, width) of every film
_FILES = ("stage_2_train.csv", "train-rle.csv")
_COLUMNS = ["ImageId", "EncodedPixels"]
_EMPTY = ("", "-1")
_REMEDY = f"use the file as published; get it from {WHERE}"

find = partial(find_folder, patterns=FOLDERS, holding=_FILES)
image_files = walk  # those of the test folder, too


def label_files(root: Path) -> list[Path]:
    """`stage_2_train.csv`, or `train-rle.csv` of stage 1 or of the merged copy."""
    return [need_file(root, _FILES, WHERE)]


def read(root: Path) -> pd.DataFrame:
    """Index of the listed images, in the order of their first row.

    `rle` has one code per mask row; their masks are to be united. `rows` are the image's data rows in the file (0-based):
    of an image with masks, one for each code. `path` stays empty: a row names a file, not the two
    folders above it, and `index.build_index` looks it up.

    Raises:
        InputError: a malformed code, or an image that is listed both as empty and with a mask.
    """
    (path,) = label_files(root)
    # one published dialect has no header
    headed = first_line(path).split(",")[0].strip().lower() == "imageid"
    table = read_strings(path, _COLUMNS, names=None if headed else _COLUMNS)
    refuse(table["ImageId"] == "", path, "ImageId is blank", "an id", _REMEDY)
    masked = ~table["EncodedPixels"].isin(_EMPTY)
    for line, text in table.loc[masked, "EncodedPixels"].items():
        _runs(text, MASK_SHAPE, path, line)
    image = table["ImageId"]
    mixed = among(image, image[masked]) & ~masked
    refuse(mixed, path, "the image is listed as empty and with a mask", "one of the two", _REMEDY)
    codes = table[masked].groupby("ImageId", sort=False)["EncodedPixels"].agg(list).to_dict()
    rows = pd.Series(np.arange(len(table))).groupby(image.to_numpy(), sort=False).agg(list).to_dict()
    unique = image.drop_duplicates().reset_index(drop=True)
    return pd.DataFrame(
        {
            "image_id": unique,
            "group_id": unique,
            "path": "",
            "view": "",
            "frontal": True,
            "official_split": "",
            "positive": among(unique, codes),
            "rle": pd.Series([codes.get(name, []) for name in unique], dtype=object),
            "rows": pd.Series([rows[name] for name in unique], dtype=object),
        }
    )


def decode_rle(text: str, shape: tuple[int, int]) -> np.ndarray:
    """The mask of a run-length code: `gap length gap length ...`, column by column, each gap from the last run's end.

    Args:
        text: the code; "-1" or blank is the empty mask.
        shape: (height, width).

    Returns:
        (height, width) bool.

    Raises:
        InputError: not whole numbers, an odd count of them, or a run beyond the last pixel.
    """
    height, width = shape
    flat = np.zeros(height * width, bool)
    if text.strip() not in _EMPTY:
        runs = _runs(text, shape)
        inside = np.tile([False, True], len(runs) // 2)
        flat[: runs.sum()] = np.repeat(inside, runs)
    return flat.reshape(width, height).T


def _runs(text: str, shape: tuple[int, int], path: Path | None = None, line: int | None = None) -> np.ndarray:
    """The numbers of a code, checked: (2 n,) int64."""
    size = shape[0] * shape[1]
    try:
        runs = np.array(text.split(), np.int64)
        # each number first: a sum of huge ones could wrap around
        good = runs.size % 2 == 0 and runs.min() >= 0 and runs.max() <= size and runs.sum() <= size
    except (ValueError, OverflowError):
        good = False
    if not good:
        raise InputError(
            "malformed run-length code",
            file=path,
            row=None if line is None else f"line {line}",
            expected=f"pairs of whole numbers, gap and length, that end within {shape[0]} x {shape[1]} pixels",
            remedy=_REMEDY,
        )
    return runs
