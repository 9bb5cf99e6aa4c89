"""Checks of the label files themselves: their counts (A4), their words (A6), their bytes (A12)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd

from cmcgns.audit.findings import Fact, Finding, hash_examples
from cmcgns.files import sha256_file
from cmcgns.sources import source
from cmcgns.sources.csvs import among, read_lines, read_strings
from cmcgns.sources.folders import find_file
from cmcgns.sources.versions import SHA256, count, identify
from cmcgns.sources.vocabulary import CHEXPERT_LABELS, COVIDX_CLASSES, RSNA_FINDINGS

# (source, version, scheme, task): sizes of train, valid, test that follow from the published counts alone
# (data specification 2b to 6b). What depends on which row is which (the images of SIIM's row split) is not here.
_BY_IMAGE = {
    ("rsna", "stage 2", "classification"): (18_678, 4_003, 4_003),
    ("rsna", "stage 2", "detection"): (16_010, 5_337, 5_337),
    ("rsna", "stage 2", "segmentation"): (16_010, 5_337, 5_337),
}
SIZES = {
    **{(s, v, scheme, t): n for (s, v, t), n in _BY_IMAGE.items() for scheme in ("official", "paper")},
    ("chexpert", "v1.0", "paper", "classification"): (186_027, 5_000, 202),
    ("covidx", "9A", "official", "classification"): (24_104, 6_026, 400),
    ("covidx", "9A", "paper", "classification"): (27_117, 3_013, 400),
    ("siim", "stage 2 (merged copy)", "paper", "segmentation"): (8_432, 1_808, 1_807),
    ("object_cxr", "MIDL 2020", "official", "detection"): (7_200, 800, 1_000),
    ("object_cxr", "MIDL 2020", "paper", "detection"): (6_400, 1_600, 1_000),
}
# the same in rows of the CSV file
ROW_SIZES = {("siim", "stage 2 (merged copy)", "official", "segmentation"): (9_067, 1_944, 1_943)}

# a label file, which of its rows have an unknown word, the rows' images
Listed = Iterator[tuple[Path, pd.Series, pd.Series]]
Lists = list[tuple[Path, pd.Series, pd.Series]]


def published_version(source: str, index: pd.DataFrame) -> tuple[str | None, Fact]:
    """A4 of a label file: the published version that its counts are those of, or None, and the fact that tells it."""
    counts = count(source, index)
    version, expected = identify(source, counts)
    if version:
        return version, Fact("A4-counts", source, "", f"the counts of {version}", values={"counts": counts})
    differs = {k: [counts.get(k, 0), n] for k, n in expected.items() if counts.get(k, 0) != n}
    text = "not the counts of a published version, so that no sizes are expected"
    return None, Fact("A4-counts", source, "", text, values={"counts": counts, "found, published": differs})


def split_sizes(split: pd.DataFrame, *, source: str, scheme: str, version: str | None) -> list[Finding]:
    """A4 of a scheme: sizes that a published label file must give."""
    findings = []
    for task in map(str, split["task"].unique()):
        which = (source, version, scheme, task)
        table = split[split["task"] == task]
        for unit, sizes, count_in in (("images", SIZES, len), ("rows", ROW_SIZES, _rows_in)):
            for part, wanted in zip(("train", "valid", "test"), sizes.get(which, ()), strict=False):
                if (found := count_in(table[table["split"] == part])) != wanted:
                    findings.append(
                        Finding("A4-counts", source, scheme, "warning", "", part, abs(found - wanted), wanted, (),
                                "compare the options of the split and the images left out", task=task,
                                unit=unit, detail=f"{found:,} {unit}, {wanted:,} expected of {version}")
                    )  # fmt: skip
    return findings


def _rows_in(table: pd.DataFrame) -> int:
    """Rows of the CSV file behind the rows of a split table: one a mask, and one an image without."""
    return int(table["parts"].map(lambda parts: 1 if parts is None else len(parts)).sum())


def read_lists(name: str, root: Path) -> Lists:
    """The label files of a source as far as A6 and A1 look at them: without the reader's refusals."""
    return list(_READ[name](source(name), root))


