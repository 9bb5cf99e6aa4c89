"""Split and rank files: usable images, metadata, same bytes."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.files import sha256_file
from cmcgns.parquet import read_meta, read_parquet, write_parquet
from cmcgns.splits.write import hash_ids, link, write_ranks, write_split


def write_index(folder, n=60, official="", **columns):
    ids = [f"i{i:03d}" for i in range(n)]
    frame = pd.DataFrame(
        {"image_id": ids, "group_id": ids, "view": "", "frontal": True, "official_split": official}
    )
    write_parquet(frame.assign(**columns), folder / "index.parquet")
    return folder / "index.parquet"


def write_store(folder, n=60, bad=(), view=""):
    rows = [-1 if i in bad else i for i in range(n)]
    write_parquet(
        pd.DataFrame({"image_id": [f"i{i:03d}" for i in range(n)], "row": rows, "view": view}),
        folder / "store.parquet",
    )
    return folder / "store.parquet"


def test_rsna_has_all_tasks_counts_and_hashes(tmp_path):
    index, store = write_index(tmp_path, target=[i % 2 for i in range(60)]), write_store(tmp_path, bad=(3, 4))
    meta = write_split("rsna", "audited", index=index, store_table=store, out=tmp_path / "s.parquet", seed=5)
    table = read_parquet(tmp_path / "s.parquet")
    assert meta == read_meta(tmp_path / "s.parquet")
    assert (meta["source"], meta["scheme"], meta["seed"]) == ("rsna", "audited", 5)
    assert meta["inputs"] == {"index": sha256_file(index), "store": sha256_file(store)}
    assert meta["options"]["detection"] == [0.6, 0.2, 0.2]
    assert not set(table["image_id"]) & {"i003", "i004"}
    for task in ("classification", "detection", "segmentation"):
        part = table[table["task"] == task]
        assert len(part) == 58 and meta["counts"][task] == part["split"].value_counts().to_dict()
        test = sorted(part.loc[part["split"] == "test", "image_id"])
        assert meta["ids_sha256"][task]["test"] == hashlib.sha256("\n".join(test).encode()).hexdigest()
    assert meta["left_out"] == {"classification": 0, "detection": 0, "segmentation": 0}


def test_same_inputs_give_the_same_bytes_and_another_seed_does_not(tmp_path):
    index = write_index(tmp_path, target=[i % 2 for i in range(60)])
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_split("rsna", "paper", index=index, out=tmp_path / name, seed=seed)
        write_ranks("rsna", index=index, split=tmp_path / name, out=tmp_path / f"{name}.ranks", seed=seed)
    for suffix in ("", ".ranks"):
        a, b, c = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "abc")
        assert a == b != c


def test_mimic_keeps_only_images_with_a_kept_report(tmp_path):
    official = ["train"] * 40 + ["validate"] * 10 + ["test"] * 10
    index = write_index(tmp_path, official=official, study_id=[f"s{i // 2}" for i in range(60)])
    reports = pd.DataFrame({"study_id": [f"s{i}" for i in range(30)], "kept": [i != 0 for i in range(30)]})
    write_parquet(reports, tmp_path / "reports.parquet")
    meta = write_split(
        "mimic_cxr", "audited", index=index, reports=tmp_path / "reports.parquet", out=tmp_path / "s.parquet"
    )
    assert meta["counts"] == {"pretraining": {"train": 38, "valid": 10, "test": 10}}
    assert not set(read_parquet(tmp_path / "s.parquet")["image_id"]) & {"i000", "i001"}


def test_left_out_counts_training_films_of_test_patients(tmp_path):
    index = write_index(tmp_path, official=["train"] * 50 + ["test"] * 10, label="normal")
    frame = read_parquet(index)
    frame.loc[[0, 1], "group_id"] = "i055"
    write_parquet(frame, index)
    meta = write_split("covidx", "audited", index=index, out=tmp_path / "s.parquet")
    assert meta["left_out"] == {"classification": 2}
    assert meta["counts"]["classification"] == {"train": 43, "valid": 5, "test": 10}


def test_ranks_of_every_task_with_metadata(tmp_path):
    index = write_index(tmp_path, target=[i % 2 for i in range(60)])
    write_split("rsna", "paper", index=index, out=tmp_path / "s.parquet")
    meta = write_ranks("rsna", index=index, split=tmp_path / "s.parquet", out=tmp_path / "r.parquet", seed=3)
    ranks = read_parquet(tmp_path / "r.parquet")
    # 60 x 0.3 = 18 and 60 x 0.4 = 24 held out
    assert ranks["task"].value_counts().to_dict() == {
        "classification": 42,
        "detection": 36,
        "segmentation": 36,
    }
    assert meta["counts"] == {"classification": 42, "detection": 36, "segmentation": 36}
    assert meta["seed"] == 3 and set(meta["inputs"]) == {"index", "split"}
    assert read_meta(tmp_path / "r.parquet") == meta


def test_a_store_of_another_index_is_told(tmp_path):
    index = write_index(tmp_path, target=0)
    with pytest.raises(InputError, match="10 frontal images of the index are not in this table"):
        write_split(
            "rsna", "paper", index=index, store_table=write_store(tmp_path, n=50), out=tmp_path / "s.parquet"
        )
    assert not (tmp_path / "s.parquet").exists()


def test_an_unknown_source_is_told(tmp_path):
    with pytest.raises(InputError, match="unknown source: 'nih'"):
        write_split("nih", "paper", index=tmp_path / "none", out=tmp_path / "s.parquet")


def test_hash_ids_does_not_depend_on_order():
    assert hash_ids(["b", "a"]) == hashlib.sha256(b"a\nb").hexdigest()


def test_the_view_comes_from_the_store_where_the_index_has_none(tmp_path):
    """400 negatives, half of them AP: the audited parts hold AP in proportion, better than chance would."""
    views = ["AP", "PA"] * 200
    index = write_index(tmp_path, n=400, target=0)
    store = write_store(tmp_path, n=400, view=views)
    view_of = dict(zip(read_parquet(index)["image_id"], views, strict=True))
    for seed in range(5):
        write_split("rsna", "audited", index=index, store_table=store, out=tmp_path / "s.parquet", seed=seed)
        table = read_parquet(tmp_path / "s.parquet")
        test = table[(table["task"] == "classification") & (table["split"] == "test")]
        assert len(test) == 60 and abs((test["image_id"].map(view_of) == "AP").sum() - 30) <= 1


def test_official_siim_keeps_the_masks_of_a_split_through_the_files(tmp_path):
    """40 images of one row, then 20 of two: rows 40 + 2 i and 41 + 2 i."""
    rows = [[i] for i in range(40)] + [[40 + 2 * i, 41 + 2 * i] for i in range(20)]
    rle = [[]] * 40 + [["1 1", "5 1"]] * 20
    index = write_index(tmp_path, positive=[i >= 40 for i in range(60)])
    write_parquet(read_parquet(index).assign(rows=rows, rle=rle), index)
    meta = write_split(
        "siim", "official", index=index, store_table=write_store(tmp_path), out=tmp_path / "s.parquet"
    )
    table = read_parquet(tmp_path / "s.parquet")
    order = np.random.RandomState(0).permutation(80)
    rest = order[:24]
    half = np.random.RandomState(0).permutation(24)
    drawn = {"train": order[24:], "valid": rest[half[:12]], "test": rest[half[12:]]}
    for image, split, parts in table[["image_id", "split", "parts"]].itertuples(index=False):
        of = rows[int(image[1:])]
        here = [n for n, row in enumerate(of) if row in drawn[split]]
        assert here == ([0] if len(of) == 1 else list(parts)) and (parts is None) == (len(of) == 1)
    assert len(table) > 60 and meta["left_out"] == {"segmentation": 0}
    write_ranks("siim", index=index, split=tmp_path / "s.parquet", out=tmp_path / "r.parquet", seed=0)
    ranks = read_parquet(tmp_path / "r.parquet")
    positive = ranks["image_id"].str[1:].astype(int) >= 40
    assert positive.sum() == table.query("split == 'train' and image_id >= 'i040'").shape[0]


def test_groups_that_share_a_film_become_one():
    groups = pd.Series(["b", "b", "a", "c", "d", "e", "f"])
    films = pd.Series(["1", "2", "2", "3", "3", None, "9"])
    assert link(groups, films).tolist() == ["a", "a", "a", "c", "c", "e", "f"]
    chain = link(pd.Series(["z", "y", "y", "x", "x", "w"]), pd.Series(["1", "1", "2", "2", "3", "3"]))
    assert set(chain) == {"w"}
