"""Every method against a reference, cell by cell, with intervals and corrected p-values: `comparisons.csv` and `.md`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.evaluation.statistics import compare, draw_weights, holm, resampled_metric
from cmcgns.files import write_text
from cmcgns.parquet import read_parquet
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.tables import DATASETS, NUMERALS, Group, arm_title

RESAMPLES = {
    "detection": 200
}  # of the others' 1000: each ranks all detections anew, and 200 know the error to 5 %
NOTE = (
    "Difference: method minus reference, points of the metric, mean over seeds; 95 % interval and p from resampled "
    "patients and the spread of seeds, paired; p (Holm) over all comparisons of a table."
)


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
    n_test_groups: int
    n_seeds: int


def write_comparisons(
    paths: Paths,
    *,
    tables: Mapping[str, Iterable[Group]],
    seeds: list[int],
    reference: str = "cm_cgns",
    resamples: int = 1000,
) -> None:
    """Write `comparisons.csv` and `comparisons.md` of all cells that the reference has in common with others.

    Args:
        tables: for each table the (arm, pair, fraction) of its cells; p-values are corrected within a table.
        seeds: those are compared that both arms have finished.
        resamples: of the test set's patients.
    """
    rows = [
        row
        for name, groups in tables.items()
        for row in compare_table(name, paths, groups, seeds, reference, resamples)
    ]
    if not rows:
        raise InputError("no two methods have a finished run in common", remedy="run `cmcgns reproduce`")
    write_text(paths.table("comparisons", "csv"), to_csv(rows))
    write_text(paths.table("comparisons", "md"), to_markdown(rows))


def compare_table(
    name: str, paths: Paths, groups: Iterable[Group], seeds: list[int], reference: str, resamples: int
) -> list[Row]:
    """A row for each cell of the table whose arm is not the reference and has a seed in common with it."""
    cells: dict[tuple[str, int], list[str]] = {}
    for arm, pair, fraction in groups:
        cells.setdefault((pair, fraction), []).append(arm)
    rows = []
    for (pair, fraction), arms in cells.items():
        task, _, source = pair.partition("-")
        draws = min(resamples, RESAMPLES.get(task, resamples))
        values, count = cell_values(paths, pair, fraction, [*dict.fromkeys([reference, *arms])], seeds, draws)
        for arm in arms:
            shared = sorted(values[arm].keys() & values[reference].keys())
            if arm == reference or not shared:
                continue
            first, second = (np.stack([values[key][seed] for seed in shared]) for key in (arm, reference))
            found = compare(first, second, count)
            points = [None if x is None else 100 * x for x in (found.difference, found.low, found.high)]
            titles = (arm_title(arm), arm_title(reference))
            rows.append(
                Row(
                    NUMERALS[name] or name,
                    DATASETS[source],
                    f"{fraction}%",
                    *titles,
                    *points,
                    found.p,
                    None,
                    *found[4:],
                )
            )
    adjusted = holm([row.p for row in rows])
    return [row._replace(p_holm=p) for row, p in zip(rows, adjusted, strict=True)]


def cell_values(
    paths: Paths, pair: str, fraction: int, arms: list[str], seeds: list[int], resamples: int
) -> tuple[dict[str, dict[int, np.ndarray]], int]:
    """By arm and seed the `resampled_metric` of every finished run, and the number of patients in the test set.

    Raises:
        InputError: when two runs were tested on different images.
    """
    values: dict[str, dict[int, np.ndarray]] = {arm: {} for arm in arms}
    test: pd.DataFrame | None = None
    weights = np.empty((0, 0))
    for arm in arms:
        for seed in seeds:
            folder = Path(paths.cell(arm, pair, fraction, seed))
            if not (folder / "metrics.json").exists():
                continue
            file = folder / "predictions.parquet"
            predictions = read_parquet(file)
            if test is None:
                test = predictions[["image", "group"]]
                weights = draw_weights(test["group"], resamples)
            elif not test.equals(predictions[["image", "group"]]):
                raise InputError(
                    "tested on other images than the runs before", file=file, remedy="run it again"
                )
            values[arm][seed] = resampled_metric(predictions, weights)
    return values, 0 if test is None else test["group"].nunique()


def to_csv(rows: list[Row]) -> str:
    """One line a comparison: points with two decimals, p-values with three digits, empty where there is no value."""
    lines = [",".join(Row._fields)]
    lines += [",".join(_text(name, value) for name, value in row._asdict().items()) for row in rows]
    return "\n".join(lines) + "\n"


def to_markdown(rows: list[Row]) -> str:
    """The same as a table of text; corrected p-values below 0.05 are bold."""
    header = [
        "Table",
        "Data set",
        "Labels",
        "Method",
        "Against",
        "Difference",
        "p",
        "p (Holm)",
        "Patients",
        "Seeds",
    ]
    lines = [NOTE, "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        text = {name: _text(name, value) for name, value in row._asdict().items()}
        interval = f" [{text['low']}, {text['high']}]" if row.low is not None else ""
        bold = "**" if row.p_holm is not None and row.p_holm < 0.05 else ""
        cells = [
            row.table, row.dataset, row.fraction, row.method, row.reference, text["difference"] + interval, text["p"],
            f"{bold}{text['p_holm']}{bold}", text["n_test_groups"], text["n_seeds"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _text(name: str, value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if name.startswith("p") else f"{value:.2f}"
    return "" if value is None else str(value)
