"""The readers on real films, where the shared corpus lies beside the repository."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmcgns.parquet import read_parquet
from cmcgns.sources import NAMES
from cmcgns.sources.doctor import examine
from cmcgns.sources.index import build_index
from cmcgns.sources.mimic_cxr import find_reports
from cmcgns.sources.siim import MASK_SHAPE, decode_rle
from cmcgns.synthetic.files import encode_rle

CORPUS = Path(__file__).resolve().parents[3] / "shared/realdata"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    maker = CORPUS / "make_layout.py"
    if not maker.is_file():
        pytest.skip("the real corpus ../shared/realdata is not beside the repository")
    out = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, maker, "--tier", "core", "--out", out], check=True, capture_output=True)
    return out


def test_every_source_reads_and_all_its_images_are_there(raw, tmp_path):
    expected = {
        "mimic_cxr": {"images": 120, "studies": 116},
        "chexpert": {"images": 48, "train": 39, "valid": 9},
        "rsna": {"images": 48, "boxes": 39, "Lung Opacity": 24},
        "covidx": {"images": 151, "train": 126, "test": 25},
        "siim": {"images": 40, "positive": 40},
        "object_cxr": {"images": 80, "train": 69, "dev": 11},
    }
    for name in NAMES:
        counts = build_index(name, raw, tmp_path / f"{name}.parquet", tmp_path / f"{name}.unmatched.parquet")
        assert {key: counts[key] for key in expected[name]} == expected[name]
        assert counts["missing_files"] == counts["files_without_row"] == 0
    codes = read_parquet(tmp_path / "siim.parquet")["rle"]
    masks = [decode_rle(code, MASK_SHAPE) for code in codes.str[0]]
    assert [encode_rle(mask) for mask in masks] == codes.str[0].tolist()
    # the target of this layout is the lungs: a fifth to half of a film, left and right of the middle
    assert 0.1 < np.mean(masks) < 0.6


def test_the_doctor_finds_all_of_it(raw):
    entries = examine(raw)
    assert {entry["status"] for entry in entries} == {"unknown version"}
    assert [entry["problem"] for entry in entries] == [None] * 6
    assert find_reports(raw) == raw / "mimic-reports"
