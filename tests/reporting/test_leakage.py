"""The table of leakage: means, intervals and differences between schemes, and the leaks beside them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from cmcgns.parquet import write_parquet
from cmcgns.reporting import leakage

PAIR = "classification-covidx"  # its metric is the share of right answers: to be counted by hand


def write_run(file: Path, right: int, of: int) -> Path:
    rows = [
        {
            "image": f"{file.stem}{i}",
            "group": f"g{i}",
            "target": 0,
            "probability a": float(i < right),
            "probability b": 0.5,
        }
        for i in range(of)
    ]
    write_parquet(pd.DataFrame(rows), file)
    return file


@pytest.fixture
def table(tmp_path) -> list[dict[str, str]]:
    right = {"official": [36, 34], "audited": [20, 24]}
    files = [
        write_run(tmp_path / f"{scheme}{seed}.parquet", count, 40)
        for scheme, counts in right.items()
        for seed, count in enumerate(counts)
    ]
    found = {
        "check": "A2-group-overlap",
        "severity": "critical",
        "unit": "images",
        "source": "covidx",
        "task": "classification",
    }
    found |= {"scheme": "official", "split_a": "train", "split_b": "test", "count": 17, "total": 40}
    others = [found | {"split_b": "valid"}, found | {"scheme": "paper"}, found | {"unit": "rows"}]
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"findings": [found, *others]}))
    leakage.write_leakage(
        cells=[["clip", PAIR, 10]],
        schemes=list(right),
        seeds=[0, 1],
        audit=audit,
        predictions=files,
        csv=tmp_path / "leakage.csv",
        md=tmp_path / "leakage.md",
        resamples=400,
    )
    return list(csv.DictReader((tmp_path / "leakage.csv").read_text().splitlines()))


def test_values_and_difference(table):
    official, audited = table
    assert (official["scheme"], official["mean"], audited["mean"]) == ("official", "87.50", "55.00")
    assert official["difference"] == "32.50" and audited["difference"] == ""
    assert official["n_test"] == "40" and official["n_seeds"] == "2" and official["metric"] == "ACC"


def test_intervals_have_the_width_of_both_errors(table):
    official, audited = table
    reach = [float(row["high"]) - float(row["mean"]) for row in table]
    # binomial errors of 40 patients are 5.2 and 7.9 points; the seeds add 2.5 and 5
    assert 1.8 * 5.2 < reach[0] < 3.0 * 5.8 and 1.8 * 7.9 < reach[1] < 3.0 * 9.4
    wanted = (reach[0] ** 2 + reach[1] ** 2) ** 0.5
    assert float(official["difference_high"]) - 32.5 == pytest.approx(wanted, abs=0.02)


def test_only_leaks_into_the_test_part_of_this_scheme_are_told(table, tmp_path):
    assert [row["leaks"] for row in table] == ["A2-group-overlap train 17 of 40", ""]
    text = (tmp_path / "leakage.md").read_text()
    assert "none found" in text and "+32.50" in text
