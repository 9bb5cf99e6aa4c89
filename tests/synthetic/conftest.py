"""One very small world, written once for all tests that only read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from cmcgns.parquet import read_parquet
from cmcgns.synthetic.synthesize import synthesize

SIZES = {
    "mimic_studies": 30,
    "chexpert_train": 40,
    "chexpert_valid": 8,
    "rsna": 40,
    "covidx_train": 40,
    "covidx_test": 10,
    "siim": 40,
    "object_train": 12,
    "object_dev": 8,
}


class World(NamedTuple):
    raw: Path
    truth: Path
    manifest: dict[str, Any]
    images: pd.DataFrame
    findings: pd.DataFrame
    sentences: pd.DataFrame


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    manifest = synthesize(root / "raw", root / "truth", sizes=SIZES, seed=5, workers=1, image_long_side=128)
    tables = [
        read_parquet(root / "truth" / f"{name}.parquet") for name in ("images", "findings", "sentences")
    ]
    return World(root / "raw", root / "truth", manifest, *tables)
