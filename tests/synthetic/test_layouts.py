"""The raw layouts are read here as anyone would: csv, json, Pillow, pydicom; none of our own readers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections import Counter, defaultdict

import numpy as np
import pydicom
import pytest
from PIL import Image

from cmcgns.sources.vocabulary import COMPETITION
from cmcgns.synthetic.files import encode_dicom, encode_jpeg, encode_png, encode_rle
from cmcgns.synthetic.layouts.rsna import MAPPING
from cmcgns.synthetic.report_text import CUSTOM_EMPTY, CUSTOM_RANGE, CUSTOM_SECTION
from cmcgns.synthetic.terms import LABELS


def rows_of(path):
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def decode_rle(code, size=1024):
    """Spec 5a, by the letter: gaps count from the end of the previous run, columns first."""
    flat, at = np.zeros(size * size, bool), 0
    numbers = list(map(int, code.split()))
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        at += gap
        flat[at : at + length] = True
        at += length
    return flat.reshape(size, size).T


def test_rle_by_hand():
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1] = True  # column 1: flat positions 5, 6
    mask[0, 3] = True  # position 12
    assert encode_rle(mask) == "5 2 5 1"
    rng = np.random.default_rng(0)
    noise = rng.random((32, 32)) < 0.4
    assert np.array_equal(decode_rle(encode_rle(noise), 32), noise)


def test_dicom_is_baseline_jpeg_and_decodes():
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    patient = {"PatientID": "p", "PatientSex": "F", "PatientAge": "58", "ViewPosition": "PA"}
    data = pydicom.dcmread(io.BytesIO(encode_dicom(grey, ("1.2.3", "1.2.4", "1.2.5"), patient)))
    assert data.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert (data.Modality, data.ViewPosition, data.PatientAge, data.BitsStored) == ("CR", "PA", "58", 8)
    pixels = data.pixel_array
    assert pixels.shape == (64, 64) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - grey).mean() < 2


@pytest.mark.parametrize(
    ("kind", "mode"), [("grey", "L"), ("rgb", "RGB"), ("rgba", "RGBA"), ("grey16", "I;16")]
)
def test_png_kinds(kind, mode):
    image = Image.open(io.BytesIO(encode_png(np.full((8, 6), 100, np.uint8), kind)))
    assert image.mode == mode and image.size == (6, 8)
    assert Image.open(io.BytesIO(encode_jpeg(np.zeros((8, 6), np.uint8)))).mode == "L"


def test_mimic_tables_and_files_match(world):
    root = world.raw / "mimic"
    metadata = rows_of(root / "mimic-cxr-2.0.0-metadata.csv.gz")
    splits = {r["dicom_id"]: r for r in rows_of(root / "mimic-cxr-2.0.0-split.csv.gz")}
    assert list(metadata[0])[:7] == [
        "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    ]  # fmt: skip
    for row in metadata:
        assert re.fullmatch(r"([0-9a-f]{8}-){4}[0-9a-f]{8}", row["dicom_id"])
        folder = f"files/p{row['subject_id'][:2]}/p{row['subject_id']}/s{row['study_id']}"
        image = Image.open(root / folder / f"{row['dicom_id']}.jpg")
        assert image.mode == "L" and image.size == (int(row["Columns"]), int(row["Rows"]))
        assert max(image.size) == 128
        assert (world.raw / "mimic-reports" / f"{folder}.txt").read_text(encoding="utf-8").strip()
        assert splits[row["dicom_id"]]["study_id"] == row["study_id"]
    assert len(list(root.rglob("*.jpg"))) == len(metadata) == len(splits)


def test_mimic_quirks(world):
    metadata = rows_of(world.raw / "mimic" / "mimic-cxr-2.0.0-metadata.csv.gz")
    views = Counter(row["ViewPosition"] for row in metadata)
    assert {"AP", "PA", "LATERAL"} <= set(views)
    frontal = Counter(r["study_id"] for r in metadata if r["ViewPosition"] in ("AP", "PA"))
    assert max(frontal.values()) >= 2
    studies = {row["study_id"] for row in metadata}
    assert {name[1:] for name in (CUSTOM_RANGE[0], CUSTOM_EMPTY, CUSTOM_SECTION[0])} <= studies
    text = "\n".join(p.read_text(encoding="utf-8") for p in (world.raw / "mimic-reports").rglob("*.txt"))
    for mark in (
        "CHEST, PA LATERAL:",
        "FINDINGS AND IMPRESSION:",
        "CONCLUSION:",
        "FINDNGS:",
        "ADDENDUM:",
        "___",
    ):
        assert mark in text
    labels = rows_of(world.raw / "mimic" / "mimic-cxr-2.0.0-chexpert.csv.gz")
    assert list(labels[0]) == ["subject_id", "study_id", *sorted(LABELS)]
    assert {row[label] for row in labels for label in LABELS} <= {"1.0", "0.0", "-1.0", ""}
    assert len(labels) < len(studies)


def test_mimic_views_and_blanks_in_a_larger_plan():
    from cmcgns.synthetic.layouts.mimic_cxr import _films_of, _visits
    from cmcgns.synthetic.world import make_population

    visits, _ = _visits(make_population("mimic", 400, seed=0), 0, 0.03)
    rows = [row for visit in visits for _, row in _films_of(visit, 0, 128)]
    assert set(row["ViewPosition"] for row in rows) == {"AP", "PA", "LATERAL", "LL", ""}
    by_subject = defaultdict(set)
    for visit in visits:
        by_subject[visit.subject].add(visit.split)
    assert all(len(splits) == 1 for splits in by_subject.values())
    assert {v.split for v in visits} == {"train", "validate", "test"}
    assert len({v.number for v in visits}) == len(visits)


def test_chexpert(world):
    root = world.raw / "chexpert"
    train, valid = (rows_of(root / "CheXpert-v1.0-small" / f"{part}.csv") for part in ("train", "valid"))
    assert list(train[0]) == ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS]
    assert sum(r["Frontal/Lateral"] == "Frontal" for r in train) == 40
    assert sum(r["Frontal/Lateral"] == "Frontal" for r in valid) == 8
    assert {r[label] for r in train for label in LABELS} == {"1.0", "0.0", "-1.0", ""}
    assert {r[label] for r in valid for label in LABELS} <= {"1.0", "0.0"}
    assert [r["Sex"] for r in train].count("Unknown") == 1
    assert "0" in {r["Age"] for r in train}
    for row in train + valid:
        assert (row["AP/PA"] == "") == (row["Frontal/Lateral"] == "Lateral")
        assert Image.open(root / row["Path"]).mode == "L"
    number = [int(re.search(r"patient(\d{5})/study\d+/view\d+_", r["Path"]).group(1)) for r in train + valid]
    assert min(number) == 1 and min(number[len(train) :]) == 64541
    assert max(Counter(number).values()) > 1
    assert len(list(root.rglob("*.jpg"))) == len(train) + len(valid)


def test_rsna(world):
    root = world.raw / "rsna"
    labels = rows_of(root / "stage_2_train_labels.csv")
    classes = rows_of(root / "stage_2_detailed_class_info.csv")
    assert list(labels[0]) == ["patientId", "x", "y", "width", "height", "Target"]
    assert [r["patientId"] for r in labels] == [r["patientId"] for r in classes]  # once per box
    boxes, kind = defaultdict(list), {r["patientId"]: r["class"] for r in classes}
    for row in labels:
        if row["Target"] == "0":
            assert row["x"] == row["y"] == row["width"] == row["height"] == ""
        else:
            x, y, w, h = (float(row[name]) for name in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and w >= 40 and h >= 45 and x + w <= 1024 and y + h <= 1024
            boxes[row["patientId"]].append((x, y, w, h))
            assert row["x"].endswith(".0")
        assert (kind[row["patientId"]] == "Lung Opacity") == (row["Target"] == "1")
    assert set(kind.values()) == {"Lung Opacity", "No Lung Opacity / Not Normal", "Normal"}
    assert max(map(len, boxes.values())) > 1
    films = {p.stem: p for p in (root / "stage_2_train_images").glob("*.dcm")}
    assert set(films) == set(kind) and len(kind) == 40
    data = pydicom.dcmread(films[next(iter(boxes))])
    assert data.pixel_array.shape == (1024, 1024) and data.PatientID in kind
    assert data.ViewPosition in ("AP", "PA")
    tested = {p.stem for p in (root / "stage_2_test_images").glob("*.dcm")}
    assert {r["patientId"] for r in rows_of(root / "stage_2_sample_submission.csv")} == tested


def test_rsna_mapping_shares_patients(world):
    mapping = json.loads((world.raw / "rsna" / MAPPING).read_text())
    exams = Counter(entry["img_id"].split("_")[0] for entry in mapping)
    assert max(exams.values()) > 1
    truth = world.images.set_index(["source", "image_id"]).patient_id
    people = defaultdict(set)
    for entry in mapping:
        people[entry["img_id"].split("_")[0]].add(truth["rsna", entry["subset_img_id"]])
    assert all(len(true) == 1 for true in people.values())


def test_rsna_boxes_are_the_drawn_consolidations(world):
    found = world.findings[(world.findings.source == "rsna") & (world.findings.label == "Consolidation")]
    boxes = defaultdict(list)
    for row in rows_of(world.raw / "rsna" / "stage_2_train_labels.csv"):
        if row["Target"] == "1":
            boxes[row["patientId"]].append([float(row[n]) for n in ("x", "y", "width", "height")])
    checked = 0
    for exam, given in boxes.items():
        true = found[(found.image_id == exam) & found.x1.notna()]
        assert len(true) == len(given)
        for x1, y1, x2, y2 in true[["x1", "y1", "x2", "y2"]].to_numpy() * 1024:
            near = min(given, key=lambda b: abs(b[0] - x1) + abs(b[1] - y1))
            assert near[0] <= x1 + 1 and near[1] <= y1 + 1  # the same box, or one widened to the least size
            assert near[0] + near[2] >= x2 - 1 and near[1] + near[3] >= y2 - 1
            checked += 1
    assert checked > 5


def test_covidx(world):
    root = world.raw / "covidx"
    for part, count in (("train", 40), ("test", 10)):
        lines = (root / f"{part}_COVIDx9A.txt").read_text(encoding="utf-8").splitlines()
        assert len(lines) == count
        names = []
        for line in lines:
            patient, name, label, _ = line.rsplit(" ", 3)
            assert patient and label in ("normal", "pneumonia", "COVID-19")
            Image.open(root / part / name).load()
            names.append(name)
        assert sorted(names) == sorted(p.name for p in (root / part).iterdir())
    train = (root / "train_COVIDx9A.txt").read_text(encoding="utf-8").splitlines()
    assert {len(line.split(" ")) for line in train} == {4, 5}
    by_class = defaultdict(set)
    for line in train:
        by_class[line.split(" ")[-2]].add(line.split(" ")[-1])
    assert "rnsa" in {line.split(" ")[-1] for line in train}
    assert by_class["COVID-19"] & by_class["pneumonia"]  # the source does not quite give the class away
    exams = {p.stem for p in (world.raw / "rsna" / "stage_2_train_images").glob("*.dcm")}
    borrowed = {line.split(" ")[0] for line in train if line.endswith((" rsna", " rnsa"))}
    assert borrowed and borrowed <= exams
    modes = {Image.open(p).mode for p in (root / "train").iterdir()}
    assert {"L", "RGB", "I;16"} <= modes
    assert {p.suffix for p in (root / "train").iterdir()} >= {".png", ".jpg", ".jpeg", ".JPG", ".PNG"}


def test_the_same_film_in_two_sources_is_the_same_picture(world):
    films = world.images
    shared = films[(films.source == "covidx") & films.film_id.isin(films[films.source == "rsna"].film_id)]
    row = shared[shared.path.str.endswith(".png")].iloc[0]
    twin = films[(films.source == "rsna") & (films.film_id == row.film_id)].iloc[0]
    small = np.asarray(Image.open(world.raw / "covidx" / row.path)).astype(float)
    large = pydicom.dcmread(world.raw / "rsna" / twin.path).pixel_array
    large = np.asarray(Image.fromarray(large).resize(small.shape[::-1], Image.Resampling.BOX))
    assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.99


def test_siim(world):
    root = world.raw / "siim"
    lines = (root / "train-rle.csv").read_text().splitlines()
    assert lines[0] == "ImageId, EncodedPixels"
    codes = defaultdict(list)
    for line in lines[1:]:
        image, code = line.split(",")
        assert code.startswith(" ")
        codes[image].append(code.strip())
    positive = {image for image, rows in codes.items() if rows != ["-1"]}
    assert len(codes) == 40 and 0 < len(positive) < 40
    files = {p.stem: p for p in root.rglob("*.dcm")}
    assert len(files) == 41 and len(set(files) - set(codes)) == 1  # one film without a row
    truth = world.images[world.images.source == "siim"].set_index("image_id").Pneumothorax
    assert positive == set(truth[truth == 1].index) & set(codes)
    for image in positive:
        mask = np.any([decode_rle(code) for code in codes[image]], axis=0)
        found = world.findings[(world.findings.image_id == image) & (world.findings.label == "Pneumothorax")]
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert columns[0] / 1024 == pytest.approx(found.x1.min(), abs=0.01)
        assert (columns[-1] + 1) / 1024 == pytest.approx(found.x2.max(), abs=0.01)
        assert rows[0] / 1024 == pytest.approx(found.y1.min(), abs=0.01)
    path = files[next(iter(positive))]
    data = pydicom.dcmread(path)
    assert path.parts[-3:-1] == (data.StudyInstanceUID, data.SeriesInstanceUID)
    assert data.pixel_array.shape == (1024, 1024)


def test_siim_rows_of_one_mask():
    """Cut masks join to the whole one; some rows overlap, some do not; most masks are one row."""
    from cmcgns.synthetic.draw import Drawing
    from cmcgns.synthetic.films import Film, _mask_rows
    from cmcgns.synthetic.world import make_population

    studies = make_population("nih", 60, seed=0, rates={"Pneumothorax": 0.5})
    study = next(s for s in studies if [f.label for f in s.findings][:1] == ["Pneumothorax"])
    film = Film("siim", "i", "p", "f", study, "PA", "nih", 64, masks=True)
    mask = np.zeros((64, 64), bool)
    mask[10:50, 40:50] = True
    whole = np.kron(mask, np.ones((16, 16), bool))
    kinds = Counter()
    for i in range(30):
        rows = _mask_rows(film, Drawing(np.zeros((64, 64)), {0: mask}, {}, []), np.random.default_rng(i))
        pieces = [decode_rle(row) for row in rows]
        assert np.array_equal(np.any(pieces, axis=0), whole)
        kinds["one" if len(rows) == 1 else "overlap" if np.sum(pieces) > whole.sum() else "apart"] += 1
    assert kinds["one"] > kinds["overlap"] > 0 and kinds["apart"] > 0


def test_object_cxr(world):
    root = world.raw / "object-CXR"
    counts, shapes = Counter(), Counter()
    for part, n in (("train", 12), ("dev", 8)):
        rows = rows_of(root / f"{part}.csv")
        assert list(rows[0]) == ["image_name", "annotation"] and len(rows) == n
        for row in rows:
            width, height = Image.open(root / part / row["image_name"]).size
            objects = row["annotation"].split(";") if row["annotation"] else []
            counts[len(objects)] += 1
            for item in objects:
                shape, *numbers = map(int, item.split(" "))
                shapes[shape] += 1
                points = np.array(numbers).reshape(-1, 2)
                assert len(points) == 2 if shape < 2 else len(points) >= 3
                assert (points >= 0).all() and (points < (width, height)).all()
    assert set(shapes) == {0, 1, 2} and counts[0] > 0 and max(counts) == 5


def test_competition_labels_are_all_there(world):
    frontal = world.images[world.images["view"] != "LATERAL"]
    assert (frontal[list(COMPETITION)].sum() > 0).all()
