"""Metrics of all runs -> the paper's Tables I-IV and the sensitivity study, as CSV, Markdown and LaTeX, beside the paper's own values."""

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import csv_text, markdown_text, read_json, write_text
from cmcgns.methods import METHODS
from cmcgns.reporting.runs import Group, keyed

TITLES = {
    "1": "Table I: linear classification",
    "2": "Table II: object detection",
    "3": "Table III: segmentation",
    "4": "Table IV: ablation",
    "sensitivity": "Sensitivity to the parameters",
    "retrieval": "Image-report retrieval",
    "zero_shot": "Zero-shot classification of CheXpert",
    "grounding": "Phrase grounding",
    "leakage": "What leakage costs",
    "compute": "Cost of the pre-training",
    "comparisons": "Every method against CM-CGNS and the best",
    "ranks": "Mean ranks",
    "claims": "The paper's claims",
}
NUMERALS = {"1": "I", "2": "II", "3": "III", "4": "IV", "sensitivity": ""}
ABLATION = {
    "cm_cgns-baseline": "Baseline",
    "cm_cgns-cgns": "Baseline+CM-CGNS",
    "cm_cgns-mir": "Baseline+CM-MIR",
    "cm_cgns": "Baseline+CM-CGNS+CM-MIR",
}
"""Table IV's names of the arms."""
DATASETS = {
    "chexpert": "CheXpert",
    "rsna": "RSNA",
    "covidx": "COVIDx",
    "siim": "SIIM",
    "object_cxr": "Object-CXR",
}
TASKS = {"I": "classification", "II": "detection", "III": "segmentation"}
METRICS = {
    "classification": "AUC",
    "classification-covidx": "ACC",
    "detection": "mAP",
    "segmentation": "Dice",
}


class Cell(NamedTuple):
    """One cell: values in per cent; None where there is no value."""

    table: str
    dataset: str
    task: str
    metric: str
    method: str
    fraction: str
    n_runs: int
    mean: float | None
    std: float | None
    paper_mean: float | None
    paper_std: float | None


Runs = dict[tuple[str, str, int], list[dict[str, Any]]]  # by arm, pair, fraction


def write_table(
    *,
    name: str,
    groups: Sequence[Group],
    seeds: list[int],
    metrics: list[Path],
    gate: Path | None = None,
    csv: Path,
    details: Path,
    md: Path,
    tex: Path,
) -> None:
    """Write a table three times, and the further metrics of the same runs as `details`.

    Args:
        name: a key of `NUMERALS`.
        groups: (arm, pair, fraction) of the cells that were run.
        metrics: groups x seeds, the `metrics.json` of the runs.
        gate: the audit's gate file; what was accepted there of these data sets is said below the table.
    """
    notes = accepted(gate, {pair.partition("-")[2] for _, pair, _ in groups}) if gate else []
    runs = read_runs(groups, seeds, metrics)
    cells = primary_cells(name, runs)
    write_text(csv, to_csv(cells))
    write_text(details, to_csv(further_cells(name, runs)))
    write_text(md, to_markdown(cells) + "".join(f"\n{note}\n" for note in notes))
    write_text(tex, to_latex(cells) + "".join(f"% {note}\n" for note in notes))


def accepted(gate: Path, sources: Iterable[str]) -> list[str]:
    """A sentence for each critical finding of the audit that somebody let stand in these sources (or in pre-training)."""
    wanted = {*sources, "mimic_cxr"}
    return [
        f"Accepted: {a['check']} in {DATASETS.get(a['source'], a['source'])}"
        f" ({', '.join(filter(None, [a['task'], ' > '.join(filter(None, a['between']))]))}: "
        f"{a['count']:,} of {a['total']:,} {a['unit']}), because {a['reason']}"
        for a in read_json(gate)["accepted"]
        if a["source"] in wanted
    ]


def arm_title(arm: str, table: str = "") -> str:
    """What a table calls an arm: the method's title, or the change of a variant; the ablation has names of its own."""
    if table == "4" and arm in ABLATION:
        return ABLATION[arm]
    return METHODS[arm].title if arm in METHODS else arm.partition("-")[2]


def metric_of(pair: str) -> str:
    """The metric of a task and data set."""
    return METRICS.get(pair, METRICS[pair.partition("-")[0]])


def primary_cells(name: str, runs: Runs) -> list[Cell]:
    """The paper's cells in the paper's order, ours beside them; a cell that was not run has `n_runs` 0.

    Runs that the paper has no cell for (a variant, a pair of ours in the ablation) come after them.
    """
    titles = ABLATION if name == "4" else {arm: method.title for arm, method in METHODS.items()}
    keys = {title: key for key, title in (titles | DATASETS).items()}
    left = dict(runs)
    cells = []
    for row in paper_rows():
        if not NUMERALS[name] or row["table"] != NUMERALS[name]:
            continue
        group = (
            keys[row["method"]],
            f"{row['task']}-{keys[row['dataset']]}",
            int(row["fraction"].rstrip("%")),
        )
        paper = [None if row[k] in ("", "-") else float(row[k]) for k in ("mean", "std")]
        values = [run["primary"] for run in left.pop(group, [])]
        identity = (row["table"], row["dataset"], row["task"], row["metric"], row["method"], row["fraction"])
        cells.append(Cell(*identity, *summary(values), *paper))
    for (arm, pair, fraction), found in left.items():
        task, _, source = pair.partition("-")
        identity = (
            NUMERALS[name],
            DATASETS[source],
            task,
            metric_of(pair),
            arm_title(arm, name),
            f"{fraction}%",
        )
        cells.append(Cell(*identity, *summary(run["primary"] for run in found), None, None))
    return cells


