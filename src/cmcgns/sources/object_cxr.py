"""Object-CXR (data.md section 6a): foreign-object outlines -> one row per image with its boxes."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.sources.csvs import among, read_strings, refuse
from cmcgns.sources.folders import find_folder, need_files, walk

TITLE = "Object-CXR"
WHERE = "Academic Torrents: object-CXR (train.csv, dev.csv, train.zip, dev.zip)"
FOLDERS = ("object-cxr", "object_cxr", "objectcxr", "object-cxr/object-cxr")
RECTANGLE, ELLIPSE, POLYGON = "0", "1", "2"
_SPLITS = ("train", "dev")
_FILES = ("train.csv", "dev.csv")
_NAMES = ("image_name", "image_path")
_REMEDY = f"use the file as published; get it from {WHERE}"

find = partial(find_folder, patterns=FOLDERS, holding=_FILES)
label_files = partial(need_files, names=_FILES, where=WHERE)
image_files = partial(walk, under=_SPLITS)


def read(root: Path, *, polygon_box: str = "tight") -> pd.DataFrame:
    """Index of both files; boxes are [x1, y1, x2, y2] in pixels of the original image, tight around each shape.

    Args:
        polygon_box: "tight", the only one: the official box around a polygon's polylabel point can leave the image.

    Raises:
        InputError: a shape of unknown type or with a wrong count of coordinates, an image listed twice.
    """
    if polygon_box != "tight":
        raise InputError(
            f"unknown polygon_box {polygon_box!r}", expected="tight", remedy="set sources.polygon_box: tight"
        )
    tables = [_read_split(path, split) for path, split in zip(label_files(root), _SPLITS, strict=True)]
    train, dev = tables
    in_both = among(dev["image_id"], train["image_id"])
    refuse(in_both, label_files(root)[1], "the image is in train.csv as well", "disjoint lists", _REMEDY)
    return pd.concat(tables, ignore_index=True)


def shape_box(shape: str) -> list[float]:
    """The tight box of one `TYPE x1 y1 x2 y2 ...`: 0 rectangle and 1 ellipse give corners, 2 polygon its vertices.

    Returns:
        [x1, y1, x2, y2], from 0 on. A shape without width or height is one pixel wide or high there: somebody
        marked that spot, and a detector takes the logarithm of a box's size.

    Raises:
        ValueError: the shape is malformed, or lies before the image's first row or column.
    """
    kind, *coordinates = shape.split()
    values = np.array(coordinates, float)
    count_fits = values.size == 4 if kind in (RECTANGLE, ELLIPSE) else kind == POLYGON and values.size >= 6
    if not count_fits or values.size % 2 or not np.isfinite(values).all():
        raise ValueError("malformed shape")
    points = values.reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    if (high < 0).any():
        raise ValueError("shape outside the image")
    low = low.clip(0)
    high = np.maximum(high, low + 1)
    return [*low.tolist(), *high.tolist()]


def _read_split(path: Path, split: str) -> pd.DataFrame:
    table = read_strings(path, ("annotation",))
    column = next((name for name in _NAMES if name in table.columns), None)
    if column is None:
        raise InputError(
            "the column of image names is missing",
            file=path,
            row="header",
            expected=" or ".join(_NAMES),
            remedy=_REMEDY,
        )
    image = table[column].str.rsplit("/", n=1).str[-1]
    refuse(image == "", path, "the image name is blank", "a file name", _REMEDY)
    refuse(image.duplicated(), path, "the image is listed twice", "one row an image", _REMEDY)
    shapes = [[s.strip() for s in text.split(";") if s.strip()] for text in table["annotation"]]
    boxes = []
    for line, pieces in zip(table.index, shapes, strict=True):
        try:
            boxes.append([shape_box(piece) for piece in pieces])
        except ValueError:
            raise InputError(
                "malformed annotation",
                file=path,
                row=f"line {line}",
                expected="objects joined by ;, each 0 or 1 with two corners or 2 with three or more vertices, in the image",
                remedy=_REMEDY,
            ) from None
    index = pd.DataFrame({"image_id": image, "group_id": image, "path": f"{split}/" + image})
    index = index.assign(view="", frontal=True, official_split=split, row=np.arange(len(table)))
    index["boxes"] = pd.Series(boxes, index=index.index, dtype=object)
    index["shapes"] = pd.Series(shapes, index=index.index, dtype=object)
    return index
