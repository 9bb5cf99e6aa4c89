import json

import pytest

from cmcgns.sources import NAMES, doctor
from cmcgns.sources.doctor import examine
from cmcgns.sources.versions import PUBLISHED


def test_an_empty_folder_misses_everything(tmp_path):
    entries = examine(tmp_path)
    assert [entry["source"] for entry in entries] == list(NAMES)
    assert {entry["status"] for entry in entries} == {"missing"}
    assert all(entry["missing"] and entry["where"] and entry["root"] is None for entry in entries)
    json.dumps(entries)


def test_small_downloads_are_complete_but_of_no_published_version(downloads):
    entries = {entry["source"]: entry for entry in examine(downloads)}
    assert {entry["status"] for entry in entries.values()} == {"unknown version"}
    rsna = entries["rsna"]
    assert rsna["root"] == downloads / "rsna" and rsna["problem"] is None
    assert rsna["counts"]["boxes"] == 1 and rsna["expected"] == PUBLISHED["rsna"]["stage 2"]
    assert rsna["images"] == {"needed": 2, "present": 2, "missing": 0, "without_row": 1}
    assert rsna["genuine"] == {"stage_2_train_labels.csv": False, "stage_2_detailed_class_info.csv": False}
    assert "pneumonia-challenge-dataset-mappings_2018.json" in rsna["optional"][0]
    assert entries["covidx"]["expected"] == PUBLISHED["covidx"]["9A"]


def test_genuine_files_of_a_known_version_are_ok(downloads, monkeypatch):
    small = {"images": 2, "boxes": 1, "Normal": 1}
    monkeypatch.setitem(PUBLISHED, "rsna", {"tiny": small})
    labels = downloads / "rsna/stage_2_train_labels.csv"
    monkeypatch.setitem(doctor.SHA256, labels.name, doctor.sha256_file(labels))
    entry = examine(downloads)[NAMES.index("rsna")]
    assert (entry["status"], entry["version"], entry["expected"]) == ("ok", "tiny", small)
    assert entry["genuine"][labels.name] is True


@pytest.mark.parametrize(
    ("gone", "name", "missing"),
    [
        ("covidx/test/r1.JPG", "covidx", "1 of 3 images"),
        ("mimic-reports/files/p10/p10000032/s50414267.txt", "mimic_cxr", "the reports"),
    ],
)
def test_what_is_missing_is_named(downloads, gone, name, missing):
    (downloads / gone).unlink()
    entry = examine(downloads)[NAMES.index(name)]
    assert entry["status"] == "incomplete" and entry["missing"][0].startswith(missing)


def test_a_fault_of_one_source_is_its_problem_and_the_others_go_on(downloads):
    (downloads / "siim/train-rle.csv").write_text("ImageId,EncodedPixels\n1.2.3,5\n")
    (downloads / "CheXpert-v1.0/valid.csv").unlink()
    entries = {entry["source"]: entry for entry in examine(downloads)}
    assert entries["siim"]["status"] == entries["chexpert"]["status"] == "incomplete"
    assert "row line 2: malformed run-length code" in entries["siim"]["problem"]
    assert "valid.csv is missing" in entries["chexpert"]["problem"]
    assert entries["siim"]["images"] == {}
    assert {entries[name]["status"] for name in ("mimic_cxr", "rsna", "covidx", "object_cxr")} == {
        "unknown version"
    }
