"""The numbers of all tables as one JSON document, as `dvc metrics show` and `dvc metrics diff` read them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from cmcgns.files import read_json, write_json


def write_summary(*, tables: list[Path], audit: Path, out: Path) -> None:
    """Write `{table: {dataset and metric: {fraction: {method: {mean, std}}}}, audit: {severity: findings}}`.

    Args:
        tables: CSV files with the columns of `reporting.tables`; fractions are "1%", "10%", "100%" or empty, then left out.
        audit: the audit's findings.
    """
    document: dict[str, Any] = {"audit": dict(Counter(f["severity"] for f in read_json(audit)["findings"]))}
    for table in tables:
        # as text: a table without a fraction has an empty column, and 61.50 stays what the reader of the table sees
        for row in pd.read_csv(table, dtype=str, keep_default_na=False).to_dict("records"):
            keys = [row["table"], f"{row['dataset']} {row['metric']}".strip(), row["fraction"], row["method"]]
            place = document
            for key in filter(None, keys):
                place = place.setdefault(key, {})
            place |= {name: float(row[name]) for name in ("mean", "std") if row[name]}
    write_json(out, document)
