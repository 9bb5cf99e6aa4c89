"""Every data step on real files: the small corpus beside the project, laid out in the raw formats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cmcgns.evaluation import classification, detection, segmentation
from cmcgns.hidden_ids import write_key
from cmcgns.images.store import store_source
from cmcgns.parquet import read_parquet
from cmcgns.pipeline.plan import Plan
from cmcgns.reports.extract import extract_reports
from cmcgns.sources.doctor import examine
from cmcgns.sources.index import build_index
from cmcgns.splits.write import write_ranks, write_split
from cmcgns.training.export import export_trunk

ROOT = Path(__file__).parents[1]
CORPUS = ROOT.parent / "shared" / "realdata" / "make_layout.py"

pytestmark = pytest.mark.skipif(
    not CORPUS.exists(), reason="the real corpus is not there: ../shared/realdata beside the repository"
)
# Rows and images of the layout, as its script prints them.
IMAGES = {"mimic_cxr": 120, "chexpert": 48, "rsna": 48, "covidx": 151, "siim": 40, "object_cxr": 80}


@pytest.fixture(scope="module")
def plan():
    return Plan.load("real", ROOT / "params.yaml")


@pytest.fixture(scope="module")
def data(tmp_path_factory, plan):
    """Raw layout -> index -> store -> split -> ranks of every source, in a folder of its own."""
    root = tmp_path_factory.mktemp("real")
    raw = root / "raw"
    subprocess.run(
        [sys.executable, CORPUS, "--tier", "core", "--out", raw], check=True, stdout=subprocess.DEVNULL
    )
    extract_reports(raw=raw, out=root / "reports.parquet", **plan.slice("reports"))
    for source in IMAGES:
        index, rest = root / f"{source}.parquet", root / f"{source}.rest.parquet"
        build_index(raw=raw, out=index, unmatched=rest, **plan.slice("index", source=source))
        files = {"store": root / f"{source}.npy", "table": root / f"{source}.store.parquet"}
        store_source(raw=raw, index=index, **files, **plan.slice("images", source=source))
        write_split(
            index=root / f"{source}.parquet",
            store_table=files["table"],
            reports=root / "reports.parquet" if source == "mimic_cxr" else None,
            out=root / f"{source}.split.parquet",
            **plan.slice("split", source=source, scheme="audited"),
        )
        write_ranks(
            index=root / f"{source}.parquet",
            split=root / f"{source}.split.parquet",
            out=root / f"{source}.ranks.parquet",
            **plan.slice("subset", source=source, seed=0),
        )
    export_trunk(arch="resnet10", initial="random", seed=0, out=root / "trunk.safetensors")
    return root


def test_nothing_is_lost_between_label_files_and_the_store(data):
    for source, count in IMAGES.items():
        index = read_parquet(data / f"{source}.parquet")
        store = read_parquet(data / f"{source}.store.parquet")
        assert len(index) == count, source
        assert len(store) == index["frontal"].sum(), source
        assert (store["row"] >= 0).all(), source
        assert read_parquet(data / f"{source}.rest.parquet").empty, source
    assert read_parquet(data / "reports.parquet")["kept"].sum() == 115


def test_no_patient_crosses_a_split(data):
    for source in IMAGES:
        split = read_parquet(data / f"{source}.split.parquet")
        for task, part in split.groupby("task"):
            assert (part.groupby("group_id")["split"].nunique() == 1).all(), (source, task)
            assert set(part["split"]) == {"train", "valid", "test"}, (source, task)


def test_the_doctor_finds_all_six(data):
    assert {entry["source"] for entry in examine(data / "raw") if entry["root"]} == set(IMAGES)


@pytest.mark.parametrize(
    ("module", "source"), [(classification, "covidx"), (detection, "object_cxr"), (segmentation, "siim")]
)
def test_a_run_of_each_task_ends_in_metrics_and_predictions(data, plan, tmp_path, module, source):
    task = module.__name__.rsplit(".", 1)[1]
    settings = plan.slice("finetune", pair=f"{task}-{source}", fraction=10)
    settings["head"] |= {"max_epochs": 1} | ({"views": 0} if task == "classification" else {})
    files = {
        "trunk": data / "trunk.safetensors",
        "store": data / f"{source}.npy",
        "index": data / f"{source}.parquet",
        "store_table": data / f"{source}.store.parquet",
        "key": tmp_path / "key",
        "predictions": tmp_path / "predictions.parquet",
        "metrics": tmp_path / "metrics.json",
    }
    files |= {name: data / f"{source}.{name}.parquet" for name in ("split", "ranks")}
    write_key(random=True, out=files["key"])
    metrics = module.finetune(**files, **settings, seed=0)
    assert 0 <= metrics["primary"] <= 1
    predictions = read_parquet(tmp_path / "predictions.parquet")
    assert len(predictions) == metrics["n_test"]
    index = read_parquet(data / f"{source}.parquet")
    assert not set(predictions["image"]) & set(index["image_id"])
