"""The report's tables as rows of cells that the template writes: the paper's in the paper's form, the others as they are."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.methods import METHODS
from cmcgns.reporting.page_history import PRIMARY, alignment_key, cell_key
from cmcgns.reporting.tables import ABLATION, DATASETS, TASKS, TITLES, Cell, arm_title, value_text

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
SOURCES = {title: source for source, title in DATASETS.items()}
HEADERS = {
    "p": "p",
    "p_holm": "p (Holm)",
    "low": "95 % from",
    "high": "95 % to",
    "n_test_groups": "Test patients",
    "n_test": "Test images",
    "n_seeds": "Seeds",
    "fraction": "Labels",
    "dataset": "Data set",
    "peak MiB": "Peak MiB",
}


class Known(NamedTuple):
    """What the numbers of a page can be explained by.

    Attributes:
        tables: name of a table -> its CSV file.
        arms: arm -> its `phases`, pairs of name and run, and more that is not read here.
        scheme: the profile's split scheme.
        runs: the runs and the scores of alignment, by the keys of `page_history`.
        numbers: the histories; a table adds its own, and a cell holds the place of its.
    """

    tables: Mapping[str, Path]
    arms: Mapping[str, Mapping[str, Any]]
    scheme: str
    runs: Mapping[str, Mapping[str, Any]]
    numbers: list[dict[str, Any]]

    def remember(self, **entry: Any) -> int:
        self.numbers.append({key: value for key, value in entry.items() if value})
        return len(self.numbers) - 1


def verdict(cell: Cell) -> str:
    """Where our mean lies against the paper's: within one or two of its standard deviations, or outside."""
    if cell.mean is None:
        return "not run"
    if cell.paper_mean is None or not cell.paper_std:
        return ""
    distance = (cell.mean - cell.paper_mean) / cell.paper_std
    if abs(distance) <= 2:
        return "within 1 std" if abs(distance) <= 1 else "within 2 std"
    return "above" if distance > 0 else "below"


def grid(name: str, cells: Sequence[Cell], known: Known, explain: Callable[[Cell], int]) -> dict[str, Any]:
    """A row a method, a column a data set, metric and share of labels; best and second best of the runs marked.

    Args:
        explain: cell with a value -> the place of its history.
    """
    columns = list(dict.fromkeys((c.dataset, c.metric, c.fraction) for c in cells))
    at = {(c.method, c.dataset, c.metric, c.fraction): c for c in cells}
    means: dict[tuple, set[float]] = {column: set() for column in columns}
    for c in cells:
        if c.n_runs and c.mean is not None:  # guessing has no runs
            means[c.dataset, c.metric, c.fraction].add(c.mean)
    rows = []
    for method in dict.fromkeys(c.method for c in cells):
        row = [{"text": method}]
        for column in columns:
            cell = at.get((method, *column))
            shown = _cell(cell, sorted(means[column], reverse=True), explain) if cell else {"text": ""}
            row.append(shown | {"dataset": column[0]})
        rows.append({"method": method, "family": family(method, known.arms), "cells": row})
    heads, groups = [{"label": "Method", "text": True}], []
    for dataset, metric, fraction in columns:
        full = " ".join(filter(None, (dataset, metric, fraction)))
        heads.append({"label": fraction or metric, "name": full, "dataset": dataset})
        label = f"{dataset}, {metric}" if dataset else ""
        if not groups or groups[-1]["label"] != label:
            groups.append({"label": label, "dataset": dataset, "span": 0})
        groups[-1]["span"] += 1
    return _table(name, heads, rows, groups if any(group["label"] for group in groups) else [])


def further(name: str, cells: Sequence[Cell], known: Known, explain: Callable[[Cell], int]) -> dict[str, Any]:
    """The other metrics of the same runs, a row each."""
    rows = [
        {
            "method": c.method,
            "family": family(c.method, known.arms),
            "dataset": c.dataset,
            "cells": [
                *({"text": text} for text in (c.method, c.dataset, c.fraction, c.metric)),
                _cell(c, [], explain),
            ],
        }
        for c in cells
    ]
    heads = [{"label": label, "text": True} for label in ("Method", "Data set", "Labels", "Metric")]
    return _table(f"{name}-further", [*heads, {"label": "Mean ± std, %"}], rows)


def plain(name: str, lines: Sequence[Sequence[str]], known: Known) -> dict[str, Any]:
    """Any other table: each number opens what is known of the runs that its row names.

    Args:
        lines: header and rows of the CSV file; columns without a value are left out.
    """
    header, *body = lines
    used = [i for i in range(len(header)) if any(row[i] for row in body)]
    is_text = {i: not all(NUMBER.fullmatch(row[i]) for row in body if row[i]) for i in used}
    rows = []
    for line in body:
        facts = dict(zip(header, line, strict=True))
        arms = [arm for arm in known.arms if arm_title(arm) in line]
        phases = [run for arm in arms for _, run in known.arms[arm]["phases"]]
        place = known.remember(
            title=f"{TITLES[name]}: {', '.join(line[i] for i in used if is_text[i])}",
            runs=[key for key in _keys(facts, arms, known.scheme) if key in known.runs],
            score=PRIMARY,
            phases=phases if name == "compute" else [],
            files=[str(known.tables[name])],
        )
        method = facts.get("method") or facts.get("arm", "")
        rows.append(
            {
                "method": method,
                "family": family(method, known.arms),
                "dataset": facts.get("dataset", ""),
                "cells": [_plain_cell(line[i], place) for i in used],
            }
        )
    heads = [
        {"label": HEADERS.get(header[i], header[i].replace("_", " ").capitalize()), "text": is_text[i]}
        for i in used
    ]
    return _table(name, heads, rows)


