"""Metrics of all runs -> the paper's Tables I-III, as CSV, Markdown and LaTeX, beside the paper's own values."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import read_json, write_text
from cmcgns.pipeline.paths import Paths

NUMERALS = {1: "I", 2: "II", 3: "III"}
METHODS = {
    "random": "Random Init",
    "imagenet": "ImageNet Init",
    "moco": "MoCo",
    "moco_v2": "MoCoV2",
    "simclr": "SimCLR",
    "convirt": "ConVIRT",
    "clip": "CLIP",
    "gloria": "GLoRIA",
    "lovt": "LoVT",
    "prior": "PRIOR",
    "mgca": "MGCA",
    "cm_cgns": "CM-CGNS",
}
DATASETS = {
    "chexpert": "CheXpert",
    "rsna": "RSNA",
    "covidx": "COVIDx",
    "siim": "SIIM",
    "object_cxr": "Object-CXR",
}
COLUMNS = [
    "table",
    "dataset",
    "task",
    "metric",
    "method",
    "fraction",
    "n_runs",
    "mean",
    "std",
    "paper_mean",
    "paper_std",
]


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


def write_table(
    number: int, paths: Paths, *, pairs: list[str], methods: list[str], fractions: list[int], seeds: list[int]
) -> None:
    """Write `table<number>.csv`, `.md`, `.tex`, and the further metrics of the same runs as `table<number>.details.csv`."""
    runs = {
        (method, pair, fraction): _read_runs(paths, method, pair, fraction, seeds)
        for method in methods
        for pair in pairs
        for fraction in fractions
    }
    cells = primary_cells(number, runs)
    write_text(paths.table(number, "csv"), to_csv(cells))
    write_text(paths.table(number, "details.csv"), to_csv(further_cells(number, runs)))
    write_text(paths.table(number, "md"), to_markdown(cells))
    write_text(paths.table(number, "tex"), to_latex(cells))


Runs = dict[tuple[str, str, int], list[dict[str, Any]]]


def primary_cells(number: int, runs: Runs) -> list[Cell]:
    """The paper's cells in the paper's order, ours beside it; a cell that was not run has `n_runs` 0."""
    keys = {name: key for key, name in METHODS.items()} | {name: key for key, name in DATASETS.items()}
    cells = []
    for row in paper_rows():
        if row["table"] != NUMERALS[number]:
            continue
        fraction = int(row["fraction"].rstrip("%"))
        pair = f"{row['task']}-{keys[row['dataset']]}"
        found = runs.get((keys[row["method"]], pair, fraction), [])
        paper = [None if row[k] in ("", "-") else float(row[k]) for k in ("mean", "std")]
        values = [run["primary"] for run in found]
        identity = (row["table"], row["dataset"], row["task"], row["metric"], row["method"], row["fraction"])
        cells.append(Cell(*identity, *summary(values), *paper))
    return cells


def further_cells(number: int, runs: Runs) -> list[Cell]:
    """The other metrics of the runs, such as the filtered mAP, the Dice of positives and the all-empty floor."""
    cells = []
    for (method, pair, fraction), found in runs.items():
        task, _, source = pair.partition("-")
        for name in dict.fromkeys(name for run in found for name in run["further"]):
            values = [run["further"].get(name) for run in found]
            identity = (NUMERALS[number], DATASETS[source], task, name, METHODS[method], f"{fraction}%")
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
    """One line a cell, two decimals, empty where there is no value."""
    lines = [",".join(COLUMNS)]
    for cell in cells:
        lines.append(
            ",".join("" if v is None else f"{v:.2f}" if isinstance(v, float) else str(v) for v in cell)
        )
    return "\n".join(lines) + "\n"


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
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


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
    """Header and rows of texts: ours, marked by rank within each column, for the methods in the paper's order."""
    columns = list(dict.fromkeys((c.dataset, c.metric, c.fraction) for c in cells))
    methods = list(dict.fromkeys(c.method for c in cells))
    at = {(c.method, c.dataset, c.fraction): c for c in cells}
    rows = [[method] for method in methods]
    for dataset, _, fraction in columns:
        ranks = _ranks([at[m, dataset, fraction].mean for m in methods])
        for row, method, rank in zip(rows, methods, ranks, strict=True):
            cell = at[method, dataset, fraction]
            row.append(missing if cell.mean is None else mark(_value(cell, plus_minus), rank))
    return ["Method", *(f"{d} {m} {f}" for d, m, f in columns)], rows


def _value(cell: Cell, plus_minus: str) -> str:
    return f"{cell.mean:.2f}" + ("" if cell.std is None else f" {plus_minus} {cell.std:.2f}")


def _ranks(values: list[float | None]) -> list[int | None]:
    """1 for the highest value, 2 for the second highest; equal values share a rank."""
    order = sorted({v for v in values if v is not None}, reverse=True)
    return [None if v is None else order.index(v) + 1 for v in values]


def _read_runs(paths: Paths, method: str, pair: str, fraction: int, seeds: list[int]) -> list[dict[str, Any]]:
    found = []
    for seed in seeds:
        path = Path(paths.cell(method, pair, fraction, seed)) / "metrics.json"
        if not path.exists():
            continue
        run = read_json(path)
        if run["primary"] is not None and not math.isfinite(run["primary"]):
            raise InputError("the metric is not a number", file=path, remedy="delete it and run again")
        found.append(run)
    return found
