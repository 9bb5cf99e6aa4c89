"""All reports of MIMIC-CXR -> one parquet table with one row a study (spec data.md 1b-1d)."""

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from cmcgns.errors import InputError
from cmcgns.parquet import write_parquet
from cmcgns.reports.exceptions import CHARACTER_RANGES, NAMED_SECTIONS
from cmcgns.reports.sections import section_name, split_sections
from cmcgns.reports.sentences import count_tokens, split_sentences
from cmcgns.sources.mimic_cxr import find_reports

ZIP_NAME = "mimic-cxr-reports.zip"
# In the order in which upstream looks for a conclusion.
SECTION_COLUMNS = ("impression", "findings", "last_paragraph", "comparison")
CAPTION_SECTIONS = ("impression", "findings")  # make the caption, in this order, joined by a blank
SCHEMA = pa.schema(
    [("study_id", pa.string()), ("subject_id", pa.string())]
    + [(name, pa.string()) for name in (*SECTION_COLUMNS, "conclusion")]
    + [("sentences", pa.list_(pa.string())), ("n_tokens", pa.int64()), ("kept", pa.bool_()), ("reason", pa.string())]
)  # fmt: skip

MISSING = f"no {' or '.join(CAPTION_SECTIONS)}"
CUSTOM, NOT_UTF8, UNREADABLE = "custom study", "not UTF-8", "unreadable file"
IGNORED, NO_REPORT_FILE = "ignored name", "study without a report file"

_LAYOUT = "p10/p10000032/s50414267.txt below it, its folder `files` or a zip file with that layout"
_GROUP = re.compile(r"p[0-9]{2}").fullmatch
_PATIENT = re.compile(r"p[0-9]{3,}").fullmatch
_REPORT = re.compile(r"s[0-9]+\.txt").fullmatch
_STUDY_FOLDER = re.compile(r"s[0-9]+").fullmatch  # holds the study's images where downloads were merged
_ZIP_MEMBER = re.compile(r"(?:.*/)?p[0-9]{2}/p([0-9]{3,})/s([0-9]+)\.txt", re.DOTALL).fullmatch
_READ_ERRORS = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # RuntimeError: encrypted
_READ_SIZE = 1 << 16
_ROWS_PER_BATCH = 2048  # bounds the memory spent on Python strings

Report = tuple[str, str, str]  # subject, study (digits), path or zip member
Row = tuple[str, str, str, str, str, str, str, list[str], int, bool, str]


def extract_reports(*, raw: Path, out: Path, world: Path | None = None, **options: Any) -> dict[str, int]:
    """The step `extract_reports`: `extract` of the reports among the downloads in `raw`.

    Args:
        world: the manifest of a synthetic world, which stands for its raw files.
    """
    return extract(find_reports(raw) or raw, out, **options)


def extract(
    reports: Path,
    out: Path,
    *,
    min_report_tokens: int = 3,
    min_sentence_tokens: int = 2,
    misspellings: str = "upstream",
    deid: str = "keep",
) -> dict[str, int]:
    """Section every report, cut its caption into sentences and write one row a study, sorted by subject and study.

    Args:
        reports: folder with `files/p10/p10000032/s50414267.txt` (or `files`, or one `p10`), or `mimic-cxr-reports.zip`
            or the folder that holds it; the zip is preferred.
        out: the parquet file to write, columns `SCHEMA`.
        min_report_tokens: reports with fewer tokens in all kept sentences are discarded.
        min_sentence_tokens: sentences with fewer tokens are dropped.
        misspellings: "upstream" or "corrected", see `section_name`.
        deid: "keep" or "drop", see `split_sentences`.

    Returns:
        How many studies were kept and discarded for each reason, and how many names below `reports` were ignored.

    Raises:
        InputError: no reports, a study that occurs twice, or an option with an unknown value.
    """
    _check_options(min_report_tokens, min_sentence_tokens, misspellings, deid)
    options = {
        "min_report_tokens": min_report_tokens,
        "min_sentence_tokens": min_sentence_tokens,
        "misspellings": misspellings,
        "deid": deid,
    }
    reasons = [MISSING, _short(min_report_tokens), CUSTOM, NOT_UTF8, UNREADABLE]
    counts = dict.fromkeys(["kept", *reasons, IGNORED, NO_REPORT_FILE], 0)
    batches, rows = [], []
    with _opened(Path(reports)) as (listing, counts[IGNORED], read):
        _refuse_duplicates(listing)
        if not listing:
            raise InputError("no report found", file=reports, expected=_LAYOUT)
        for subject, study, path in listing:
            row = _read_row(read, subject, study, path, options)
            counts[row[-1] or "kept"] += 1
            rows.append(row)
            if len(rows) == _ROWS_PER_BATCH:
                batches.append(_batch(rows))
                rows = []
    table = pa.Table.from_batches([*batches, _batch(rows)], SCHEMA)
    meta = {"options": options | {"caption_sections": CAPTION_SECTIONS}, "counts": counts}
    write_parquet(table.to_pandas(types_mapper=pd.ArrowDtype), out, meta)
    return counts


def _read_row(
    read: Callable[[str], bytes], subject: str, study: str, path: str, options: dict[str, Any]
) -> Row:
    """The row of the report at `path`; one that cannot be read gets a reason."""
    try:
        text = read(path).decode()
    except UnicodeDecodeError:
        return _discarded(subject, study, NOT_UTF8)
    except _READ_ERRORS:
        return _discarded(subject, study, UNREADABLE)
    return report_row(subject, study, text, **options)