def further_cells(name: str, runs: Runs) -> list[Cell]:
    """The other metrics of the runs, such as the filtered mAP, the Dice of positives and the all-empty floor."""
    cells = []
    for (arm, pair, fraction), found in runs.items():
        task, _, source = pair.partition("-")
        for metric in dict.fromkeys(metric for run in found for metric in run["further"]):
            values = [run["further"].get(metric) for run in found]
            identity = (NUMERALS[name], DATASETS[source], task, metric, arm_title(arm, name), f"{fraction}%")
            cells.append(Cell(*identity, *summary(values), None, None))
    return cells


def summary(values: Iterable[float | None]) -> tuple[int, float | None, float | None]:
    """Number, mean and standard deviation (n - 1) in per cent of fractions; undefined values do not count."""
    known = [100 * value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    std = statistics.stdev(known) if len(known) > 1 else None
    return len(known), mean, std


@cache
def paper_rows() -> list[dict[str, str]]:
    """The paper's numbers (arXiv 2506.11674, Tables I-IV)."""
    text = files("cmcgns.reporting").joinpath("paper_tables.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def to_csv(cells: list[Cell]) -> str:
    """One line a cell."""
    return csv_table(Cell._fields, cells)


def csv_table(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV, floats with two decimals, None as an empty text."""
    shown = (("" if v is None else f"{v:.2f}" if isinstance(v, float) else v for v in row) for row in rows)
    return csv_text([header, *shown])


def read_csv(path: Path) -> list[Cell]:
    """What `to_csv` wrote."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError:
        raise InputError("the table does not exist", file=path, remedy="run `cmcgns reproduce`") from None

    def number(text: str) -> float | None:
        return float(text) if text else None

    return [Cell(*row[:6], int(row[6]), *map(number, row[7:])) for row in rows[1:]]


def to_markdown(cells: list[Cell]) -> str:
    """A row a method, a column a data set and fraction; the best bold, the second best in italics."""
    marks = {1: "**{}**", 2: "*{}*"}
    header, rows = _grid(cells, lambda text, rank: marks.get(rank, "{}").format(text), "±", "–")
    return markdown_text([header, *rows])


def to_latex(cells: list[Cell]) -> str:
    r"""A `tabular` with booktabs' rules; the best in `\textbf`, the second best underlined."""
    marks = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
    header, rows = _grid(cells, lambda text, rank: marks.get(rank, "{}").format(text), r"$\pm$", "--")
    body = [" & ".join(row) + r" \\" for row in [header, *rows]]
    body = [line.replace("%", r"\%") for line in body]
    columns = "l" + "c" * (len(header) - 1)
    return "\n".join(
        [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}", ""]
    )  # fmt: skip


def _grid(
    cells: list[Cell], mark: Callable[[str, int | None], str], plus_minus: str, missing: str
) -> tuple[list[str], list[list[str]]]:
    """Header and rows of texts: ours, runs marked by rank within each column, for the methods in the paper's order."""
    columns = list(dict.fromkeys((c.dataset, c.metric, c.fraction) for c in cells))
    methods = list(dict.fromkeys(c.method for c in cells))
    at = {(c.method, c.dataset, c.metric, c.fraction): c for c in cells}
    rows = [[method] for method in methods]
    for column in columns:
        found = [at.get((method, *column)) for method in methods]
        ranks = _ranks([cell.mean if cell and cell.n_runs else None for cell in found])
        for row, cell, rank in zip(rows, found, ranks, strict=True):
            nothing = cell is None or cell.mean is None
            row.append(missing if nothing else mark(value_text(cell.mean, cell.std, plus_minus), rank))
    return ["Method", *(" ".join(filter(None, column)) for column in columns)], rows


def value_text(mean: float | None, std: float | None, plus_minus: str = "±") -> str:
    """A mean and its standard deviation, if there are any."""
    if mean is None:
        return "–"
    return f"{mean:.2f}" + ("" if std is None else f" {plus_minus} {std:.2f}")


def _ranks(values: list[float | None]) -> list[int | None]:
    """1 for the highest value, 2 for the second highest; equal values share a rank."""
    order = sorted({v for v in values if v is not None}, reverse=True)
    return [None if v is None else order.index(v) + 1 for v in values]


def read_runs(groups: Iterable[Group], seeds: Sequence[int], files: Sequence[Path]) -> Runs:
    """The `metrics.json` of all seeds of each group, given as `files`: groups x seeds.

    Raises:
        InputError: the primary metric of a run is neither undefined (None) nor a finite number.
    """
    runs: Runs = {}
    for (*group, _), file in keyed(groups, seeds, files).items():
        run = read_json(file)
        if run["primary"] is not None and not math.isfinite(run["primary"]):
            raise InputError("the metric is not a number", file=file, remedy="delete it and run again")
        runs.setdefault(tuple(group), []).append(run)
    return runs
