"""Nested training subsets: one seeded order of the images; 1 %, 10 % and 100 % are its beginnings."""

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.randomness import hash_order


def rank_subset(
    split: pd.DataFrame, index: pd.DataFrame, task: str, seed: int, *, siim_subset_of: str = "balanced"
) -> pd.DataFrame:
    """Rank the training images of one task in a seeded order that does not depend on the order of rows.

    Args:
        split: a split table; only the training images of `task` are used.
        index: the source's index table; a column `positive` marks SIIM.
        siim_subset_of: `balanced` draws from all positives and as many negatives, chosen by hash, as the
            official code does (spec data.md 5c); `all` from all training images, as other sources always do.

    Returns:
        `task, image_id, rank`, sorted by rank: 0, 1, 2, ...
    """
    if siim_subset_of not in ("balanced", "all"):
        raise InputError(f"unknown siim_subset_of: {siim_subset_of!r}", expected="balanced or all")
    ids = split.loc[(split["task"] == task) & (split["split"] == "train"), "image_id"].to_numpy()
    if len(ids) == 0:
        raise InputError(f"no training image for task {task!r} in the split", remedy="make the split again")
    if siim_subset_of == "balanced" and "positive" in index:
        ids = _balance(ids, index, seed)
    ranks = hash_order(ids, seed, "subset", task)
    frame = pd.DataFrame({"task": task, "image_id": ids, "rank": ranks})
    return frame.sort_values("rank", ignore_index=True)


def take(ranks: pd.DataFrame, fraction: float) -> list[str]:
    """The images of a fraction, by rank: max(1, int(fraction * n)) of the n that may be drawn.

    Args:
        ranks: the ranks of one task.
        fraction: in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise InputError(
            f"{fraction} is no fraction of the training images", expected="a number above 0, at most 1"
        )
    if ranks["task"].nunique() != 1:
        raise ValueError("ranks of one task expected")
    number = max(1, int(fraction * len(ranks)))
    return ranks.sort_values("rank")["image_id"].head(number).tolist()


def _balance(ids: np.ndarray, index: pd.DataFrame, seed: int) -> np.ndarray:
    """All positive images and an equal number of negative ones (all, where there are fewer)."""
    positive = index.set_index("image_id")["positive"].loc[ids].to_numpy(dtype=bool)
    negatives = ids[~positive]
    chosen = hash_order(negatives, seed, "subset-negatives") < positive.sum()
    return np.concatenate([ids[positive], negatives[chosen]])
