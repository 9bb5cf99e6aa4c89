"""What the three tasks share: the images of one run, and writing its predictions and metrics."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cmcgns.errors import InputError
from cmcgns.files import sha256_file, write_json
from cmcgns.images.store import ImageStore
from cmcgns.parquet import read_parquet, write_parquet
from cmcgns.splits.subsets import take


def prepare(settings: dict[str, Any]) -> str:
    """Fix the number of CPU threads, on which last digits depend, and name the device."""
    torch.set_num_threads(settings["threads"])
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_images(files: dict[str, Path], task: str, fraction: int) -> tuple[pd.DataFrame, ImageStore]:
    """The images of a run, sorted by id: index columns, `split` (train: only the subset), and `row` in the store.

    Raises:
        InputError: when a split has no image.
    """
    split = read_parquet(files["split"])
    ranks = read_parquet(files["ranks"])
    split, ranks = (table[table["task"] == task] for table in (split, ranks))
    chosen = set(take(ranks, fraction / 100))
    split = split[(split["split"] != "train") | split["image_id"].isin(chosen)]
    for name in ("train", "valid", "test"):
        if not (split["split"] == name).any():
            raise InputError(f"no image in split {name!r} of {task}", file=files["split"])
    index = read_parquet(files["index"]).drop(columns="group_id")
    # an image in two splits stays twice: that is what scheme `official` trains and tests on
    images = split.merge(index, on="image_id", validate="many_to_one").sort_values(
        ["image_id", "split"], ignore_index=True
    )
    store = ImageStore(files["store"], files["store_table"])
    images["row"] = store.rows(images["image_id"])
    return images, store


def positions(images: pd.DataFrame, split: str) -> np.ndarray:
    """(n,) int64, where in `images` a split's rows are."""
    return np.flatnonzero(images["split"] == split)


def write_run(
    out: Path,
    images: pd.DataFrame,
    predictions: dict[str, Any],
    metrics: dict[str, Any],
    history: list[dict[str, Any]],
    files: dict[str, Path],
) -> dict[str, Any]:
    """Write `predictions.parquet` (the test images) and then `metrics.json`, which marks the run as done.

    Ids are hashed with the source's index as the key: image names and patients of credentialed data do not belong into
    results, and without the data the hashes cannot be tried out.
    """
    test = images.iloc[positions(images, "test")]
    key = sha256_file(files["index"])
    ids = {"image": "image_id", "group": "group_id"}
    identity = {name: [hashed(value, key) for value in test[column]] for name, column in ids.items()}
    write_parquet(pd.DataFrame(identity | predictions), out / "predictions.parquet")
    counts = {f"n_{name}": len(positions(images, name)) for name in ("train", "valid", "test")}
    document = metrics | counts | {"history": history, "split_sha256": sha256_file(files["split"])}
    write_json(out / "metrics.json", document)
    return {key: document[key] for key in ("metric", "primary", *counts)}


def hashed(name: str, key: str) -> str:
    """16 hex digits in place of an id."""
    return hmac.new(key.encode(), name.encode(), hashlib.sha256).hexdigest()[:16]
