"""The store: rows, quarantine, workers, and what is read from it."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cmcgns.errors import InputError
from cmcgns.images.place import letterbox, resize_area
from cmcgns.images.store import ImageStore, build_store
from cmcgns.parquet import read_meta, read_parquet, write_parquet


def make_raw(folder, n=6, bad=(), laterals=()):
    """`n` images of different shapes and their index; those in `bad` are damaged."""
    rng = np.random.default_rng(0)
    greys = []
    for i in range(n):
        greys.append(rng.integers(0, 256, (40 + 7 * i, 60), dtype=np.uint8))
        (folder / "raw").mkdir(exist_ok=True)
        path = folder / "raw" / f"{i}.png"
        Image.fromarray(greys[-1]).save(path)
        if i in bad:
            path.write_bytes(path.read_bytes()[:60])
    rows = {"image_id": [f"i{i}" for i in range(n)], "path": [f"{i}.png" for i in range(n)]}
    write_parquet(
        pd.DataFrame(rows).assign(frontal=[i not in laterals for i in range(n)]), folder / "index.parquet"
    )
    return greys


def build(folder, **options):
    return build_store(
        folder / "index.parquet", folder / "raw", folder / "s.npy", folder / "s.parquet", size=64, **options
    )


def test_store_holds_the_frontal_images_in_index_order(tmp_path):
    greys = make_raw(tmp_path, laterals=(1,))
    seen = []
    counts = build(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert counts == {"images": 5, "stored": 5, "quarantined": 0}
    assert seen == [(i, 5) for i in range(1, 6)]
    pixels = np.load(tmp_path / "s.npy")
    kept = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(pixels, np.stack([letterbox(greys[i], 64)[0] for i in kept]))
    table = read_parquet(tmp_path / "s.parquet")
    assert table["image_id"].tolist() == [f"i{i}" for i in kept]
    assert table["row"].tolist() == [0, 1, 2, 3, 4] and set(table["reason"]) == {""}
    assert table["sha256"][0] == hashlib.sha256((tmp_path / "raw" / "0.png").read_bytes()).hexdigest()
    last = table.iloc[-1]  # 75 x 60 -> 64 x 51, padding 6 left and 7 right
    names = ["height", "width", "top", "left", "new_height", "new_width"]
    assert last[names].tolist() == [75, 60, 0, 6, 64, 51]
    assert read_meta(tmp_path / "s.parquet")["size"] == 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.parquet", "raw", "s.npy", "s.parquet"]


def test_the_view_of_a_dicom_file_is_kept(tmp_path, write_dicom):
    write_dicom(np.zeros((20, 30), np.uint8), ViewPosition="AP")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "y.png")
    index = pd.DataFrame({"image_id": ["x", "y"], "path": ["x.dcm", "y.png"], "frontal": True})
    write_parquet(index, tmp_path / "i.parquet")
    build_store(tmp_path / "i.parquet", tmp_path, tmp_path / "s.npy", tmp_path / "s.parquet", size=32)
    assert read_parquet(tmp_path / "s.parquet")["view"].tolist() == ["AP", ""]


def test_bad_files_go_to_quarantine_with_a_reason(tmp_path):
    make_raw(tmp_path, bad=(2,))
    (tmp_path / "raw" / "4.png").unlink()
    assert build(tmp_path, max_bad_fraction=0.5) == {"images": 6, "stored": 4, "quarantined": 2}
    table = read_parquet(tmp_path / "s.parquet").set_index("image_id")
    assert table["row"].to_dict() == {"i0": 0, "i1": 1, "i2": -1, "i3": 2, "i4": -1, "i5": 3}
    assert (
        "cannot be decoded" in table["reason"]["i2"]
        and table["reason"]["i4"] == "the image file does not exist"
    )
    assert table["sha256"]["i2"] and table["sha256"]["i4"] == ""
    store = ImageStore(tmp_path / "s.npy", tmp_path / "s.parquet")
    assert store.ids.tolist() == ["i0", "i1", "i3", "i5"] and store.pixels.shape == (4, 64, 64)
    with pytest.raises(
        InputError, match=r"row i4: the image is in quarantine \(the image file does not exist\)"
    ):
        store.rows(["i0", "i4"])
    with pytest.raises(InputError, match="row i9: the image is not in the store"):
        store.rows(["i9"])


def test_too_many_bad_files_stop_the_run_and_are_kept_in_a_table(tmp_path):
    make_raw(tmp_path, bad=(2, 3))
    with pytest.raises(InputError) as caught:
        build(tmp_path, max_bad_fraction=0.3)
    message = str(caught.value)
    assert "2 of 6 images" in message and "2.png" in message and "raise max_bad_fraction" in message
    failed = read_parquet(tmp_path / "s.failed.parquet")
    assert len(failed) == 6 and failed.loc[failed["row"] < 0, "image_id"].tolist() == ["i2", "i3"]
    assert not (tmp_path / "s.npy").exists() and not (tmp_path / "s.parquet").exists()
    build(tmp_path, max_bad_fraction=1 / 3)
    assert not (tmp_path / "s.failed.parquet").exists()


def test_a_store_without_images_is_refused(tmp_path):
    make_raw(tmp_path, n=2, bad=(0, 1))
    with pytest.raises(InputError, match="2 of 2 images"):
        build(tmp_path, max_bad_fraction=1.0)
    make_raw(tmp_path, n=2, laterals=(0, 1))
    with pytest.raises(InputError, match="no frontal image"):
        build(tmp_path)


def test_workers_change_no_byte(tmp_path):
    make_raw(tmp_path, n=34, bad=(7, 20))
    build(tmp_path, max_bad_fraction=0.1)
    one = [(tmp_path / name).read_bytes() for name in ("s.npy", "s.parquet")]
    build(tmp_path, max_bad_fraction=0.1, workers=2)
    assert one == [(tmp_path / name).read_bytes() for name in ("s.npy", "s.parquet")]


def test_rows_and_placement_follow_the_ids(tmp_path):
    make_raw(tmp_path)
    build(tmp_path)
    store = ImageStore(tmp_path / "s.npy", tmp_path / "s.parquet")
    rows = store.rows(["i5", "i0", "i5"])
    assert rows.dtype == np.int64 and rows.tolist() == [5, 0, 5]
    assert store.placement(rows)["height"].tolist() == [75, 40, 75]
    assert not store.pixels.flags.writeable


def test_work_arrays(tmp_path):
    greys = make_raw(tmp_path)
    build_store(tmp_path / "index.parquet", tmp_path / "raw", tmp_path / "s.npy", tmp_path / "s.parquet")
    store = ImageStore(tmp_path / "s.npy", tmp_path / "s.parquet")
    assert store.work_array(224) is store.pixels
    small = store.work_array(64)
    assert small.shape == (6, 73, 73)  # 64 x 256 / 224 = 73.1
    np.testing.assert_array_equal(small[3], resize_area(store.pixels[3], 73, 73))
    np.testing.assert_array_equal(store.work_array(64, rows=np.array([3, 0])), small[[3, 0]])
    with pytest.raises(InputError, match="need squares of 293 px, the store has 256"):
        store.work_array(256)
    direct = store.work_array(96, "direct224")
    assert direct.shape == (6, 96, 96)
    # the padding is cut away before the image is squashed: 40 x 60 -> 170 x 256 in the store -> 96 x 96
    stored = letterbox(greys[0])[0]
    np.testing.assert_array_equal(direct[0], resize_area(stored[43 : 43 + 170], 96, 96))
    np.testing.assert_array_equal(store.content(np.array([0]), 96), direct[:1])


def test_a_store_that_does_not_fit_its_table_is_refused(tmp_path):
    make_raw(tmp_path)
    build(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        ImageStore(tmp_path / "none.npy", tmp_path / "s.parquet")
    np.save(tmp_path / "t.npy", np.zeros((5, 64, 64), np.uint8))
    with pytest.raises(InputError, match=r"5 images, but its table s\.parquet has 6"):
        ImageStore(tmp_path / "t.npy", tmp_path / "s.parquet")
    (tmp_path / "t.npy").write_bytes(b"junk")
    with pytest.raises(InputError, match="not a readable .npy"):
        ImageStore(tmp_path / "t.npy", tmp_path / "s.parquet")
