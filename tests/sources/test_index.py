import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.files import sha256_file
from cmcgns.parquet import read_meta, read_parquet
from cmcgns.sources import NAMES, source
from cmcgns.sources.index import build_index, match

ROWS = {"mimic_cxr": 3, "chexpert": 3, "rsna": 2, "covidx": 3, "siim": 2, "object_cxr": 3}


def build(name, raw, out, **options):
    counts = build_index(name, raw, out / "index.parquet", out / "unmatched.parquet", **options)
    return counts, read_parquet(out / "index.parquet"), read_parquet(out / "unmatched.parquet")


@pytest.mark.parametrize("name", NAMES)
def test_a_complete_download_is_indexed_whole(downloads, tmp_path, name):
    counts, index, unmatched = build(name, downloads, tmp_path / "out")
    root = source(name).find(downloads)
    assert len(index) == counts["images"] == ROWS[name]
    assert all((root / path).is_file() for path in index.loc[index["frontal"], "path"])
    assert counts["missing_files"] == 0
    meta = read_meta(tmp_path / "out/index.parquet")
    assert (meta["source"], meta["version"], meta["counts"]) == (name, "unknown", counts)
    assert meta["label_files"] == {path.name: sha256_file(path) for path in source(name).label_files(root)}
    expected = [["", "stage_2_test_images/exam-z.dcm", "file without a label row"]] if name == "rsna" else []
    assert unmatched[["image_id", "path", "reason"]].to_numpy().tolist() == expected


def test_the_same_downloads_give_the_same_bytes(downloads, tmp_path):
    for out in ("a", "b"):
        build("siim", downloads, tmp_path / out)
    for name in ("index.parquet", "unmatched.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_row_without_its_file_leaves_the_index_and_is_listed(downloads, tmp_path):
    (downloads / "object-CXR/train/00002.jpg").rename(downloads / "object-CXR/train/00009.jpg")
    with pytest.raises(InputError, match="1 of 3 images are missing, for example train/00002.jpg") as caught:
        build("object_cxr", downloads, tmp_path / "out")
    assert "sources.max_bad_fraction" in str(caught.value) and not (tmp_path / "out").exists()
    counts, index, unmatched = build("object_cxr", downloads, tmp_path / "out", max_bad_fraction=0.34)
    assert index["image_id"].tolist() == ["00001.jpg", "08001.jpg"]
    assert unmatched.to_numpy().tolist() == [
        ["00002.jpg", "train/00002.jpg", "label row without its file"],
        ["", "train/00009.jpg", "file without a label row"],
    ]
    assert (counts["images"], counts["missing_files"], counts["files_without_row"]) == (2, 1, 1)


def test_laterals_stay_without_their_files(downloads, tmp_path):
    for name in ("mimic_cxr", "chexpert"):
        _, index, unmatched = build(name, downloads, tmp_path / name, max_bad_fraction=0.0)
        assert index["frontal"].tolist() == [True, False, True] and unmatched.empty


def test_siim_rows_find_their_files_by_name_and_a_second_copy_is_listed(downloads, tmp_path, put):
    put("siim/dicom-images-train/9.1/9.1.1/1.2.4.dcm")
    _, index, unmatched = build("siim", downloads, tmp_path / "out")
    assert index["path"].tolist() == [
        "dicom-images-train/1.1/1.1.1/1.2.3.dcm",
        "dicom-images-train/2.1/2.1.1/1.2.4.dcm",
    ]
    assert unmatched["path"].tolist() == ["dicom-images-train/9.1/9.1.1/1.2.4.dcm"]
    (downloads / "siim/dicom-images-train/1.1/1.1.1/1.2.3.dcm").unlink()
    with pytest.raises(InputError, match="for example 1.2.3"):
        build("siim", downloads, tmp_path / "out")


def test_no_image_at_all_leaves_an_empty_table_if_that_is_allowed(downloads, tmp_path):
    for path in downloads.glob("rsna/*/*.dcm"):
        path.unlink()
    counts, index, unmatched = build("rsna", downloads, tmp_path / "out", max_bad_fraction=1.0)
    assert index.empty and counts["images"] == 0 and unmatched["image_id"].tolist() == ["exam-a", "exam-b"]


def test_an_absent_source_says_where_to_get_it(tmp_path):
    with pytest.raises(
        InputError, match="no folder of CheXpert.*expected one of chexpert-v1.0.*Stanford AIMI"
    ):
        build("chexpert", tmp_path, tmp_path / "out")


def test_options_reach_the_reader_and_a_map_is_recorded(downloads, tmp_path, put):
    groups = put("groups.csv", "image,group\nexam-a,N1\nexam-b,N1\n")
    counts, index, _ = build("rsna", downloads, tmp_path / "out", groups=groups)
    assert counts["groups"] == 1 and index["group_id"].tolist() == ["N1", "N1"]
    assert read_meta(tmp_path / "out/index.parquet")["label_files"]["groups.csv"] == sha256_file(groups)
    with pytest.raises(InputError, match="label files are missing.*9B"):
        build("covidx", downloads, tmp_path / "out", version="9B")


def test_match_keeps_the_order_of_the_rows():
    labels = pd.DataFrame({"image_id": ["c", "a", "b"], "path": ["c.png", "a.png", "b.png"], "frontal": True})
    index, rest = match(labels, ["b.png", "c.png", "d.png"])
    assert index["image_id"].tolist() == ["c", "b"]
    assert rest["path"].tolist() == ["a.png", "d.png"]
