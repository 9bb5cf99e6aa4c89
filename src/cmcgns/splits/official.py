"""Scheme `official`: the released code's splits replayed from the index tables, flaws included.

Which rows go where follows from the data specification, 2b to 6b, and method.md 8.2. The released code draws with
scikit-learn's `train_test_split(random_state=0)` and pandas' `sample(random_state=0)`, both of which are a
permutation of row numbers by `RandomState(0)`; the order of rows is that of the label files (`row`, `rows` of the
index). So an image may be in two splits (CheXpert) or three (SIIM), and patients are not looked at. The seed of
other schemes has no part in it. Training fractions are our nested ranks, not the released code's draws.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cmcgns.sources.vocabulary import CHEXPERT_LABELS, COMPETITION

# train.csv of CheXpert; 200 images a class and 5,000 validation rows are shares of it where a table is too small
_CHEXPERT_ROWS, _PER_CLASS = 223_414, 200


def replay(name: str, index: pd.DataFrame, task: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """The released split of all rows of a source, CheXpert's laterals included.

    Args:
        name: the source.
        index: its index table, in any order of rows. Rows that the index lacks (missing files) count as rows of the
            label file up to the last one that is there; RSNA's, which the released code sorts, do not.
        task: one of the source's tasks.
        options: `schemes.DEFAULTS[name]`, maybe changed; the shares of `paper` have no part in it.

    Returns:
        `image_id, group_id, split`, an image as often as the released code has it; of siim also `parts`, a list of
        the numbers in `rle` of the masks that this split has (None: an image without masks).
    """
    frame = _REPLAYS[name](index, task, options)
    columns = ["image_id", "group_id", "split", *(["parts"] if "parts" in frame else [])]
    return frame.loc[frame["split"] != "", columns].reset_index(drop=True)


def train_test_split(
    n: int, *, test_size: float | None = None, train_size: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The positions that scikit-learn's function of this name returns with `random_state=0`: train, test.

    One of both sizes is given, as a share of n: a test part is rounded up, a training part down, the other is the
    rest.
    """
    if (test_size is None) == (train_size is None):
        raise ValueError("give test_size or train_size")
    test = n - math.floor(train_size * n) if test_size is None else math.ceil(test_size * n)
    order = np.random.RandomState(0).permutation(n)
    return order[test:], order[:test]


def sample(n: int, number: int) -> np.ndarray:
    """The positions that pandas' `sample(n=number, random_state=0)` takes of n rows, in its order."""
    return np.random.RandomState(0).permutation(n)[:number]


def alone(frame: pd.DataFrame, finding: str) -> pd.Series:
    """Which CheXpert rows have this competition label and no other finding; blank is 0, so any -1 excludes."""
    labels = frame[list(CHEXPERT_LABELS[1:])].fillna(0)  # the first is "No Finding"
    return (labels[finding] == 1) & (labels.drop(columns=finding) == 0).all(axis=1)


def chexpert_positions(index: pd.DataFrame, valid_images: float) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of train.csv without the 5x200 set, in the file's order, and the drawn positions among them.

    The validation part is the rows at these positions; the training part lacks the rows whose *row number in the
    file* is among them: the released code takes one for the other.
    """
    rows = index[index["official_split"] == "train"].sort_values("row").set_index("row", drop=False)
    pools = [rows.index[rows["frontal"] & alone(rows, finding)] for finding in COMPETITION]
    per_class = _PER_CLASS
    if min(map(len, pools)) < _PER_CLASS:
        per_class = math.ceil(_PER_CLASS * len(rows) / _CHEXPERT_ROWS)
    shown = [pool[sample(len(pool), per_class)] for pool in pools]
    rest = rows.drop(np.concatenate(shown))
    number = int(valid_images) if valid_images >= 1 else max(1, round(valid_images * len(rest)))
    if number >= len(rest):
        number = max(1, round(len(rest) * number / _CHEXPERT_ROWS))
    return rest, sample(len(rest), number)


def _chexpert(index: pd.DataFrame, task: str, options: Mapping[str, Any]) -> pd.DataFrame:
    rest, positions = chexpert_positions(index, options["valid_images"])
    parts = {
        "train": rest[~rest.index.isin(positions)],
        "valid": rest.iloc[positions],
        "test": index[(index["official_split"] == "valid") & index["frontal"]],
    }
    return pd.concat([part.assign(split=split) for split, part in parts.items()])


def _mimic(index: pd.DataFrame, task: str, options: Mapping[str, Any]) -> pd.DataFrame:
    names = {"train": "train", "validate": "valid", "test": "valid"}
    if not options["merge_test_into_valid"]:
        names["test"] = "test"
    return index.assign(split=index["official_split"].map(names))


def _rsna(index: pd.DataFrame, task: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """By exam, sorted by name."""
    exams = index.sort_values("image_id")
    # 0.4 of the published 26,684 is the 10,674 of the released code
    return exams.assign(split=_three_ways(len(exams), 0.3 if task == "classification" else 0.4))


def _siim(index: pd.DataFrame, task: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """By row of the CSV file: a row takes one mask of its image along."""
    split = _three_ways(1 + max(map(max, index["rows"]), default=-1), 0.3)
    rows = index[["image_id", "group_id", "rle", "rows"]].explode("rows", ignore_index=True)
    rows["split"] = split[rows["rows"].to_numpy(int)]
    rows["parts"] = rows.groupby("image_id").cumcount()
    together = rows.groupby(["image_id", "group_id", "split"], as_index=False).agg(
        parts=("parts", list), masks=("rle", lambda codes: len(codes.iloc[0]))
    )
    together["parts"] = together["parts"].where(together["masks"] > 0, None)
    return together


def _covidx(index: pd.DataFrame, task: str, options: Mapping[str, Any]) -> pd.DataFrame:
    return _listed(index, "test", {"train_size": 0.8})


def _object_cxr(index: pd.DataFrame, task: str, options: Mapping[str, Any]) -> pd.DataFrame:
    return _listed(index, "dev", {"test_size": 0.1})


def _listed(index: pd.DataFrame, test: str, size: dict[str, float]) -> pd.DataFrame:
    """The publisher's test list, and a part of the training list's rows for validation."""
    rows = index[index["official_split"] == "train"]
    train, valid = train_test_split(1 + max(rows["row"], default=-1), **size)
    split = np.empty(len(train) + len(valid), object)
    split[train], split[valid] = "train", "valid"
    held = index[index["official_split"] == test]
    return pd.concat([rows.assign(split=split[rows["row"].to_numpy()]), held.assign(split="test")])


def _three_ways(n: int, held_out: float) -> np.ndarray:
    """(n,) split names: a held-out part, and of its two halves the first returned is the test part."""
    train, rest = train_test_split(n, test_size=held_out)
    test, valid = train_test_split(len(rest), test_size=0.5)
    split = np.empty(n, object)
    split[train], split[rest[test]], split[rest[valid]] = "train", "test", "valid"
    return split


_REPLAYS: dict[str, Callable[[pd.DataFrame, str, Mapping[str, Any]], pd.DataFrame]] = {
    "mimic_cxr": _mimic,
    "chexpert": _chexpert,
    "rsna": _rsna,
    "covidx": _covidx,
    "siim": _siim,
    "object_cxr": _object_cxr,
}