def vocabulary(source: str, lists: Lists, key: str) -> list[Finding]:
    """A6: label rows with a word that the published files do not have, and how many there are."""
    return [
        Finding("A6-label-vocabulary", source, "", "critical", "", "", int(wrong.sum()), len(wrong),
                hash_examples(ids[wrong], key), "restore the published labels", unit="rows",
                detail=f"unknown labels in {file.name}")
        for file, wrong, ids in lists
        if wrong.any()
    ]  # fmt: skip


def listed_twice(source: str, lists: Lists, key: str) -> list[Finding]:
    """A1 of the label files: images that a list has twice, or that two lists have.

    RSNA and SIIM have a row for each box or mask, so that a repeated image is none.
    """
    if source in ("rsna", "siim"):
        return []
    named = [(file.name.split(".")[0], ids) for file, _, ids in lists]
    findings = []
    for i, (b, ids) in enumerate(named):
        pairs = [(b, ids.duplicated()), *((a, among(ids, other)) for a, other in named[:i])]
        for a, again in pairs:
            if again.any():
                findings.append(
                    Finding("A1-image-overlap", source, "", "critical", a, b, int(again.sum()), len(ids),
                            hash_examples(ids[again], key), "restore the published lists",
                            detail="listed twice by the label files")
                )  # fmt: skip
    return findings


def genuine_files(
    source: str, files: Iterable[Path], version: str | None
) -> tuple[list[Finding], list[Fact]]:
    """A12: files with the published name and counts, but other bytes; a fact where the counts differ as well."""
    findings: list[Finding] = []
    facts = []
    for file in files:
        if file.name not in SHA256 or sha256_file(file) == SHA256[file.name]:
            continue
        if version is None:
            facts.append(Fact("A12-genuine-file", source, "", f"{file.name} is not the published file"))
        else:
            findings.append(
                Finding("A12-genuine-file", source, "", "warning", "", "", 1, 1, (), "download it again",
                        unit="files", detail=f"{file.name} has the published counts but other bytes")
            )  # fmt: skip
    return findings, facts


# ---- a source's label files ----


def _chexpert_words(module: ModuleType, root: Path) -> Listed:
    for file in module.label_files(root):
        table = read_strings(file, ("Path", *CHEXPERT_LABELS))
        wrong = pd.Series(False, index=table.index)
        for name in CHEXPERT_LABELS:
            values = pd.to_numeric(table[name].where(table[name] != "", None), errors="coerce")
            wrong |= (table[name] != "") & ~values.isin([1.0, 0.0, -1.0])
        yield file, wrong, table["Path"]


def _covidx_words(module: ModuleType, root: Path) -> Listed:
    """The classes of one version: of the one most lines of both lists are of."""
    lists = {file: read_lines(file).str.rsplit(" ", n=3, expand=True) for file in module.label_files(root)}
    fields = {file: table.reindex(columns=range(4)) for file, table in lists.items()}
    known = max(
        COVIDX_CLASSES.values(), key=lambda names: sum(t[2].isin(names).sum() for t in fields.values())
    )
    for file, table in fields.items():
        yield file, ~table[2].isin(known), table[1].astype(str)


def _rsna_words(module: ModuleType, root: Path) -> Listed:
    labels, info, *_ = module.label_files(root)
    for file, column, known in ((labels, "Target", ("0", "1")), (info, "class", RSNA_FINDINGS)):
        table = read_strings(file, ("patientId", column))
        yield file, ~table[column].isin(known), table["patientId"]


def _mimic_words(module: ModuleType, root: Path) -> Listed:
    file = find_file(root, ("mimic-cxr-2.0.0-split.csv",))
    if file is not None:
        table = read_strings(file, ("dicom_id", "split"))
        yield file, ~table["split"].isin(["train", "validate", "test"]), table["dicom_id"]


def _object_words(module: ModuleType, root: Path) -> Listed:
    """Object-CXR's annotations have no words."""
    for file in module.label_files(root):
        table = read_strings(file, ("annotation",))
        images = table[next(name for name in table if name != "annotation")]
        yield file, pd.Series(False, index=table.index), images.str.rsplit("/", n=1).str[-1]


def _siim_words(module: ModuleType, root: Path) -> Listed:
    yield from ()  # run-length codes, which the reader checks


_READ = {
    "mimic_cxr": _mimic_words,
    "chexpert": _chexpert_words,
    "rsna": _rsna_words,
    "covidx": _covidx_words,
    "siim": _siim_words,
    "object_cxr": _object_words,
}
