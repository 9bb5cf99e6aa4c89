import pytest

from cmcgns.errors import InputError
from cmcgns.sources import NAMES, source
from cmcgns.sources.folders import find_file, find_folder, need_file, walk
from cmcgns.sources.mimic_cxr import find_reports

LABEL_FILE = {
    "mimic_cxr": "mimic-cxr-2.0.0-metadata.csv.gz",
    "chexpert": "train.csv",
    "rsna": "stage_2_train_labels.csv",
    "covidx": "train_COVIDx9A.txt",
    "siim": "train-rle.csv",
    "object_cxr": "train.csv",
}


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("mimic_cxr", "mimic"),
        ("mimic_cxr", "mimic-cxr-jpg"),
        ("mimic_cxr", "mimic-cxr-jpg/2.0.0"),
        ("mimic_cxr", "MIMIC-CXR-JPG/2.1.0"),
        ("mimic_cxr", "physionet.org/files/mimic-cxr-jpg/2.0.0"),
        ("chexpert", "CheXpert-v1.0"),
        ("chexpert", "CheXpert-v1.0-small"),
        ("chexpert", "chexpert"),
        ("chexpert", "chexpert/CheXpert-v1.0"),
        ("chexpert", "CheXpert/CheXpert-v1.0-small"),
        ("rsna", "rsna"),
        ("rsna", "rsna-pneumonia-detection-challenge"),
        ("covidx", "covidx"),
        ("covidx", "COVIDx-CXR2"),
        ("siim", "siim"),
        ("siim", "siim-train-test/siim"),
        ("siim", "SIIM-ACR-Pneumothorax-Segmentation"),
        ("object_cxr", "object-CXR"),
        ("object_cxr", "object-cxr"),
    ],
)
def test_every_source_finds_the_folders_of_its_downloads(tmp_path, put, name, folder):
    label_file = put(f"{folder}/{LABEL_FILE[name]}")
    assert source(name).find(tmp_path) == label_file.parent


def test_every_source_finds_nothing_in_an_empty_folder(tmp_path):
    assert [source(name).find(tmp_path) for name in NAMES] == [None] * 6
    assert find_reports(tmp_path) is None


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="unknown source 'nih'"):
        source("nih")


def test_a_folder_with_labels_goes_before_one_without(tmp_path, put):
    put("b/other.txt")
    put("a/x/labels.csv.gz")
    assert find_folder(tmp_path, ("b", "a/*"), ("labels.csv",)) == tmp_path / "a/x"
    assert find_folder(tmp_path, ("b", "c"), ("labels.csv",)) == tmp_path / "b"


def test_find_file_ignores_case_and_takes_plain_before_gzipped(tmp_path, put):
    put("Train.CSV.gz")
    assert find_file(tmp_path, ("dev.csv", "train.csv")).name == "Train.CSV.gz"
    put("train.csv")
    assert find_file(tmp_path, ("dev.csv", "train.csv")).name == "train.csv"
    with pytest.raises(InputError, match="dev.csv is missing.*get it from the moon"):
        need_file(tmp_path, ("dev.csv",), "the moon")


def test_walk_lists_images_only_and_relative_to_the_root(tmp_path, put):
    for name in ("files/p1/a.jpg", "files/p1/._a.jpg", "files/b.DCM", "files/index.html", "other/c.png"):
        put(name)
    (tmp_path / "files/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert sorted(walk(tmp_path)) == ["files/b.DCM", "files/p1/a.jpg", "other/c.png"]
    assert sorted(walk(tmp_path, ("files",))) == ["files/b.DCM", "files/p1/a.jpg"]
    assert list(walk(tmp_path, ("absent",))) == []


def test_a_folder_that_cannot_be_listed_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be listed"):
        find_folder(tmp_path / "absent", ("a",), ())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["mimic-reports/files/p10/p10000032/s50414267.txt"], "mimic-reports"),
        (["mimic-cxr/2.0.0/mimic-cxr-reports.zip"], "mimic-cxr/2.0.0/mimic-cxr-reports.zip"),
        (["mimic-cxr-reports.zip"], "mimic-cxr-reports.zip"),
        (["mimic-cxr/files/p10/p10000032/s50414267.txt"], "mimic-cxr"),
        (["mimic-cxr-reports/files/p10/p10000032/s50414267.txt"], "mimic-cxr-reports"),
        (["mimic-cxr/2.0.0/mimic-cxr-reports/files/p10/p1/s5.txt"], "mimic-cxr/2.0.0/mimic-cxr-reports"),
        (["mimic-cxr-jpg/2.0.0/files/p10/p10000032/s50414267.txt"], "mimic-cxr-jpg/2.0.0"),
        # images and the archive of reports side by side
        (["mimic-cxr/2.0.0/files/p10/p1/s5/a.dcm", "mimic-cxr/2.0.0/mimic-cxr-reports.zip"],
         "mimic-cxr/2.0.0/mimic-cxr-reports.zip"),
        (["mimic-cxr-jpg/2.0.0/files/p10/p10000032/s50414267/a.jpg"], None),
    ],
)  # fmt: skip
def test_reports_are_found_unpacked_or_as_archive(tmp_path, put, files, expected):
    for name in files:
        put(name)
    assert find_reports(tmp_path) == (tmp_path / expected if expected else None)
