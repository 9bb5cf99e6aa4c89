"""Which images belong to one patient: a table or the public RSNA-to-NIH map (data.md section 3a)."""

from pathlib import Path

import pandas as pd

from cmcgns.errors import InputError
from cmcgns.files import read_json
from cmcgns.sources import source
from cmcgns.sources.csvs import read_strings, refuse
from cmcgns.sources.folders import find_file

NIH_MAP = "pneumonia-challenge-dataset-mappings_2018.json"
_REMEDY = f"give a CSV with the columns image and group, or {NIH_MAP}"


def read_groups(path: Path) -> pd.Series:
    """Group ids (str) indexed by image id.

    Args:
        path: a CSV file with the columns `image, group`, or the public map as JSON, where the group of an RSNA exam is its
            NIH patient number: the first 8 digits of the NIH file name.

    Raises:
        InputError: a column is missing, or an image has two groups.
    """
    table = _read_nih_map(path) if path.suffix == ".json" else read_strings(path, ("image", "group"))
    table = table[["image", "group"]].astype(str).drop_duplicates()
    refuse(table["image"].duplicated(), path, "an image has two groups", "one group an image", _REMEDY)
    refuse((table == "").any(axis=1), path, "an image or a group is blank", "both filled", _REMEDY)
    return table.set_index("image")["group"]


def nih_map(raw: Path) -> Path | None:
    """The public map, where it lies beside the RSNA labels in the folder of downloads."""
    rsna = source("rsna")
    root = rsna.find(raw)
    return find_file(root, (NIH_MAP,)) if root else None


def resolve(images: pd.Series, groups: pd.Series, path: Path) -> pd.Series:
    """The group of every image id, indexed as `images`; an image without one is an `InputError` in file `path`."""
    found = images.map(groups)
    refuse(
        found.isna(),
        path,
        "the image is not in the map of groups",
        "a group for every image: half a map would let patients cross the splits unseen",
        "complete the map, or take it away to group by image",
    )
    return found.astype(str)


def _read_nih_map(path: Path) -> pd.DataFrame:
    entries = read_json(path)
    try:
        table = pd.DataFrame(
            {"image": [e["subset_img_id"] for e in entries], "nih": [e["img_id"] for e in entries]}, dtype=str
        )
    except (TypeError, KeyError):
        raise InputError(
            "not the RSNA-to-NIH map",
            file=path,
            expected="a list of entries with img_id and subset_img_id",
            remedy=_REMEDY,
        ) from None
    table.index += 1
    refuse(
        ~table["nih"].str.match(r"\d{8}_\d+"),
        path,
        "img_id is not an NIH file name (counting entries as lines)",
        "8 digits, an underscore and a number, such as 00001234_005.png",
        _REMEDY,
    )
    return table.assign(group=table["nih"].str[:8])
