"""Which image is for training, validation and test: `official` (as released), `paper` (by image), `audited` (by patient)."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.randomness import hash_order
from cmcgns.sources.vocabulary import COMPETITION
from cmcgns.splits.draws import group_order, hold_out, three_ways
from cmcgns.splits.official import alone, replay

SCHEMES = ("official", "paper", "audited")
TASKS: dict[str, tuple[str, ...]] = {
    "mimic_cxr": ("pretraining",),
    "chexpert": ("classification",),
    "rsna": ("classification", "detection", "segmentation"),
    "covidx": ("classification",),
    "siim": ("segmentation",),
    "object_cxr": ("detection",),
}
# Sizes are shares of train / valid / test, or of the training images (spec data.md 2b to 6b, section 9).
DEFAULTS: dict[str, dict[str, Any]] = {
    # in `official` and `paper` (method.md 8.2); `audited` always keeps the test part untouched
    "mimic_cxr": {"merge_test_into_valid": True},
    # a number of images, or a share when below 1; exclude_5x200 leaves out the patients of the 5x200 set
    "chexpert": {"valid_images": 5000, "exclude_5x200": False},
    "rsna": {
        "classification": [0.70, 0.15, 0.15],
        "detection": [0.60, 0.20, 0.20],
        "segmentation": [0.60, 0.20, 0.20],
    },
    "covidx": {"valid_fraction": 0.10},
    "siim": {"segmentation": [0.70, 0.15, 0.15]},
    "object_cxr": {"valid_fraction": 0.20},
}


def make_split(
    name: str,
    index: pd.DataFrame,
    task: str,
    scheme: str,
    *,
    seed: int = 0,
    usable: Collection[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Split the frontal images of a source for one task.

    Args:
        name: the source.
        index: its index table.
        task: one of `TASKS[name]`.
        scheme: one of `SCHEMES`. In `audited` no group crosses splits: a training image whose group is in an
            official test or validation list is left out, and the official list stays whole. `official` is
            drawn from all rows of the index before the usable ones are taken, as in the released code.
        usable: the images that may be used (good in the store, report kept); all when None.
        options: replaces values of `DEFAULTS[name]`.

    Returns:
        `task, image_id, group_id, split` (train / valid / test), sorted by image_id. Under `official` an image
        may have a row in more than one split, and siim has `parts` (see `official.replay`).

    Raises:
        InputError: an unknown name or option, impossible sizes, or too few groups to fill every split.
    """
    settings = check(name, task, scheme, options or {})
    frame = index[index["frontal"]]
    if usable is not None:
        frame = frame[frame["image_id"].isin(set(usable))]
    frame = frame.sort_values("image_id", ignore_index=True)
    if scheme == "official":
        rows = replay(name, index, task, settings)
        rows = rows[rows["image_id"].isin(frame["image_id"])].sort_values(["image_id", "split"])
        result = rows.assign(task=task)[["task", *rows.columns]]
    else:
        audited = scheme == "audited"
        split = _SPLITTERS[name](frame, task, audited, seed, settings)
        result = pd.DataFrame(
            {"task": task, "image_id": frame["image_id"], "group_id": frame["group_id"], "split": split}
        )
        if audited:
            result = _keep_groups_whole(result)
    result = result[result["split"] != ""].reset_index(drop=True)
    needed = ("train", "valid") if task == "pretraining" else ("train", "valid", "test")
    missing = sorted(set(needed) - set(result["split"].unique()), key=needed.index)
    if missing:
        raise InputError(
            f"{name}, {task}, {scheme}: no image for {' and '.join(missing)} among {len(frame)} usable ones",
            expected="one image or more in every split",
            remedy="check that the source's official lists and its images are complete",
        )
    return result


