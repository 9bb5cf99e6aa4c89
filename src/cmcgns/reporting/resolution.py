"""What a comparison of two methods says, and what a cell's seeds and test patients can tell apart at all."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from cmcgns.files import read_csv_rows


class Row(NamedTuple):
    """A comparison; differences in per cent points, None where there is no value."""

    table: str
    dataset: str
    fraction: str
    method: str
    reference: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    resolvable: float | None
    n_test_groups: int
    n_seeds: int


def resolution(rows: Iterable[Row]) -> dict[str, str]:
    """Table -> for each of its cells the median of `resolvable` over the pairs, in words."""
    cells: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        cells[row.table, row.dataset, row.fraction].append(row)
    parts: dict[str, list[str]] = defaultdict(list)
    for (table, dataset, fraction), members in cells.items():
        known = [row.resolvable for row in members if row.resolvable is not None]
        size = f"{members[0].n_test_groups} patients, {max(row.n_seeds for row in members)} seeds"
        parts[table].append(f"{dataset} {fraction} {f'{median(known):.2f}' if known else 'unknown'} ({size})")
    return {table: "; ".join(found) for table, found in parts.items()}


def read_rows(file: Path) -> list[Row]:
    """The comparisons of a file that `write_comparisons` has written, with the digits it kept."""
    words, counts = Row._fields[:5], Row._fields[-2:]

    def value(name: str, text: str) -> str | int | float | None:
        return text if name in words else int(text) if name in counts else float(text) if text else None

    return [Row(*(value(name, line[name]) for name in Row._fields)) for line in read_csv_rows(file)]
