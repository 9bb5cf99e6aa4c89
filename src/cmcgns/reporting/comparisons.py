"""Every method against a reference and against the best, cell by cell, with intervals and corrected p-values.

Also what a cell can tell apart at all.
"""

from collections.abc import Mapping, Sequence
from math import comb, isnan
from pathlib import Path
from statistics import fmean

import numpy as np

from cmcgns.errors import InputError
from cmcgns.evaluation.statistics import compare, draw_weights, holm, resampled_metric
from cmcgns.files import csv_text, markdown_text, write_text
from cmcgns.parquet import read_parquet
from cmcgns.reporting.resolution import Row, resolution
from cmcgns.reporting.runs import Group, Key, keyed
from cmcgns.reporting.tables import DATASETS, NUMERALS, arm_title

RESAMPLES = {
    "detection": 200
}  # of the others' 1000: each ranks all detections anew, and 200 know the error to 5 %
NOTE = (
    "Difference: method minus reference, points of the metric, mean over seeds; 95 % interval and p from resampled "
    "patients and the spread of seeds, paired. p (Holm): with {reference}, over all such comparisons of a table; with "
    "another reference, which is the best of its cell, over all pairs without {reference}, because the best was "
    "chosen after seeing them. Resolvable: the true difference that such a comparison would find in 80 % of studies "
    "at 5 %, before any correction."
)


def write_comparisons(
    *,
    tables: Mapping[str, Sequence[Group]],
    seeds: list[int],
    predictions: list[Path],
    csv: Path,
    md: Path,
    reference: str = "cm_cgns",
    resamples: int = 1000,
) -> None:
    """Write the comparisons of all cells twice.

    Args:
        tables: for each table the (arm, pair, fraction) of its cells; p-values are corrected within a table.
        predictions: groups of all tables x seeds, each run once, the `predictions.parquet` of the runs.
        reference: the arm that all others are compared with.
        resamples: of the test set's patients.

    Raises:
        InputError: no cell has two methods, or runs of a cell were tested on different images.
    """
    files = keyed([group for groups in tables.values() for group in groups], seeds, predictions)
    rows = [
        row
        for name, groups in tables.items()
        for row in compare_table(name, groups, seeds, files, reference, resamples)
    ]
    if not rows:
        raise InputError("no two methods have a run in common", remedy="add a method to params.yaml")
    write_text(csv, to_csv(rows))
    write_text(md, to_markdown(rows, arm_title(reference)))


def compare_table(
    name: str,
    groups: Sequence[Group],
    seeds: list[int],
    files: Mapping[Key, Path],
    reference: str,
    resamples: int,
) -> list[Row]:
    """A row for each of the table's `pairs_of_cell`. The reference may be of another table, if it is in `files`."""
    cells: dict[tuple[str, int], list[str]] = {}
    for arm, pair, fraction in groups:
        cells.setdefault((pair, fraction), []).append(arm)
    rows, unplanned = [], 0
    for (pair, fraction), arms in cells.items():
        task, _, source = pair.partition("-")
        draws = min(resamples, RESAMPLES.get(task, resamples))
        runs = {
            arm: [files[arm, pair, fraction, seed] for seed in seeds]
            for arm in dict.fromkeys([reference, *arms])
            if (arm, pair, fraction, seeds[0]) in files
        }
        values, count = cell_values(runs, draws)
        unplanned += comb(len(values.keys() - {reference}), 2)
        for arm, other in pairs_of_cell(values, reference):
            found = compare(values[arm], values[other], count)
            difference, low, high, resolvable = (
                None if x is None else 100 * x
                for x in (found.difference, found.low, found.high, found.resolvable)
            )
            cell = (NUMERALS[name] or name, DATASETS[source], f"{fraction}%")
            titles = (arm_title(arm), arm_title(other))
            rows.append(
                Row(*cell, *titles, difference, low, high, found.p, None, resolvable, count, len(seeds))
            )
    planned = [row for row in rows if row.reference == arm_title(reference)]
    chosen = [row for row in rows if row.reference != arm_title(reference)]
    # pairs that could have been chosen count as comparisons that found nothing, which keeps Holm's promise
    adjusted = [*holm([row.p for row in planned])]
    adjusted += holm([row.p for row in chosen] + [1.0] * (unplanned - len(chosen)))[: len(chosen)]
    corrected = dict(zip([*planned, *chosen], adjusted, strict=True))
    return [row._replace(p_holm=corrected[row]) for row in rows]