def check(name: str, task: str, scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options over the source's defaults, or an `InputError` that names what is unknown."""
    for value, known, what in (
        (name, TASKS, "source"),
        (task, TASKS.get(name, ()), f"task of {name}"),
        (scheme, SCHEMES, "scheme"),
        *((option, DEFAULTS.get(name, {}), f"option of the {name} split") for option in options),
    ):
        if value not in known:
            raise InputError(f"unknown {what}: {value!r}", expected=f"one of {', '.join(known)}")
    return DEFAULTS[name] | dict(options)


def draw_5x200(index: pd.DataFrame, seed: int = 0, per_class: int = 200) -> list[str]:
    """CheXpert 5x200: per competition label, frontal training images with this finding and no other.

    For t-SNE (spec data.md 2b). A blank counts as 0, so an uncertain label (-1) anywhere keeps an image out.

    Returns:
        Image ids, at most `per_class` a label.
    """
    frame = index[index["frontal"] & (index["official_split"] == "train")]
    chosen: list[str] = []
    for finding in COMPETITION:
        ids = frame.loc[alone(frame, finding), "image_id"].to_numpy()
        chosen += list(ids[hash_order(ids, seed, "5x200", finding) < per_class])
    return chosen


# ---- one splitter a source: (frame, task, audited, seed, options) -> (n,) split names, "" is left out ----


def _split_mimic(
    frame: pd.DataFrame, task: str, audited: bool, seed: int, options: dict[str, Any]
) -> np.ndarray:
    test = "valid" if options["merge_test_into_valid"] and not audited else "test"
    return _official(frame, {"train": "train", "validate": "valid", "test": test})


def _split_chexpert(
    frame: pd.DataFrame, task: str, audited: bool, seed: int, options: dict[str, Any]
) -> np.ndarray:
    """valid.csv is the test part; patients of train.csv, in hash order, become the validation part.

    `paper` hits the number of images exactly, so the last patient may be cut in two; `audited` takes whole
    patients until the number is reached.
    """
    split = _official(frame, {"train": "train", "valid": "test"})
    if options["exclude_5x200"]:
        shown = frame.loc[frame["image_id"].isin(draw_5x200(frame, seed)), "group_id"]
        split[(split == "train") & frame["group_id"].isin(shown)] = ""
    pool = np.flatnonzero(split == "train")
    wanted = options["valid_images"]
    number = int(wanted) if wanted >= 1 else max(1, round(wanted * len(pool)))
    if not 1 <= number < len(pool):
        raise InputError(
            f"chexpert: {number} validation images wanted, {len(pool)} frontal training images present",
            expected="fewer validation images than training images",
            remedy="lower chexpert_valid_images",
        )
    order = group_order(frame["group_id"].to_numpy()[pool], None, seed, "chexpert")
    by_patient = np.argsort(order, kind="stable")  # images of a patient stay in the order of their ids
    taken = by_patient[:number]
    if audited:
        taken = np.flatnonzero(order <= order[taken[-1]])
    split[pool[taken]] = "valid"
    return split


def _split_rsna(
    frame: pd.DataFrame, task: str, audited: bool, seed: int, options: dict[str, Any]
) -> np.ndarray:
    """By image and at random as in the paper; `audited` by patient, stratified on target x view.

    All tasks share one order, so what one task tests on is never in a smaller training part of another.
    """
    strata = (frame["target"].astype(str) + " " + frame["view"].astype(str)).to_numpy() if audited else None
    units = _units(frame, audited)
    return three_ways(units, group_order(units, strata, seed, "rsna"), options[task], f"rsna, {task}")


def _split_covidx(
    frame: pd.DataFrame, task: str, audited: bool, seed: int, options: dict[str, Any]
) -> np.ndarray:
    """The official test list; validation by image, in `audited` by patient and stratified on the class."""
    strata = frame["label"].astype(str) if audited else None
    return _official_test(frame, "test", "covidx", options, audited, seed, strata)


def _split_siim(
    frame: pd.DataFrame, task: str, audited: bool, seed: int, options: dict[str, Any]
) -> np.ndarray:
    """By image, `audited` by film (nobody tells SIIM's patients), stratified on positive, in both schemes."""
    units = _units(frame, audited)
    order = group_order(units, frame["positive"].astype(str).to_numpy(), seed, "siim")
    return three_ways(units, order, options[task], "siim")


def _split_object(
    frame: pd.DataFrame, task: str, audited: bool, seed: int, options: dict[str, Any]
) -> np.ndarray:
    """dev.csv is the test part; validation stratified on positive, in both schemes."""
    positive = frame["boxes"].map(len).gt(0).astype(str)
    return _official_test(frame, "dev", "object_cxr", options, audited, seed, positive)


_SPLITTERS: dict[str, Callable[[pd.DataFrame, str, bool, int, dict[str, Any]], np.ndarray]] = {
    "mimic_cxr": _split_mimic,
    "chexpert": _split_chexpert,
    "rsna": _split_rsna,
    "covidx": _split_covidx,
    "siim": _split_siim,
    "object_cxr": _split_object,
}


def _official(frame: pd.DataFrame, names: Mapping[str, str]) -> np.ndarray:
    return frame["official_split"].map(names).fillna("").to_numpy(dtype=object)


def _official_test(
    frame: pd.DataFrame,
    test: str,
    key: str,
    options: dict[str, Any],
    audited: bool,
    seed: int,
    strata: pd.Series | None,
) -> np.ndarray:
    """The publisher's test list as it is, and a share of the training images for validation."""
    split = _official(frame, {"train": "train", test: "test"})
    if audited:  # groups of the test list leave first, so that the share is one of what stays
        split[(split == "train") & frame["group_id"].isin(frame.loc[split == "test", "group_id"])] = ""
    pool = np.flatnonzero(split == "train")
    units = _units(frame, audited)[pool]
    order = group_order(units, None if strata is None else strata.to_numpy()[pool], seed, key)
    split[pool[hold_out(units, order, options["valid_fraction"], key)]] = "valid"
    return split


def _units(frame: pd.DataFrame, audited: bool) -> np.ndarray:
    """What is drawn as a whole: groups in `audited`, single images in `paper`."""
    return frame["group_id" if audited else "image_id"].to_numpy()


def _keep_groups_whole(result: pd.DataFrame) -> pd.DataFrame:
    """Leave out what shares a group with test, then with valid; a crossing after that is a fault of ours."""
    for part, others in (("test", ("train", "valid")), ("valid", ("train",))):
        held = result.loc[result["split"] == part, "group_id"]
        result = result[~(result["split"].isin(others) & result["group_id"].isin(held))]
    used = result[result["split"] != ""]
    if used.groupby("group_id")["split"].nunique().gt(1).any():
        raise RuntimeError("a group crosses splits")
    return result
