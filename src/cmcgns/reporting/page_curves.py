"""The report's plots: scores by share of labels, and the losses of pre-training and of the heads."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from markupsafe import Markup

from cmcgns.files import read_csv_rows, read_json
from cmcgns.methods import METHODS
from cmcgns.reporting.page_history import PRIMARY, cell_key
from cmcgns.reporting.page_plots import Line, Point, plot, thin
from cmcgns.reporting.tables import DATASETS, arm_title, metric_of, summary


def efficiency_plots(
    groups: Iterable[tuple[str, str, int]], runs: Mapping[str, Any], methods: Mapping[str, int]
) -> list[dict[str, Any]]:
    """For each pair the metric over the share of labels, a line a method, mean ± standard deviation over seeds.

    Args:
        runs: of `page_history.read_cells`.
        methods: arm -> style of its line.
    """
    pairs: dict[str, dict[str, list[int]]] = {}
    for arm, pair, fraction in groups:
        pairs.setdefault(pair, {}).setdefault(arm, []).append(fraction)
    plots = []
    for pair, arms in pairs.items():
        task, _, source = pair.partition("-")
        shares = sorted({fraction for fractions in arms.values() for fraction in fractions})
        lines = []
        for arm, fractions in arms.items():
            points = []
            for fraction in sorted(fractions):
                scores = [run["values"][PRIMARY] for run in runs[cell_key(arm, pair, fraction)]["seeds"]]
                _, mean, std = summary(None if score is None else score / 100 for score in scores)
                if mean is not None:
                    spread = (None, None) if std is None else (mean - std, mean + std)
                    points.append(Point(shares.index(fraction), mean, *spread))
            if points:
                lines.append(_line(arm, methods[arm], points))
        title = f"{DATASETS[source]}, {task}"
        svg = plot(
            lines,
            title=f"{title}: {metric_of(pair)} by share of labels; the table has the numbers",
            x_label="share of the labels",
            y_label=f"{metric_of(pair)}, %",
            x_ticks={i: f"{share} %" for i, share in enumerate(shares)},
        )
        plots.append({"title": title, "dataset": DATASETS[source], "svg": Markup(svg)})
    return plots


def head_plots(
    groups: Iterable[tuple[str, str, int]],
    runs: Mapping[str, Any],
    methods: Mapping[str, int],
) -> list[dict[str, Any]]:
    """For each pair and share of labels the validation loss of the heads: mean over seeds, and their range.

    Seeds stop at different epochs; a line ends with the first of them.
    """
    cells: dict[tuple[str, int], list[Line]] = {}
    for arm, pair, fraction in groups:
        histories = [
            read_json(run["file"]).get("history", []) for run in runs[cell_key(arm, pair, fraction)]["seeds"]
        ]
        losses = [
            [row["valid_loss"] for row in history if row.get("valid_loss") is not None]
            for history in histories
        ]
        points = [
            Point(epoch, fmean(values), min(values), max(values))
            for epoch, values in enumerate(zip(*filter(None, losses), strict=False))
        ]
        if points:
            cells.setdefault((pair, fraction), []).append(_line(arm, methods[arm], thin(points)))
    plots = []
    for (pair, fraction), lines in cells.items():
        task, _, source = pair.partition("-")
        title = f"{DATASETS[source]}, {task}, {fraction} % of the labels"
        svg = plot(
            lines,
            title=f"{title}: validation loss by validation",
            x_label="validation",
            y_label="loss",
            band=True,
        )
        plots.append({"title": title, "dataset": DATASETS[source], "svg": Markup(svg)})
    return plots


def loss_plot(history: Path, title: str) -> Markup:
    """The total loss of a pre-training phase by epoch."""
    rows = read_csv_rows(history)
    lines = [
        Line(
            name.replace("_", " "),
            style,
            thin([Point(float(row["epoch"]), float(row[name])) for row in rows if row.get(name)]),
        )
        for style, name in enumerate(("train_loss", "valid_loss"))
    ]
    text = f"{title}: training and validation loss by epoch"
    return Markup(plot(lines, title=text, x_label="epoch", y_label="loss"))


def _line(arm: str, style: int, points: list[Point]) -> Line:
    title = arm_title(arm)
    return Line(title, style, points, METHODS[arm.split("-")[0]].family)
