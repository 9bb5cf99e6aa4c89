"""Exact lists of splits, to hand on: which image is in which part, and which share of the labels it belongs to; no labels."""

from collections.abc import Mapping
from pathlib import Path

from cmcgns.files import atomic
from cmcgns.parquet import read_parquet

LIST_COLUMNS = ["task", "split", "image_id"]


def write_list(split: Path, ranks: Mapping[int, Path], out: Path) -> int:
    """Write a CSV `task, split, image_id, rank_seed<s>...`, sorted, a row an image and task; returns the number of rows.

    Args:
        split, ranks: tables of `splits.write`. The training images of a fraction f are those with the smallest ranks: the first
            f of them (`subsets.take`).
    """
    table = read_parquet(split)[LIST_COLUMNS]
    for seed, file in ranks.items():
        ranked = read_parquet(file).rename(columns={"rank": f"rank_seed{seed}"})
        ranked["split"] = "train"
        table = table.merge(ranked[[*LIST_COLUMNS, f"rank_seed{seed}"]], on=LIST_COLUMNS, how="left")
        table[f"rank_seed{seed}"] = table[f"rank_seed{seed}"].astype("Int64")
    with atomic(out) as temporary:
        table.sort_values(LIST_COLUMNS).to_csv(temporary, index=False)
    return len(table)
