"""The audit of a folder of label files against slow literal code, and its command line."""

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from cmcgns.audit.labels import audit_labels
from cmcgns.cli import run
from cmcgns.errors import InputError

PARTS = ("train", "valid", "test")
LEAKS = ("A1-image-overlap", "A2-group-overlap", "A3-mask-cut")


@pytest.fixture(scope="module")
def found(world):
    folder, groups = world
    return audit_labels(folder, groups={"rsna": groups})


def leaks(findings, scheme, *sources):
    """{(source, task, check, a, b): (count, total)} of the leaks, in images."""
    return {
        (f.source, f.task, f.check, f.split_a, f.split_b): (f.count, f.total)
        for f in findings
        if f.scheme == scheme and f.check in LEAKS and f.source in sources and f.unit == "images"
    }


def slow_overlaps(parts, patient, source, task, check):
    """Image by image; `parts` is split -> images."""
    counts = defaultdict(int)
    for i, b in enumerate(PARTS):
        for a in PARTS[:i]:
            for image in parts[b]:
                if any(patient[image] == patient[other] for other in parts[a]):
                    counts[a, b] += 1
    return {(source, task, check, a, b): (n, len(parts[b])) for (a, b), n in counts.items()}


def halves(rest):
    test, valid = train_test_split(rest, test_size=0.5, random_state=0)
    return valid, test


def test_official_rsna_is_what_the_released_code_does(world, found):
    folder, groups = world
    patient = dict(pd.read_csv(groups).to_numpy())
    exams = sorted(set(pd.read_csv(folder / "rsna/stage_2_train_labels.csv")["patientId"]))
    expected = {}
    for task, share in (("classification", 0.3), ("detection", 0.4), ("segmentation", 0.4)):
        train, rest = train_test_split(exams, test_size=share, random_state=0)
        parts = dict(zip(PARTS, (train, *halves(rest)), strict=True))
        expected |= slow_overlaps(parts, patient, "rsna", task, "A2-group-overlap")
    assert expected and leaks(found[0], "official", "rsna") == expected


def test_official_covidx_is_what_the_released_code_does(world, found):
    folder, groups = world
    known = dict(pd.read_csv(groups).to_numpy())
    patient, lists = {}, {}
    for name in ("train", "test"):
        lines = [line.split() for line in (folder / f"covidx/{name}_COVIDx9A.txt").read_text().splitlines()]
        lists[name] = [image for _, image, _, _ in lines]
        patient |= {image: known.get(who, who) for who, image, _, _ in lines}
    train, valid = train_test_split(lists["train"], train_size=0.8, random_state=0)
    parts = {"train": train, "valid": valid, "test": lists["test"]}
    expected = slow_overlaps(parts, patient, "covidx", "classification", "A2-group-overlap")
    assert len(expected) == 3 and leaks(found[0], "official", "covidx") == expected


def test_official_siim_is_what_the_released_code_does(world, found):
    table = pd.read_csv(world[0] / "siim/train-rle.csv")
    rows = list(zip(table["ImageId"], table[" EncodedPixels"], strict=True))
    masks = defaultdict(int)
    for image, code in rows:
        masks[image] += code != " -1"
    train, rest = train_test_split(rows, test_size=0.3, random_state=0)
    drawn = dict(zip(PARTS, (train, *halves(rest)), strict=True))
    parts = {name: sorted({image for image, _ in part}) for name, part in drawn.items()}
    itself = {image: image for image in masks}
    expected = slow_overlaps(parts, itself, "siim", "segmentation", "A1-image-overlap")
    for name, part in drawn.items():
        positive = [image for image in parts[name] if masks[image]]
        cut = sum(sum(image == other for other, _ in part) < masks[image] for image in positive)
        expected["siim", "segmentation", "A3-mask-cut", "", name] = (cut, len(positive))
    assert len(expected) == 6 and leaks(found[0], "official", "siim") == expected


def test_mimic_merges_its_test_part_in_official_and_paper(world, found):
    with gzip.open(world[0] / "mimic/mimic-cxr-2.0.0-metadata.csv.gz", "rt") as stream:
        frontal = pd.read_csv(stream).query("ViewPosition in ['AP', 'PA']")["dicom_id"]
    split = pd.read_csv(world[0] / "mimic/mimic-cxr-2.0.0-split.csv").set_index("dicom_id")["split"]
    n = int((split[frontal] == "test").sum())
    merged = {f.scheme: (f.count, f.total) for f in found[0] if f.check == "A11-test-before-selection"}
    assert merged == {"official": (n, n), "paper": (n, n)}


