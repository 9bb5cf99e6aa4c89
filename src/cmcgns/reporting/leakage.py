"""What leakage costs: the same heads under every split scheme."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmcgns.evaluation.statistics import compare, draw_weights, resampled_metric
from cmcgns.files import markdown_text, read_json, write_text
from cmcgns.parquet import read_parquet
from cmcgns.reporting.comparisons import RESAMPLES
from cmcgns.reporting.runs import Group
from cmcgns.reporting.tables import DATASETS, arm_title, csv_table, metric_of

NOTE = (
    "Metric in per cent, mean over seeds; 95 % interval from resampled patients and the spread of seeds. Difference: "
    "against scheme audited on its own test images, which are others; its interval takes both errors as independent. "
    "Leak: test images of which the image or its patient is also in training or validation, and all test images."
)
LEAKS = ("A1-image-overlap", "A2-group-overlap", "A3-mask-cut", "A13-near-duplicate")


class Row(NamedTuple):
    """One cell under one scheme; None where there is no value."""

    dataset: str
    task: str
    metric: str
    method: str
    fraction: str
    scheme: str
    n_seeds: int
    n_test: int
    mean: float | None
    low: float | None
    high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    leaks: str


def write_leakage(
    *,
    cells: Sequence[Group],
    schemes: list[str],
    seeds: list[int],
    audit: Path,
    predictions: list[Path],
    csv: Path,
    md: Path,
    resamples: int = 1000,
) -> None:
    """Write the table twice.

    Args:
        cells: (arm, pair, fraction).
        schemes: those compared; `audited` is the reference.
        audit: the findings of all schemes.
        predictions: cells x schemes x seeds, the `predictions.parquet` of the runs.
        resamples: of the test set's patients.
    """
    findings = read_json(audit)["findings"]
    files = dict(zip(product(map(tuple, cells), schemes, seeds), predictions, strict=True))
    rows: list[Row] = []
    for arm, pair, fraction in cells:
        task, _, source = pair.partition("-")
        found = {}
        for scheme in schemes:
            runs = [files[(arm, pair, fraction), scheme, seed] for seed in seeds]
            found[scheme] = _estimate(runs, RESAMPLES.get(task, resamples))
        for scheme, (mean, low, high, images) in found.items():
            rows.append(
                Row(
                    DATASETS[source],
                    task,
                    metric_of(pair),
                    arm_title(arm),
                    f"{fraction}%",
                    scheme,
                    len(seeds),
                    images,
                    *(mean, low, high),
                    *_difference(found[scheme], found["audited"] if scheme != "audited" else None),
                    leaks(findings, source, task, scheme),
                )
            )
    write_text(csv, csv_table(Row._fields, rows))
    write_text(md, to_markdown(rows))


def leaks(findings: Iterable[Mapping[str, Any]], source: str, task: str, scheme: str) -> str:
    """The critical leaks into the test part that the audit counted, such as `A2-group-overlap train 45 of 60`."""
    return "; ".join(
        f"{f['check']} {f['split_a'] or 'test'} {f['count']} of {f['total']}"
        for f in findings
        if f["severity"] == "critical" and f["check"] in LEAKS and f["unit"] == "images"
        and (f["source"], f["scheme"], f["split_b"]) == (source, scheme, "test") and f["task"] in (task, "")
    )  # fmt: skip


def to_markdown(rows: list[Row]) -> str:
    """A row a scheme; the note below."""
    header = [
        "Data set",
        "Metric",
        "Method",
        "Labels",
        "Scheme",
        "Test images",
        "Value",
        "Against audited",
        "Leak",
    ]
    lines = [header]
    for row in rows:
        value = _interval(row.mean, row.low, row.high, "")
        against = _interval(row.difference, row.difference_low, row.difference_high, "+")
        cells = [row.dataset, row.metric, row.method, row.fraction, row.scheme, str(row.n_test)]
        lines.append([*cells, value, against, row.leaks or "none found"])
    return f"{markdown_text(lines)}\n{NOTE}\n"


def _interval(value: float | None, low: float | None, high: float | None, sign: str) -> str:
    if value is None:
        return "–"
    return f"{value:{sign}.2f}" + ("" if low is None else f" [{low:{sign}.2f}, {high:{sign}.2f}]")


Estimate = tuple[float | None, float | None, float | None, int]


def _estimate(predictions: list[Path], resamples: int) -> Estimate:
    """Mean over the runs in per cent, its 95 % interval, and the number of test images."""
    tables = [read_parquet(file) for file in predictions]
    weights = draw_weights(tables[0]["group"], resamples)
    values = np.stack([resampled_metric(table, weights) for table in tables])
    found = compare(values, np.zeros_like(values), tables[0]["group"].nunique())
    points = [None if x is None else 100 * x for x in (found.difference, found.low, found.high)]
    if points[1] is not None:  # of three seeds the t distribution reaches beyond what the metric can be
        points[1:] = max(0.0, points[1]), min(100.0, points[2])
    return points[0], points[1], points[2], len(tables[0])


def _difference(one: Estimate, audited: Estimate | None) -> tuple[float | None, float | None, float | None]:
    if audited is None or one[0] is None or audited[0] is None:
        return None, None, None
    difference = one[0] - audited[0]
    if one[2] is None or audited[2] is None:
        return difference, None, None
    below = math.hypot(one[0] - one[1], audited[2] - audited[0])
    above = math.hypot(one[2] - one[0], audited[0] - audited[1])
    return difference, difference - below, difference + above
