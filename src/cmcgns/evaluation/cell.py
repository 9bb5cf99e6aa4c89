"""What the three tasks share: the images of one run, and writing its predictions and metrics.

A `run` is what their steps `finetune` are given alike: the files `store, store_table, index, split, ranks` (of the training
images under this seed) and `key` (of the ids in results), those to write, `predictions, metrics`, and the settings `arch, size, resize, precision, bootstrap,
threads`.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch

from cmcgns.errors import InputError
from cmcgns.files import sha256_file, write_json
from cmcgns.hidden_ids import hashed, read_key
from cmcgns.images.store import ImageStore
from cmcgns.parquet import read_parquet, write_parquet
from cmcgns.splits.subsets import take


def prepare(settings: dict[str, Any]) -> str:
    """Fix the number of CPU threads, on which last digits depend, and name the device."""
    torch.set_num_threads(settings["threads"])
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_images(run: dict[str, Any], task: str, fraction: int) -> tuple[pd.DataFrame, ImageStore]:
    """The images of a run, sorted by id: index columns, `split` (train: only the subset), and `row` in the store.

    Args:
        fraction: the head gets so many per cent of the training images, the first by rank.

    Raises:
        InputError: when a split has no image.
    """
    split = read_parquet(run["split"])
    ranks = read_parquet(run["ranks"])
    split, ranks = (table[table["task"] == task] for table in (split, ranks))
    chosen = set(take(ranks, fraction / 100))
    split = split[(split["split"] != "train") | split["image_id"].isin(chosen)]
    for name in ("train", "valid", "test"):
        if not (split["split"] == name).any():
            raise InputError(f"no image in split {name!r} of {task}", file=run["split"])
    index = read_parquet(run["index"]).drop(columns="group_id")
    # an image in two splits stays twice: that is what scheme `official` trains and tests on
    images = split.merge(index, on="image_id", validate="many_to_one").sort_values(
        ["image_id", "split"], ignore_index=True
    )
    store = ImageStore(run["store"], run["store_table"])
    images["row"] = store.rows(images["image_id"])
    return images, store


def positions(images: pd.DataFrame, split: str) -> np.ndarray:
    """(n,) int64, where in `images` a split's rows are."""
    return np.flatnonzero(images["split"] == split)


def write_run(
    run: dict[str, Any],
    images: pd.DataFrame,
    predicted: dict[str, Any],
    measured: dict[str, Any],
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Write `run["predictions"]` (the test images) and then `run["metrics"]`.

    Ids are hashed with the key of the profile: image names and patients of credentialed data do not belong into results.
    """
    test = images.iloc[positions(images, "test")]
    key = read_key(run["key"])
    ids = {"image": "image_id", "group": "group_id"}
    identity = {name: [hashed(value, key) for value in test[column]] for name, column in ids.items()}
    write_parquet(pd.DataFrame(identity | predicted), run["predictions"])
    counts = {f"n_{name}": len(positions(images, name)) for name in ("train", "valid", "test")}
    document = measured | counts | {"history": history, "split_sha256": sha256_file(run["split"])}
    write_json(run["metrics"], document)
    return {key: document[key] for key in ("metric", "primary", *counts)}