def report_row(
    subject: str,
    study: str,
    text: str,
    *,
    min_report_tokens: int = 3,
    min_sentence_tokens: int = 2,
    misspellings: str = "upstream",
    deid: str = "keep",
) -> Row:
    """One report's row, in the order of `SCHEMA`; arguments as in `extract`."""
    if "\r" in text:  # newlines as `open(...)` reads them; character ranges count on it
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if study in CHARACTER_RANGES:
        start, stop = CHARACTER_RANGES[study]
        return _discarded(subject, study, CUSTOM, text[start:stop])
    names, texts = split_sections(text, misspellings=misspellings)
    last = dict(zip(names, texts, strict=True))  # of equal names the last one stays
    if study in NAMED_SECTIONS:
        return _discarded(subject, study, CUSTOM, last.get(NAMED_SECTIONS[study], "").strip())
    present = [name for name in SECTION_COLUMNS if name in last]
    found = {name: last[name].strip() for name in present}
    conclusion = found[present[0]] if present else ""
    caption = " ".join([found.get(name, "") for name in CAPTION_SECTIONS])
    sentences = split_sentences(caption, min_tokens=min_sentence_tokens, deid=deid)
    n_tokens = count_tokens(sentences)
    reason = ""
    if n_tokens < min_report_tokens:
        reason = _short(min_report_tokens) if caption.strip() else MISSING
    columns = [found.get(name, "") for name in SECTION_COLUMNS]
    return (study, subject, *columns, conclusion, sentences, n_tokens, not reason, reason)


def _discarded(subject: str, study: str, reason: str, conclusion: str = "") -> Row:
    """The row of a study without sections."""
    return (study, subject, "", "", "", "", conclusion, [], 0, False, reason)


def _short(min_report_tokens: int) -> str:
    return f"fewer than {min_report_tokens} tokens"


def _batch(rows: list[Row]) -> pa.RecordBatch:
    """Rows as arrow columns."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in SCHEMA)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA
    )


@contextmanager
def _opened(reports: Path) -> Iterator[tuple[list[Report], int, Callable[[str], bytes]]]:
    """Yield all reports, how many names were ignored, and the function that reads one; from a folder or a zip."""
    archive = reports / ZIP_NAME if (reports / ZIP_NAME).is_file() else reports
    if archive.is_file():
        try:
            opened = zipfile.ZipFile(archive)
        except (OSError, zipfile.BadZipFile):
            raise InputError("not a readable zip file", file=archive, remedy="download it again") from None
        with opened:
            yield *list_zip(opened), opened.read
    elif reports.is_dir():
        try:
            found = list_folder(reports / "files" if (reports / "files").is_dir() else reports)
        except OSError as error:
            raise InputError(f"cannot be listed ({error.strerror})", file=error.filename) from None
        yield *found, read_file
    else:
        raise InputError("the folder of reports does not exist", file=reports, expected=_LAYOUT)


def list_zip(archive: zipfile.ZipFile) -> tuple[list[Report], int]:
    """The reports in the zip file, sorted by subject and study, and how many other files it holds."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    found = [(*match.groups(), match[0]) for name in names if (match := _ZIP_MEMBER(name))]
    return sorted(found), len(names) - len(found)


def list_folder(root: Path) -> tuple[list[Report], int]:
    """The reports below `root` (or one of its groups), sorted by subject and study, and how many names were ignored.

    Ignored and counted are folders of a group that are no patients and files of a patient that are no reports.
    """
    groups = [entry.path for entry in os.scandir(root) if _GROUP(entry.name) and entry.is_dir()]
    found, ignored = [], 0
    for group in groups or [os.fspath(root)]:
        for patient in sorted(os.scandir(group), key=attrgetter("name")):
            if not (_PATIENT(patient.name) and patient.is_dir()):
                ignored += 1
                continue
            subject, prefix = patient.name[1:], patient.path + os.sep
            for name in sorted(os.listdir(patient.path)):
                if _REPORT(name):
                    found.append((subject, name[1:-4], prefix + name))
                else:
                    ignored += not _STUDY_FOLDER(name)
    found.sort()  # in order already, unless groups share a patient
    return found, ignored


def read_file(path: str) -> bytes:
    """All bytes of a file: half the time of `open(...).read()`, which matters for files of a kilobyte."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = chunk = os.read(descriptor, _READ_SIZE)
        while len(chunk) == _READ_SIZE:
            data += (chunk := os.read(descriptor, _READ_SIZE))
        return data
    finally:
        os.close(descriptor)


def _refuse_duplicates(listing: list[Report]) -> None:
    """Raise `InputError` when a study occurs twice: nothing says which report is its own."""
    first: dict[str, str] = {}
    for _, study, path in listing:
        if study in first:
            raise InputError(f"a second report of the study in {first[study]}", file=path, remedy="keep one")
        first[study] = path


def _check_options(min_report_tokens: int, min_sentence_tokens: int, misspellings: str, deid: str) -> None:
    """Raise `InputError` for an option with an unknown value, before any file is read."""
    if min_report_tokens < 1 or min_sentence_tokens < 1:
        smaller = min(min_report_tokens, min_sentence_tokens)
        raise InputError(f"a smallest number of tokens is {smaller}", expected="1 or more")
    section_name("", misspellings)
    split_sentences("", deid=deid)
