"""The report: one self-contained HTML page with the tables, the learning curves and what differs from the paper."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import jinja2
import pandas as pd

from cmcgns.files import write_text
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.tables import TITLES, Cell, read_csv


def write_page(paths: Paths, *, tables: list[str], others: list[str], phases: list[list[str]]) -> None:
    """Write `report/index.html` from the tables and the histories of the pre-training phases.

    Args:
        tables: names of the tables whose cells are runs, in the paper's form.
        others: names of the other tables, shown as they are.
        phases: (arm, phase, folder) of every pre-training of the profile; arms may share a folder.
    """
    found = []
    for name in tables:
        cells = read_csv(Path(paths.table(name, "csv")))
        further = read_csv(Path(paths.table(name, "details.csv")))
        text = Path(paths.table(name, "md")).read_text(encoding="utf-8")
        notes = [line for line in text.splitlines() if line.startswith("Accepted: ")]
        found.append({"title": TITLES[name], "cells": cells, "further": further, "notes": notes})
    plain = []
    for name in others:
        header, *rows = csv.reader(Path(paths.table(name, "csv")).read_text(encoding="utf-8").splitlines())
        used = [i for i in range(len(header)) if any(row[i] for row in rows)]
        plain.append(
            {
                "title": TITLES[name],
                "header": [header[i] for i in used],
                "rows": [[row[i] for i in used] for row in rows],
            }
        )
    folders: dict[str, str] = {}
    for arm, phase, folder in phases:
        folders.setdefault(folder, f"{arm}, {phase}")
    curves = [
        {"title": title, "image": _curve(Path(folder) / "history.csv")} for folder, title in folders.items()
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cmcgns.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        profile=paths.profile, tables=found, others=plain, curves=curves, value=_value, verdict=verdict
    )
    write_text(paths.report, page)


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


def _value(mean: float | None, std: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")


def _curve(history: Path) -> str:
    """The total loss by epoch, as the data of an SVG image."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    table = pd.read_csv(history)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    for name in ("train_loss", "valid_loss"):
        axes.plot(table["epoch"], table[name], marker="o", label=name.replace("_", " "))
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "cmcgns"}):  # the same picture, the same bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return base64.b64encode(buffer.getvalue()).decode()
