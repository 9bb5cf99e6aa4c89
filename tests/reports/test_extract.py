"""Reports on disk -> the table of studies: columns, reasons, kinds of sources, and bad input."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cmcgns.errors import InputError
from cmcgns.parquet import read_meta, read_parquet
from cmcgns.reports import extract as module
from cmcgns.reports.exceptions import CHARACTER_RANGES, NAMED_SECTIONS
from cmcgns.reports.extract import SCHEMA, extract, read_file, report_row

REPORT = (
    "                                 FINAL REPORT\n"
    " EXAMINATION:  CHEST (PA AND LAT)\n \n"
    " INDICATION:  ___ year old man with cough\n \n"
    " COMPARISON:  ___.\n \n"
    " FINDINGS: \n \n"
    " The heart is normal in size.  There is no\n"
    " pleural effusion.\n \n"
    " IMPRESSION: \n \n"
    " 1. Lungs clear.\n 2. No effusion\n"
)
SHORT = "FINAL REPORT\n IMPRESSION:  No change.\n"
BARE = "FINAL REPORT\n COMPARISON:  None.\n \n All is well with the lungs.\n"


def write(root: Path, study: str, text: str | bytes = REPORT, subject: str = "10000032") -> Path:
    path = root / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def run(tmp_path: Path, reports: Path, **options):
    counts = extract(reports, tmp_path / "out.parquet", **options)
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    return counts, {row["study_id"]: row for row in rows}


def test_one_report(tmp_path):
    write(tmp_path / "files", "50414267")
    counts, rows = run(tmp_path, tmp_path)
    assert rows == {
        "50414267": {
            "study_id": "50414267",
            "subject_id": "10000032",
            "impression": "1. Lungs clear.\n 2. No effusion",
            "findings": "The heart is normal in size.  There is no\n pleural effusion.",
            "last_paragraph": "",
            "comparison": "___.",
            "conclusion": "1. Lungs clear.\n 2. No effusion",
            # The impression has no full stop at its end, so its last sentence runs on into the findings.
            "sentences": [
                "lungs clear",
                "no effusion the heart is normal in size",
                "there is no pleural effusion",
            ],
            "n_tokens": 15,
            "kept": True,
            "reason": "",
        }
    }
    assert {reason: n for reason, n in counts.items() if n} == {"kept": 1}


def test_reasons_and_counts(tmp_path):
    write(tmp_path, "1")
    write(tmp_path, "2", SHORT)
    write(tmp_path, "3", BARE)
    write(tmp_path, "4", b"\n IMPRESSION: caf\xe9 in latin 1 is no UTF-8\n")
    write(tmp_path, "5", "")
    write(tmp_path, "6", "a\n IMPRESSION: 1. 2. ...\n")
    write(tmp_path, "50525523")
    (tmp_path / "p10" / "p10000032" / "s7.txt").mkdir()
    counts, rows = run(tmp_path, tmp_path)
    assert {study: row["reason"] for study, row in rows.items()} == {
        "1": "",
        "2": "fewer than 3 tokens",
        "3": "no impression or findings",
        "4": "not UTF-8",
        "5": "no impression or findings",
        "6": "fewer than 3 tokens",
        "7": "unreadable file",
        "50525523": "custom study",
    }
    assert counts == {
        "kept": 1,
        "fewer than 3 tokens": 2,
        "no impression or findings": 2,
        "not UTF-8": 1,
        "unreadable file": 1,
        "custom study": 1,
        "ignored name": 0,
        "study without a report file": 0,
    }
    assert [row["kept"] for row in rows.values()] == [not row["reason"] for row in rows.values()]
    assert (rows["2"]["sentences"], rows["2"]["n_tokens"]) == (["no change"], 2)
    assert (rows["3"]["last_paragraph"], rows["3"]["comparison"]) == ("All is well with the lungs.", "None.")
    assert rows["4"] | {"study_id": "", "subject_id": "", "reason": ""} == {
        name: [] if name == "sentences" else 0 if name == "n_tokens" else False if name == "kept" else ""
        for name in SCHEMA.names
    }


@pytest.mark.parametrize(
    ("text", "conclusion"),
    [
        ("a\n IMPRESSION: i\n FINDINGS: f\n COMPARISON: c", "i"),
        ("a\n FINDINGS: f\n COMPARISON: c", "f"),
        ("a\n FINDINGS: f\n IMPRESSION: \n", "f"),
        ("a\n COMPARISON: c\n NOTE: n\n \n p", "p"),
        ("a\n COMPARISON: c\n NOTE: n", "c"),
        ("a\n NOTE: n", ""),
        ("a\n IMPRESSION: first\n IMPRESSION: last\n", "last"),
        ("a\n IMPRESSION: first\n IMPRESSION: \n", "first"),  # a blank one is none
        ("a\n COMPARISON: c\n NOTE: n\n \n", ""),  # a last paragraph counts even when it is empty
        ("no header at all", ""),
    ],
)
def test_conclusion(text, conclusion):
    row = dict(zip(SCHEMA.names, report_row("10", "1", text), strict=True))
    assert row["conclusion"] == conclusion


def test_last_occurrence_of_each_section():
    text = "a\n FINDINGS: one\n CHEST: two\n CONCLUSION: three\n MPRESSION: four\n COMPARISON: x\n COMPARISONS: y \n"
    row = dict(zip(SCHEMA.names, report_row("10", "1", text), strict=True))
    assert (row["findings"], row["impression"], row["comparison"]) == ("two", "four", "y")


def test_impression_comes_first_and_runs_on_into_the_findings():
    text = "a\n FINDINGS: The heart is normal in size.\n IMPRESSION: Lungs clear. No effusion.\n"
    row = dict(zip(SCHEMA.names, report_row("10", "1", text), strict=True))
    assert row["sentences"] == ["lungs clear", "no effusion", "the heart is normal in size"]  # method.md 11.7
    text = "a\n FINDINGS: heart normal\n IMPRESSION: lungs clear\n"
    assert report_row("10", "1", text)[7] == ["lungs clear heart normal"]


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        (SHORT, {}, "fewer than 3 tokens"),  # method.md 11.7: "Normal." and "No change." are rejected
        ("a\n FINDINGS: Normal.\n", {}, "fewer than 3 tokens"),
        (SHORT, {"min_report_tokens": 2}, ""),
        (SHORT, {"min_report_tokens": 2, "deid": "drop"}, ""),
        ("a\n FINDINGS: Normal.\n", {"min_report_tokens": 1, "min_sentence_tokens": 1}, ""),
        ("a\n FINDINGS: Normal.\n", {"min_report_tokens": 1}, "fewer than 1 tokens"),
        ("a\n FINDINGS: see ___ now\n", {}, ""),
        ("a\n FINDINGS: see ___ now\n", {"deid": "drop"}, "fewer than 3 tokens"),
        ("a\n NDICATION: cough and fever\n", {}, ""),
        ("a\n NDICATION: cough and fever\n", {"misspellings": "corrected"}, "no impression or findings"),
    ],
)
def test_options(text, options, reason):
    assert report_row("10", "1", text, **options)[-1] == reason


def test_options_reach_the_rows_and_the_file(tmp_path):
    write(tmp_path, "1", "a\n FINDINGS: see ___ now\n NDICATION: but why\n")
    options = {
        "min_report_tokens": 4,
        "min_sentence_tokens": 1,
        "misspellings": "corrected",
        "deid": "drop",
    }
    counts, rows = run(tmp_path, tmp_path, **options)
    assert rows["1"]["sentences"] == ["see now"]
    assert rows["1"]["impression"] == ""
    assert rows["1"]["reason"] == "fewer than 4 tokens"
    told = options | {"caption_sections": ["impression", "findings"]}
    assert read_meta(tmp_path / "out.parquet") == {"options": told, "counts": counts}


@pytest.mark.parametrize(
    "options",
    [
        {"misspellings": "ours"},
        {"deid": "mask"},
        {"min_report_tokens": 0},
        {"min_sentence_tokens": -1},
    ],
)
def test_options_with_unknown_values(tmp_path, options):
    write(tmp_path, "1")
    with pytest.raises(InputError, match="expected"):
        extract(tmp_path, tmp_path / "out.parquet", **options)
    assert not (tmp_path / "out.parquet").exists()


# ---------------------------------------------------------------------------------------- custom studies


@pytest.mark.parametrize("study", ["50525523", "58235663"])
def test_custom_character_range(study):
    text = "\r\n".join(
        f" line {i:03d}" for i in range(100)
    )  # the range counts one character for a line's end
    start, stop = CHARACTER_RANGES[study]
    row = dict(zip(SCHEMA.names, report_row("10", study, text), strict=True))
    assert row["conclusion"] == text.replace("\r\n", "\n")[start:stop]
    assert len(row["conclusion"]) == stop - start
    assert (row["kept"], row["reason"], row["impression"], row["sentences"]) == (
        False,
        "custom study",
        "",
        [],
    )


@pytest.mark.parametrize("study", ["51491012", "56451190", "53202765"])
def test_custom_section(study):
    header = NAMED_SECTIONS[study].upper()
    text = f"a\n {header}: first\n {header}:  last \n \n of it\n IMPRESSION: other\n COMPARISON: c\n"
    row = dict(zip(SCHEMA.names, report_row("10", study, text), strict=True))
    assert row["conclusion"] == "last \n \n of it"
    assert (row["kept"], row["reason"], row["impression"], row["comparison"]) == (
        False,
        "custom study",
        "",
        "",
    )


def test_custom_section_that_is_not_there():
    assert report_row("10", "51491012", "a\n IMPRESSION: lungs are clear\n")[6] == ""


# -------------------------------------------------------------------------------------------------- files


def test_order_is_by_subject_and_study(tmp_path):
    for subject, study in [("11000001", "3"), ("10000009", "9"), ("10000009", "10"), ("10000002", "5")]:
        write(tmp_path, study, subject=subject)
    _, rows = run(tmp_path, tmp_path)
    assert [(row["subject_id"], row["study_id"]) for row in rows.values()] == [
        ("10000002", "5"),
        ("10000009", "10"),
        ("10000009", "9"),
        ("11000001", "3"),
    ]


@pytest.mark.parametrize("level", ["parent", "files", "p10"])
def test_levels_of_the_folder(tmp_path, level):
    root = tmp_path / "mimic-cxr-reports"
    write(root / "files", "1")
    write(root / "files", "2", subject="10000033")
    reports = {"parent": root, "files": root / "files", "p10": root / "files" / "p10"}[level]
    assert list(run(tmp_path, reports)[1]) == ["1", "2"]


def test_zip_equals_folder(tmp_path):
    files = tmp_path / "raw" / "files"
    write(files, "1")
    write(files, "2", BARE, subject="10000033")
    write(files, "3", REPORT.replace("\n", "\r\n"), subject="11000000")
    write(files, "4", b"\xff\n IMPRESSION: a b c", subject="11000000")
    write(files, "50525523", subject="12000000")
    (files / "p10" / "p10000032" / "index.html").write_text("x")
    from_folder = run(tmp_path, tmp_path / "raw")
    assert from_folder[0]["ignored name"] == 1
    archive = tmp_path / "zipped" / "mimic-cxr-reports.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.mkdir("files")
        for path in sorted(files.rglob("*.*"), reverse=True):
            opened.write(path, path.relative_to(files.parent))
    folder_bytes = (tmp_path / "out.parquet").read_bytes()
    assert run(tmp_path, archive) == from_folder
    assert (tmp_path / "out.parquet").read_bytes() == folder_bytes
    assert run(tmp_path, archive.parent) == from_folder


def test_damaged_and_encrypted_zip_members_get_a_reason(tmp_path):
    archive = tmp_path / "reports.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("files/p10/p10000032/s1.txt", REPORT)
        opened.writestr("files/p10/p10000032/s2.txt", REPORT)
        second = opened.getinfo("files/p10/p10000032/s2.txt").header_offset
    data = bytearray(archive.read_bytes())
    damaged = data.index(b"Lungs clear")
    data[damaged] ^= 1  # its checksum no longer agrees
    for marker, flags_at in (
        (b"PK\x01\x02", 8),
        (b"PK\x03\x04", 6),
    ):  # set the bit "encrypted" of the second member
        data[data.rindex(marker) + flags_at] |= 1
    assert data[second + 6] & 1
    archive.write_bytes(data)
    counts, rows = run(tmp_path, archive)
    assert {study: row["reason"] for study, row in rows.items()} == dict.fromkeys("12", "unreadable file")
    assert counts["unreadable file"] == 2


def test_unexpected_names_are_counted(tmp_path):
    path = write(tmp_path, "1")
    for name in ("x1.txt", "s1.txt.bak", "sabc.txt", ".DS_Store", "s1.TXT"):
        (path.parent / name).write_text("x")
    (path.parent / "s1").mkdir()  # the study's folder of images is expected
    (path.parent.parent / "index.html").write_text("x")
    (path.parent.parent / "old").mkdir()
    (path.parent.parent / "p123").write_text("a file, not a patient")
    (path.parent.parent / "p10000099").mkdir()  # a patient without reports
    (tmp_path / "cxr-study-list.csv.gz").write_text("beside the groups nothing is counted")
    counts, rows = run(tmp_path, tmp_path)
    assert list(rows) == ["1"]
    assert counts["ignored name"] == 8


def test_carriage_returns_and_byte_order_mark():
    expected = report_row("10", "1", REPORT)
    assert report_row("10", "1", REPORT.replace("\n", "\r\n")) == expected
    assert report_row("10", "1", REPORT.replace("\n", "\r")) == expected
    assert report_row("10", "1", "\ufeff" + REPORT) == expected


def test_odd_bytes_survive_in_the_sections(tmp_path):
    write(tmp_path, "1", "a\n IMPRESSION: caf\u00e9 \u2265 5\u00b0 \x00 stays\n")
    _, rows = run(tmp_path, tmp_path)
    assert rows["1"]["impression"] == "caf\u00e9 \u2265 5\u00b0 \x00 stays"
    assert rows["1"]["sentences"] == ["caf 5 stays"]


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan", "N/A"])
def test_words_for_missing_are_text(tmp_path, word):
    write(tmp_path, "1", f"a\n FINDINGS: {word}\n IMPRESSION: all is well.\n")
    assert run(tmp_path, tmp_path)[1]["1"]["findings"] == word
    assert read_parquet(tmp_path / "out.parquet")["findings"].tolist() == [word]


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200000])
def test_read_file(tmp_path, size):
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "x").write_bytes(data)
    assert read_file(str(tmp_path / "x")) == data


def test_many_batches_are_one_table(tmp_path, monkeypatch):
    for study in range(10, 17):
        write(tmp_path, str(study), REPORT.replace("Lungs", f"Lungs {study}"))
    _, at_once = run(tmp_path, tmp_path)
    monkeypatch.setattr(module, "_ROWS_PER_BATCH", 3)
    _, in_three = run(tmp_path, tmp_path)
    assert in_three == at_once
    assert [row["sentences"][0] for row in in_three.values()] == [
        f"lungs {study} clear" for study in range(10, 17)
    ]


def test_same_reports_same_bytes_and_the_schema(tmp_path):
    write(tmp_path, "1")
    write(tmp_path, "5", "")
    extract(tmp_path, tmp_path / "a.parquet")
    extract(tmp_path, tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.names == SCHEMA.names
    assert [str(kind).replace("element", "item") for kind in schema.types] == [
        str(kind) for kind in SCHEMA.types
    ]


# ---------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("kind", ["nothing", "empty", "images only"])
def test_no_reports(tmp_path, kind):
    root = tmp_path / "raw"
    if kind != "nothing":
        root.mkdir()
    if kind == "images only":
        (root / "files" / "p10" / "p10000032" / "s50414267").mkdir(parents=True)
    with pytest.raises(InputError, match="p10/p10000032/s50414267.txt") as caught:
        extract(root, tmp_path / "out.parquet")
    assert caught.value.file == root
    assert not (tmp_path / "out.parquet").exists()


def test_a_study_of_two_patients(tmp_path):
    write(tmp_path, "7", subject="10000032")
    second = write(tmp_path, "7", subject="11000001")
    with pytest.raises(InputError, match="p10000032/s7.txt") as caught:
        extract(tmp_path, tmp_path / "out.parquet")
    assert caught.value.file == str(second)


def test_a_study_twice_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as opened:
        opened.writestr("files/p10/p10000032/s1.txt", REPORT)
        opened.writestr("mimic/files/p10/p10000032/s1.txt", REPORT)
    with pytest.raises(InputError, match="second report"):
        extract(tmp_path / "twice.zip", tmp_path / "out.parquet")


def test_not_a_zip(tmp_path):
    (tmp_path / "mimic-cxr-reports.zip").write_text("<html>log in</html>")
    with pytest.raises(InputError, match="not a readable zip file"):
        extract(tmp_path, tmp_path / "out.parquet")


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    write(tmp_path, "1")

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(module.os, "listdir", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        extract(tmp_path, tmp_path / "out.parquet")


def test_no_report_text_in_the_counts(tmp_path):
    write(tmp_path, "1", "a\n IMPRESSION: secret words here\n")
    write(tmp_path, "2", b"\xff secret")
    counts, _ = run(tmp_path, tmp_path)
    assert "secret" not in json.dumps([counts, read_meta(tmp_path / "out.parquet")])