@pytest.mark.parametrize("seed", range(4))
def test_audited_has_no_finding(make_world, tmp_path, seed):
    groups = make_world(tmp_path, seed)
    findings, facts = audit_labels(tmp_path, ["audited"], {"rsna": groups})
    assert findings == []
    assert {fact.check for fact in facts} >= {"A4-counts", "A5-class-balance", "A10-trivial-baseline"}


def test_the_order_of_rows_changes_nothing_where_the_method_does_not_depend_on_it(world, found, tmp_path):
    folder, groups = world
    rng = np.random.default_rng(1)
    for path in folder.glob("*/*"):
        read = gzip.open if path.suffix == ".gz" else Path.open
        with read(path, "rt") as stream:
            head, *lines = stream.read().splitlines()
        lines = [lines[i] for i in rng.permutation(len(lines))]
        target = tmp_path / path.relative_to(folder).with_name(path.name.removesuffix(".gz"))
        target.parent.mkdir(exist_ok=True)
        target.write_text("\n".join([head, *lines]) + "\n")
    again, _ = audit_labels(tmp_path, groups={"rsna": groups})
    for scheme in ("paper", "audited"):
        names = ("rsna", "covidx", "siim", "object_cxr", "chexpert", "mimic_cxr")
        assert leaks(again, scheme, *names) == leaks(found[0], scheme, *names)
    assert leaks(again, "official", "rsna") == leaks(found[0], "official", "rsna")


def test_without_a_map_patients_are_said_to_be_unknown(world):
    findings, facts = audit_labels(world[0], ["paper"])
    assert not [f for f in findings if f.check == "A2-group-overlap" and f.source == "rsna"]
    unknown = {fact.source for fact in facts if fact.check == "A2-group-overlap"}
    assert unknown == {"rsna", "covidx", "siim", "object_cxr"}


def test_mimic_needs_its_split_file_only(world, tmp_path):
    (tmp_path / "mimic").mkdir()
    text = (world[0] / "mimic/mimic-cxr-2.0.0-split.csv").read_text()
    (tmp_path / "mimic/mimic-cxr-2.0.0-split.csv.gz").write_bytes(gzip.compress(text.encode()))
    (found,), _ = audit_labels(tmp_path, ["official"])
    n = text.count(",test\n")
    assert (found.check, found.count, found.total) == ("A11-test-before-selection", n, n)


def test_a_broken_file_is_a_finding_and_the_others_are_audited(world, tmp_path):
    for name in ("siim/train-rle.csv", "object-CXR/train.csv", "object-CXR/dev.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((world[0] / name).read_bytes())
    (tmp_path / "object-CXR/dev.csv").write_text("image_name,annotation\n08001.jpg,7 1 2\n")
    findings, _ = audit_labels(tmp_path, ["official"])
    assert {f.source for f in findings} == {"siim", "object_cxr"}
    (broken,) = [f for f in findings if f.source == "object_cxr"]
    assert broken.check == "A12-genuine-file" and "malformed annotation" in broken.detail


@pytest.mark.parametrize(
    ("schemes", "groups", "message"),
    [
        (["none"], {}, "unknown scheme"),
        (["paper"], {"nih": "x"}, "unknown source"),
        (["paper"], {}, "no label files"),
    ],
)
def test_bad_requests_are_told(tmp_path, schemes, groups, message):
    with pytest.raises(InputError, match=message):
        audit_labels(tmp_path, schemes, groups)


def test_the_command_writes_json_and_ends_with_1_on_a_leak(world, tmp_path, capsys):
    folder, groups = world
    arguments = ["audit", "labels", str(folder), "--groups", f"rsna={groups}"]
    assert run([*arguments, "--scheme", "audited", "--out", str(tmp_path / "a.json")]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["findings"] == []
    assert "0 findings" in capsys.readouterr().out
    assert run([*arguments, "--scheme", "official", "--out", str(tmp_path / "o.json")]) == 1
    out = capsys.readouterr().out.splitlines()
    document = json.loads((tmp_path / "o.json").read_text())
    assert sum(line.startswith(("critical", "warning")) for line in out) == len(document["findings"])
    ids = [name for f in document["findings"] for name in f["ids"]]
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in ids)
    assert run(["audit", "labels", str(folder), "--groups", "rsna"]) == 1
    assert "SOURCE=FILE" in capsys.readouterr().err
