"""Faults of the label files themselves, planted and counted."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmcgns.audit import contents
from cmcgns.audit.labels import audit_labels
from cmcgns.sources import NAMES, source

CASES = [
    ("chexpert", "chexpert/train.csv", "Edema", "2.0"),
    ("rsna", "rsna/stage_2_detailed_class_info.csv", "class", "Lung"),
    ("rsna", "rsna/stage_2_train_labels.csv", "Target", "2"),
    ("mimic_cxr", "mimic/mimic-cxr-2.0.0-split.csv", "split", "dev"),
]


@pytest.mark.parametrize(("name", "file", "column", "wrong"), CASES)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(k=st.integers(1, 30), seed=st.integers(0, 9))
def test_wrong_words_are_counted_and_nothing_else_is_found(
    world, tmp_path, name, file, column, wrong, k, seed
):
    table = pd.read_csv(world[0] / file, dtype=str, keep_default_na=False)
    rows = np.random.default_rng(seed).choice(len(table), k, replace=False)
    table.loc[rows, column] = wrong
    for other in (world[0] / file).parent.iterdir():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).with_name(other.name).write_bytes(other.read_bytes())
    table.to_csv(tmp_path / file, index=False)
    findings, _ = audit_labels(tmp_path)
    assert [(f.check, f.source, f.severity, f.count, f.total, f.unit) for f in findings] == [
        ("A6-label-vocabulary", name, "critical", k, len(table), "rows")
    ]


def test_covidx_classes_of_another_version_are_counted(world, tmp_path):
    lines = (world[0] / "covidx/train_COVIDx9A.txt").read_text().splitlines()
    (tmp_path / "covidx").mkdir()
    lines[:7] = [" ".join([*line.rsplit(" ", 2)[:1], "positive", "rsna"]) for line in lines[:7]]
    (tmp_path / "covidx/train_COVIDx9A.txt").write_text("\n".join(lines))
    (tmp_path / "covidx/test_COVIDx9A.txt").write_bytes((world[0] / "covidx/test_COVIDx9A.txt").read_bytes())
    ((found,), _) = audit_labels(tmp_path)
    assert (found.check, found.count, found.total) == ("A6-label-vocabulary", 7, 300)


@pytest.mark.parametrize(("a", "b", "count"), [("train", "test", 5), ("train", "train", 4)])
def test_images_listed_twice_are_counted(world, tmp_path, a, b, count):
    (tmp_path / "covidx").mkdir()
    lists = {n: (world[0] / f"covidx/{n}_COVIDx9A.txt").read_text().splitlines() for n in ("train", "test")}
    lists[b] += lists[a][10 : 10 + count]
    for name, lines in lists.items():
        (tmp_path / f"covidx/{name}_COVIDx9A.txt").write_text("\n".join(lines))
    ((found,), _) = audit_labels(tmp_path)
    told = {n: f"{n}_COVIDx9A" for n in lists}
    assert (found.check, found.split_a, found.split_b) == ("A1-image-overlap", told[a], told[b])
    assert (found.count, found.total, found.severity) == (count, len(lists[b]), "critical")


def test_the_world_has_no_fault_of_this_kind(world):
    for name in NAMES:
        module = source(name)
        lists = contents.read_lists(name, module.find(world[0]))
        assert contents.vocabulary(name, lists, "k") == contents.listed_twice(name, lists, "k") == []


def test_sizes_are_expected_of_published_files_only():
    ids = [f"i{i}" for i in range(9_000)]
    parts = ["train"] * 6_400 + ["valid"] * 1_590 + ["test"] * 1_000 + ["train"] * 10
    split = pd.DataFrame({"task": "detection", "image_id": ids, "split": parts})
    about = {"source": "object_cxr", "scheme": "paper"}
    found = contents.split_sizes(split, version="MIDL 2020", **about)
    assert [(f.split_b, f.count, f.total) for f in found] == [("train", 10, 6_400), ("valid", 10, 1_600)]
    assert contents.split_sizes(split, version=None, **about) == []


def test_siim_rows_are_counted_by_mask():
    parts = [[0, 1], None, [2]]
    split = pd.DataFrame({"task": "segmentation", "image_id": list("abc"), "split": "train", "parts": parts})
    found = contents.split_sizes(split, source="siim", scheme="official", version="stage 2 (merged copy)")
    assert found[0].count == 9_067 - 4 and found[0].unit == "rows"


def test_other_bytes_are_told_where_counts_are_the_published(world):
    files = [world[0] / "rsna/stage_2_train_labels.csv", world[0] / "siim/train-rle.csv"]
    findings, facts = contents.genuine_files("rsna", files, "stage 2")
    assert [(f.check, f.count) for f in findings] == [("A12-genuine-file", 1)] and facts == []
    findings, facts = contents.genuine_files("rsna", files, None)
    assert findings == [] and len(facts) == 1