def explain_cell(name: str, cell: Cell, known: Known, score: str) -> int:
    """Keep the history of a cell of the paper's tables.

    Args:
        score: its metric among the values of a run.
    """
    pair, fraction = f"{cell.task}-{SOURCES[cell.dataset]}", int(cell.fraction.rstrip("%"))
    keys = [cell_key(arm, pair, fraction) for arm in known.arms if arm_title(arm, name) == cell.method]
    table = f"table{name}" if name.isdigit() else name
    return known.remember(
        title=f"{TITLES[name]}: {cell.method}, {cell.dataset}, {cell.fraction} of the labels",
        metric=cell.metric,
        value=value_text(cell.mean, cell.std),
        paper=value_text(cell.paper_mean, cell.paper_std) if cell.paper_mean is not None else "",
        verdict=verdict(cell),
        runs=[key for key in keys if key in known.runs],
        score=score,
        trace=f"{table} / {cell.dataset} / {cell.fraction} / {cell.method}",
    )


def explain_alignment(kind: str, cell: Cell, known: Known) -> int:
    """Keep the history of a score without a head; of the level of chance that is the table."""
    keys = [alignment_key(kind, arm) for arm in known.arms if arm_title(arm) == cell.method]
    runs = [key for key in keys if key in known.runs]
    return known.remember(
        title=f"{TITLES[kind]}: {cell.method}",
        metric=cell.metric,
        value=value_text(cell.mean, cell.std),
        runs=runs,
        score=cell.metric,
        files=[] if runs else [str(known.tables[kind])],
    )


def settings_table(differences: Sequence[Sequence[Any]], profile: str) -> dict[str, Any]:
    """(leaf of params.yaml, the paper's value, the profile's), a row each."""
    rows = [
        {"cells": [{"text": leaf}, *({"text": _setting_text(setting)} for setting in settings)]}
        for leaf, *settings in differences
    ]
    heads = [{"label": label, "text": True} for label in ("Setting", "Paper", f"Profile {profile}")]
    return _table("settings", heads, rows)


def read_lines(path: Path) -> list[list[str]]:
    """Header and rows of a CSV file."""
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def notes(path: Path) -> list[str]:
    """The sentences round a Markdown table."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("- ") for line in lines if line.strip() and not line.startswith("|")]


def count_verdicts(cells: Sequence[Cell]) -> str:
    """How many cells that the paper has, too, came to which verdict; nothing if it has none of them."""
    counts = Counter(verdict(cell) for cell in cells if cell.paper_mean is not None)
    order = ("within 1 std", "within 2 std", "above", "below", "not run")
    return ", ".join(f"{counts[word]} {word}" for word in order if counts[word])


def family(title: str, arms: Mapping[str, Any]) -> str:
    """The family of what a table calls `title`: a method or, of the profile's arms, a variant of one."""
    for arm in (*METHODS, *arms):
        if title in (arm_title(arm), ABLATION.get(arm)):
            return METHODS[arm.split("-")[0]].family
    return METHODS["cm_cgns"].family if title in ABLATION.values() else ""


def _cell(cell: Cell, order: Sequence[float], explain: Callable[[Cell], int]) -> dict[str, Any]:
    """What stands in a cell; `order` holds the means of its column, the best first."""
    shown: dict[str, Any] = {
        "text": value_text(cell.mean, cell.std),
        "verdict": verdict(cell),
        "paper": value_text(cell.paper_mean, cell.paper_std) if cell.paper_mean is not None else "",
    }
    if cell.mean is not None:
        shown |= {"number": explain(cell), "sort": cell.mean}
        if cell.n_runs and cell.mean in order[:2]:
            shown["rank"] = "best" if cell.mean == order[0] else "second"
    return shown


def _plain_cell(text: str, place: int) -> dict[str, Any]:
    return {"text": text, "number": place, "sort": float(text)} if NUMBER.fullmatch(text) else {"text": text}


def _keys(facts: Mapping[str, str], arms: Sequence[str], scheme: str) -> list[str]:
    """The runs that a row names by data set, share of labels, task (or table) and methods."""
    source, fraction = SOURCES.get(facts.get("dataset", "")), facts.get("fraction", "").rstrip("%")
    if not source or not fraction.isdigit():
        return []
    task = facts.get("task") or TASKS.get(facts.get("table", ""))
    tasks = [task] if task else [*TASKS.values()]
    under = facts.get("scheme", scheme)
    other = "" if under == scheme else under
    return [cell_key(arm, f"{task}-{source}", int(fraction), other) for arm in arms for task in tasks]


def _setting_text(setting: Any) -> str:
    if isinstance(setting, list):
        return ", ".join(map(_setting_text, setting)) or "none"
    if isinstance(setting, dict):
        return ", ".join(f"{key}: {_setting_text(item)}" for key, item in setting.items()) or "none"
    if setting is None or isinstance(setting, bool):
        return {None: "–", True: "true", False: "false"}[setting]
    return f"{setting:g}" if isinstance(setting, float) else str(setting)


def _table(name: str, heads: list[dict], rows: list[dict], groups: Sequence[dict] = ()) -> dict[str, Any]:
    datasets = {entry.get("dataset", "") for entry in (*rows, *heads)}
    return {
        "id": f"table{name}" if name[:1].isdigit() else name,
        "heads": heads,
        "groups": list(groups),
        "rows": rows,
        "datasets": sorted(datasets - {""}),
    }
