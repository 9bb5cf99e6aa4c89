"""The audit of a profile's own tables and pixels: a clean world passes, and every planted fault is counted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmcgns.audit.profile import audit_profile
from cmcgns.hidden_ids import write_key
from cmcgns.images.store import build_store
from cmcgns.parquet import read_meta, read_parquet, write_parquet
from cmcgns.sources import source as module_of
from cmcgns.sources.index import build_index
from cmcgns.splits.write import write_ranks, write_split
from cmcgns.synthetic.synthesize import synthesize

SOURCES = ("chexpert", "rsna", "siim")
SIZES = {name: 8 for name in ("mimic_studies", "covidx_train", "covidx_test", "object_train", "object_dev")}
SIZES |= {"chexpert_train": 60, "chexpert_valid": 12, "rsna": 50, "siim": 40}
OPTIONS = {"chexpert": {"valid_images": 10}}
PARTS = ("index", "unmatched", "split", "store", "store_table", "ranks")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Index, store, split and ranks of three sources of a small world."""
    root = tmp_path_factory.mktemp("audited")
    synthesize(root / "raw", root / "truth", sizes=SIZES, seed=3, workers=1, image_long_side=128)
    for name, f in paths(root).items():
        build_index(name, root / "raw", f["index"], f["unmatched"], max_bad_fraction=0.1)
        folder = module_of(name).find(root / "raw")
        build_store(
            f["index"], folder, f["store"], f["store_table"], workers=1, size=256, max_bad_fraction=0.1
        )
        write_split(
            name, "audited", index=f["index"], store_table=f["store_table"], store=f["store"], out=f["split"],
            options=OPTIONS.get(name),
        )  # fmt: skip
        write_ranks(name, index=f["index"], split=f["split"], out=f["ranks"], seed=0)
    return root


def paths(root: Path) -> dict[str, dict[str, Path]]:
    return {
        name: {part: root / f"{name}.{part}.{'npy' if part == 'store' else 'parquet'}" for part in PARTS}
        for name in SOURCES
    }


@pytest.fixture
def world(built, tmp_path) -> dict[str, dict[str, Path]]:
    for file in built.glob("*.*"):
        shutil.copy(file, tmp_path)
    return paths(tmp_path)


def findings(world, scheme="audited", pixels=False):
    write_key(random=True, out=(key := world["rsna"]["index"].with_name("key")))
    found, _ = audit_profile(
        scheme="audited", sources=list(world), seeds=[0], siim_subset_of="balanced", near_duplicates=pixels,
        **{part: [files[part] for files in world.values()] for part in PARTS},
        key=key, out=key.with_name("audit.json"),
    )  # fmt: skip
    return [f for f in found if f.scheme in (scheme, "") and f.severity == "critical"]


def change(file: Path, edit) -> None:
    table, meta = read_parquet(file), read_meta(file)
    write_parquet(edit(table), file, meta)


def test_a_clean_world_passes_under_audited_and_not_under_official(world):
    assert findings(world, pixels=True) == []
    leaks = {(f.check, f.source) for f in findings(world, "official")}
    assert ("A1-image-overlap", "chexpert") in leaks and ("A2-group-overlap", "rsna") in leaks


def test_moved_patients_are_counted(world):
    split = read_parquet(world["rsna"]["split"])
    detection = split[split["task"] == "detection"]
    groups = detection[detection["split"] == "train"]["group_id"].value_counts()
    group = groups.index[groups > 1][0]
    chosen = detection[(detection["group_id"] == group) & (detection["split"] == "train")].index[:1]

    def edit(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[chosen, "split"] = "test"
        return table

    change(world["rsna"]["split"], edit)
    found = findings(world)
    (crossing,) = [f for f in found if f.check == "A2-group-overlap"]
    assert (crossing.source, crossing.task, crossing.split_a, crossing.split_b, crossing.count) == (
        "rsna", "detection", "train", "test", 1,
    )  # fmt: skip
    # the ranks name an image that is no training image any more
    assert {f.check for f in found} == {"A2-group-overlap", "A7-subsets"}


def test_a_copied_film_is_found_in_the_pixels(world):
    split = read_parquet(world["siim"]["split"])
    stored = read_parquet(world["siim"]["store_table"]).set_index("image_id")
    train, test = (split[split["split"] == part]["image_id"].iloc[0] for part in ("train", "test"))
    pixels = np.load(world["siim"]["store"], mmap_mode="r+")
    pixels[stored.loc[test, "row"]] = pixels[stored.loc[train, "row"]]
    pixels.flush()
    (found,) = findings(world, pixels=True)
    assert (found.check, found.source, found.split_a, found.split_b, found.count) == (
        "A13-near-duplicate", "siim", "train", "test", 1,
    )  # fmt: skip
    assert test not in str(found.as_json())


def test_a_foreign_subset_is_found(world):
    split = read_parquet(world["siim"]["split"])
    test = split[split["split"] == "test"]["image_id"].iloc[0]

    def edit(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[0, "image_id"] = test
        return table

    change(world["siim"]["ranks"], edit)
    assert {(f.check, f.source) for f in findings(world)} == {("A7-subsets", "siim")}
