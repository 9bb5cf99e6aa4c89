"""Which file of a list is which run: a rule lists the files of its groups and seeds in one order, and a step reads them in the same."""

from collections.abc import Iterable, Sequence
from pathlib import Path

Group = Sequence[str | int]  # arm, pair, fraction
Key = tuple[str, str, int, int]  # arm, pair, fraction, seed


def run_keys(groups: Iterable[Group], seeds: Sequence[int]) -> list[Key]:
    """The runs of groups, each group once: all seeds of the first, then of the next."""
    return [(*group, seed) for group in dict.fromkeys(map(tuple, groups)) for seed in seeds]


def keyed(groups: Iterable[Group], seeds: Sequence[int], files: Sequence[Path]) -> dict[Key, Path]:
    """The files of `run_keys(groups, seeds)` by their keys; as many files as keys, or it raises ValueError."""
    return dict(zip(run_keys(groups, seeds), files, strict=True))