def pairs_of_cell(values: Mapping[str, np.ndarray], reference: str) -> list[tuple[str, str]]:
    """Each other arm with the reference, then, if another arm has the highest mean over its seeds, the rest with that one.

    So every arm meets the best other of the cell, and no pair comes twice.

    Args:
        values: arm -> (S, 1 + R) for each seed the metric, then its resamples.
    """
    measured = {arm: [run[0] for run in runs if not isnan(run[0])] for arm, runs in values.items()}
    means = {arm: fmean(found) for arm, found in measured.items() if found}
    best = max([reference, *means], key=lambda arm: means.get(arm, -1.0))
    others = [arm for arm in values if arm != reference]
    pairs = [(arm, reference) for arm in others if reference in values]
    return pairs + [(arm, best) for arm in others if arm != best and best != reference]


def cell_values(runs: Mapping[str, list[Path]], resamples: int) -> tuple[dict[str, np.ndarray], int]:
    """By arm the `resampled_metric` of its runs, one a row, and the number of patients in the test set.

    Args:
        runs: arm -> the `predictions.parquet` of its seeds; of one arm or more.

    Raises:
        InputError: when two runs were tested on different images.
    """
    test = read_parquet(next(iter(runs.values()))[0], ["image", "group"])
    weights = draw_weights(test["group"], resamples)

    def measure(file: Path) -> np.ndarray:
        predictions = read_parquet(file)
        if not test.equals(predictions[["image", "group"]]):
            raise InputError("tested on other images than the runs before", file=file, remedy="run it again")
        return resampled_metric(predictions, weights)

    values = {arm: np.stack([measure(file) for file in files]) for arm, files in runs.items()}
    return values, test["group"].nunique()


def to_csv(rows: list[Row]) -> str:
    """One line a comparison: points with two decimals, p-values with three digits, empty where there is no value."""
    return csv_text([Row._fields, *(_texts(row).values() for row in rows)])


def to_markdown(rows: list[Row], reference: str) -> str:
    """The same as a table of text, corrected p-values below 0.05 bold; below it what each cell can resolve."""
    lines = [
        ["Table", "Data set", "Labels", "Method", "Against", "Difference", "p", "p (Holm)", "Resolvable", "Patients", "Seeds"]
    ]  # fmt: skip
    for row in rows:
        text = _texts(row)
        interval = f" [{text['low']}, {text['high']}]" if row.low is not None else ""
        bold = "**" if row.p_holm is not None and row.p_holm < 0.05 else ""
        lines.append([
            row.table, row.dataset, row.fraction, row.method, row.reference, text["difference"] + interval, text["p"],
            f"{bold}{text['p_holm']}{bold}", text["resolvable"], text["n_test_groups"], text["n_seeds"],
        ])  # fmt: skip
    known = "".join(f"- {table}: {text}\n" for table, text in resolution(rows).items())
    below = f"Differences below these cannot be told apart here (median over the pairs of a cell):\n\n{known}"
    return f"{NOTE.format(reference=reference)}\n\n{markdown_text(lines)}\n{below}"


def _texts(row: Row) -> dict[str, str]:
    return {name: _text(name, value) for name, value in row._asdict().items()}


def _text(name: str, value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if name.startswith("p") else f"{value:.2f}"
    return "" if value is None else str(value)
