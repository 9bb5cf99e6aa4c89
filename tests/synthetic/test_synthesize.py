from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest

from cmcgns.errors import InputError
from cmcgns.files import read_json, sha256_file
from cmcgns.synthetic.synthesize import MARK, SIZES, synthesize

TINY = dict.fromkeys(SIZES, 8)


def tree(root):
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path):
    for name, seed, workers in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        synthesize(
            tmp_path / name / "raw",
            tmp_path / name / "truth",
            sizes=TINY,
            seed=seed,
            workers=workers,
            image_long_side=64,
        )
    first, second, other = (tree(tmp_path / name) for name in "abc")
    assert first == second
    assert first != other


def test_manifest(world):
    manifest = read_json(world.truth / "manifest.json")
    assert manifest == json.loads(json.dumps(world.manifest))
    assert set(manifest["sources"]) == {"mimic_cxr", "chexpert", "rsna", "covidx", "siim", "object_cxr"}
    for record in manifest["sources"].values():
        for path, digest in record["label_files"].items():
            assert sha256_file(world.raw / path) == digest
        files = tree(world.raw / record["folder"])
        files = {f"{record['folder']}/{path}": digest for path, digest in files.items()}
        if record["folder"] == "mimic":
            files |= {f"mimic-reports/{p}": d for p, d in tree(world.raw / "mimic-reports").items()}
        text = "".join(f"{path} {digest}\n" for path, digest in sorted(files.items()))
        assert hashlib.sha256(text.encode()).hexdigest() == record["digest"]


def test_every_image_on_disk_is_in_the_truth(world):
    folders = {name: record["folder"] for name, record in world.manifest["sources"].items()}
    listed = {f"{folders[s]}/{p}" for s, p in zip(world.images.source, world.images.path, strict=True)}
    suffixes = {".jpg", ".jpeg", ".JPG", ".png", ".PNG", ".dcm"}
    present = {p.relative_to(world.raw).as_posix() for p in world.raw.rglob("*") if p.suffix in suffixes}
    assert listed == present
    assert not world.images.duplicated(["source", "image_id"]).any()


def test_truth_boxes_are_on_the_film(world):
    boxes = world.findings[["x1", "y1", "x2", "y2"]].dropna()
    assert len(boxes) > 0.93 * len(world.findings)
    assert ((boxes >= 0) & (boxes <= 1)).all(axis=None)
    assert (boxes.x1 < boxes.x2).all() and (boxes.y1 < boxes.y2).all()


def test_true_patients_are_shared_across_the_nih_sources_only(world):
    people = world.images.groupby("source").patient_id.agg(set)
    assert people["rsna"] & people["siim"] and people["rsna"] & people["covidx"]
    for one, two in (("mimic_cxr", "chexpert"), ("mimic_cxr", "rsna"), ("chexpert", "object_cxr")):
        assert not people[one] & people[two]


def test_truth_sentences_are_in_the_report_files(world):
    images = (
        world.images[world.images.source == "mimic_cxr"].drop_duplicates("study_id").set_index("study_id")
    )
    said = world.sentences[world.sentences.source == "mimic_cxr"]
    checked = 0
    for study, rows in said.groupby("study_id"):
        report = world.raw / "mimic-reports" / (images.path[study].rsplit("/", 1)[0] + ".txt")
        flat = re.sub(r"\s+", " ", report.read_text(encoding="utf-8"))
        assert all(sentence in flat for sentence in rows.sentence)
        checked += len(rows)
    assert checked > 100


def test_findings_name_their_sentences(world):
    rows = world.findings[world.findings.source == "chexpert"]
    assert rows.sentences.map(len).gt(0).mean() > 0.85
    for row in rows[rows.side.isin(["left", "right"])].itertuples():
        other = {"left": "right", "right": "left"}[row.side]
        assert not any(re.search(rf"\b{other}\b", sentence.lower()) for sentence in row.sentences)


def test_real_downloads_are_left_alone(tmp_path):
    precious = tmp_path / "raw" / "rsna" / "stage_2_train_labels.csv"
    precious.parent.mkdir(parents=True)
    precious.write_text("real")
    with pytest.raises(InputError, match="left alone"):
        synthesize(tmp_path / "raw", tmp_path / "truth", sizes=TINY, workers=1)
    assert precious.read_text() == "real" and not (tmp_path / "raw" / MARK).exists()


def test_a_second_run_replaces_the_first(tmp_path):
    small = {**TINY, "object_train": 12}
    synthesize(tmp_path / "raw", tmp_path / "truth", sizes=small, workers=1, image_long_side=64)
    synthesize(tmp_path / "raw", tmp_path / "truth", sizes=TINY, workers=1, image_long_side=64)
    assert len(list((tmp_path / "raw/object-CXR/train").iterdir())) == 8


@pytest.mark.parametrize("sizes", [{"rsna": 3}, {"nih": 10}])
def test_bad_sizes_are_refused(tmp_path, sizes):
    with pytest.raises(InputError, match="size"):
        synthesize(tmp_path / "raw", tmp_path / "truth", sizes=sizes)


def test_images_differ_between_patients(world):
    digests = world.images.groupby("film_id").size()
    assert len(digests) < len(world.images)  # shared exposures exist
    assert np.mean(world.images.height == world.images.width) < 0.6  # and films are not all square
