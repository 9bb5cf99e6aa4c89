"""Seeded draws of whole groups of images: a split is the beginning or the end of one order of the groups.

Everything follows from the ids and the seed, nothing from the order of rows; a bigger part holds a smaller.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.randomness import derive, hash_order


def group_order(units: np.ndarray, strata: np.ndarray | None, seed: int, key: str) -> np.ndarray:
    """A seeded order of groups in which every beginning and every end holds each stratum in proportion.

    Systematic sampling: within a stratum the groups, in hash order, lie one after the other on [0, 1], each
    as long as its share of images; the strata, each with a seeded offset, are then merged by that position.
    A group's stratum is the one most of its images are in.

    Args:
        units: (n,) the group of each image.
        strata: (n,) the stratum of each image, or None for a plain random order.

    Returns:
        (n,) int, the place of each image's group: 0 is first.
    """
    names, inverse, sizes = np.unique(units.astype(str), return_inverse=True, return_counts=True)
    hashed = hash_order(names, seed, "split", key)
    if strata is None:
        return hashed[inverse]
    table = pd.DataFrame({"stratum": _main_stratum(inverse, strata), "hashed": hashed, "size": sizes})
    table = table.sort_values("hashed")
    within = table.groupby("stratum")["size"]
    offset = table["stratum"].map(lambda name: derive(seed, "split-offset", key, name) / 2**63)
    table["position"] = (within.cumsum() - table["size"] * offset) / within.transform("sum")
    order = table.sort_values(["position", "hashed"]).index.to_numpy()
    places = np.empty(len(names), np.int64)
    places[order] = np.arange(len(names))
    return places[inverse]


def three_ways(units: np.ndarray, order: np.ndarray, shares: Sequence[float], key: str) -> np.ndarray:
    """Test from the start of the order, validation from its end, training between; (n,) names of splits.

    Two tasks with 70/15/15 and 60/20/20 of the same order are thus nested: no test image of the first is a
    training image of the second. Sizes are rounded as scikit-learn does twice, which gives the paper's; a
    group stays whole and goes where most of it belongs.
    """
    if len(shares) != 3 or min(shares) <= 0 or sum(map(_exact, shares)) != 1:
        raise InputError(
            f"{key}: {list(shares)} are not the shares of a split",
            expected="three numbers above 0 with the sum 1",
        )
    groups = _count_groups(units, 3, key)
    valid_share, test_share = _exact(shares[1]), _exact(shares[2])
    held = _part(len(units), valid_share + test_share)
    valid = _part(held, valid_share / (valid_share + test_share))
    first = _nearest(order, held - valid, most=groups - 2)
    last = _nearest(_reverse(order), valid, most=groups - 1 - first)
    return np.select([order < first, order >= groups - last], ["test", "valid"], "train").astype(object)


def hold_out(units: np.ndarray, order: np.ndarray, share: float, key: str) -> np.ndarray:
    """The end of the order with this share of the images, as whole groups; (n,) bool."""
    if not 0 < share < 1:
        raise InputError(
            f"{key}: {share} is not a share of the training images", expected="a number between 0 and 1"
        )
    groups = _count_groups(units, 2, key)
    return _reverse(order) < _nearest(_reverse(order), _part(len(units), _exact(share)), most=groups - 1)


def _main_stratum(groups: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(number of groups,) the most frequent stratum of each group; of equals the first by name."""
    counts = pd.DataFrame({"group": groups, "stratum": strata}).value_counts().rename("count").reset_index()
    counts = counts.sort_values(["group", "count", "stratum"], ascending=[True, False, True])
    return counts.drop_duplicates("group")["stratum"].to_numpy()


def _nearest(order: np.ndarray, number: int, most: int) -> int:
    """How many first groups come nearest to `number` images: with their middle before it; 1 to `most`."""
    sizes = np.bincount(order)
    middles = np.cumsum(sizes) - sizes / 2
    return int(np.clip((middles < number).sum(), 1, most))


def _reverse(order: np.ndarray) -> np.ndarray:
    return order.max() - order


def _count_groups(units: np.ndarray, least: int, key: str) -> int:
    count = len(set(units))
    if count < least:
        raise InputError(
            f"{key}: {count} group(s) of usable images cannot fill {least} splits",
            expected=f"{least} patients (images, where patients are unknown) or more",
            remedy="check the index and the quarantine table",
        )
    return count


def _exact(share: float) -> Fraction:
    """0.15 as 3/20: so that 0.15 + 0.15 of 26,684 rounds as on paper."""
    return Fraction(str(share))


def _part(total: int, share: Fraction) -> int:
    return math.ceil(total * share)
