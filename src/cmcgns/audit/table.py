"""The audit of anybody's own table: one row an image, with its group and its split."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from cmcgns.audit import balance, checks
from cmcgns.audit.findings import Fact, Finding, Result, hash_examples
from cmcgns.errors import InputError
from cmcgns.images.decode import read_grey8
from cmcgns.sources.csvs import read_strings, refuse

# what people call the three parts
_NAMES = (
    ("train", "training", "tr", "fit"),
    ("valid", "val", "validation", "validate", "dev", "tune"),
    ("test", "testing", "eval", "holdout", "held-out", "test-set"),
)
MANY = 20  # classes; a label with more is a number


def audit_table(
    path: Path,
    *,
    image: str,
    split: str,
    group: str | None = None,
    label: str | None = None,
    image_root: Path | None = None,
    key: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Findings and facts of a CSV file (plain or gzipped) with one row an image.

    Args:
        image, group, split, label: names of its columns. Values of the split column are free; those that mean train,
            validation and test are put in this order, others follow by name, and every pair is compared.
        image_root: where the images lie, named by the column `image`.
        key: with which examples of ids are hashed; without one there are none.
        progress: see `find_duplicates`.

    Raises:
        InputError: a column is missing, a value of id, group or split is blank, or there is one split only.
    """
    wanted = [name for name in (image, group, split, label) if name]
    table = read_strings(path, wanted)
    for column in (image, group, split):
        if column is not None:
            blank = table[column].str.lower().isin(["", "nan", "none", "null"])
            refuse(blank, path, f"column {column!r} is blank", "a value in every row",
                   "give every image its own group where nobody knows it, or leave --group out")  # fmt: skip
    frame = pd.DataFrame(
        {"task": "", "image_id": table[image], "group_id": table[group or image], "split": table[split]}
    )
    parts = order_parts(frame["split"].unique())
    if len(parts) < 2:
        raise InputError("there is one split only", file=path, row=split, expected="two or more")
    found = Result([], [])
    again = frame.duplicated(["image_id", "split"])
    if again.any():
        text = f"{again.sum():,} rows repeat an image of their own split"
        found.facts.append(Fact("A1-image-overlap", "table", "", text))
    frame = frame[~again]
    sizes = {part: int((frame["split"] == part).sum()) for part in parts}
    found.facts.append(Fact("A4-counts", "table", "", "images in each split", values=sizes))
    about = {"source": "table", "scheme": "", "key": key}
    found.add(checks.image_overlap(frame, parts=parts, **about))
    if group is None:
        found.facts.append(Fact("A2-group-overlap", "table", "", "patients cannot be checked: no --group"))
    else:
        found.add(checks.group_overlap(frame, parts=parts, **about))
    if label is not None:
        found.add(*_balance(frame, table.loc[frame.index, label], parts))
    if image_root is not None:
        found.add(*_files(frame, parts, image_root, key, progress))
    return found


def order_parts(names: Iterable[str]) -> list[str]:
    """The values of a split column, train before validation before test before the others, which go by name."""

    def place(name: str) -> tuple[int, str]:
        word = name.strip().lower()
        return next((i for i, words in enumerate(_NAMES) if word in words), len(_NAMES)), name

    return sorted(names, key=place)


def _balance(frame: pd.DataFrame, labels: pd.Series, parts: list[str]) -> tuple[list[Finding], list[Fact]]:
    """A5 and A10 of a column of classes: every split against the first."""
    classes = sorted(labels.unique())
    if len(classes) > MANY:
        return [], [Fact("A5-class-balance", "table", "", f"not checked: {len(classes):,} different labels")]
    of = {part: labels[frame["split"] == part] for part in parts}
    rates = {part: {name: float((values == name).mean()) for name in classes} for part, values in of.items()}
    groups = {part: frame.loc[frame["split"] == part, "group_id"] for part in parts}
    first, *others = parts
    findings = []
    for part in others:
        two = {first: groups[first], part: groups[part]}
        findings += balance.imbalances(rates, two, source="table", scheme="")
    major = max(rates[first], key=lambda name: rates[first][name])
    values = {part: round(100 * rates[part][major], 2) for part in others}
    return findings, [
        Fact("A5-class-balance", "table", "", "shares of the classes", values=rates),
        Fact(
            "A10-trivial-baseline",
            "table",
            "",
            f"accuracy of always saying {major!r}, percent",
            values=values,
        ),
    ]


def _files(
    frame: pd.DataFrame,
    parts: list[str],
    root: Path,
    key: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Finding], list[Fact]]:
    """A9 and A13: images without a readable file, and near-duplicates among the others."""
    from cmcgns.audit.duplicates import near_duplicate_findings
    from cmcgns.images.duplicates import find_duplicates  # the only way to the pixels

    if not root.is_dir():
        raise InputError("the folder of images does not exist", file=root)
    files = {name: root / name for name in sorted(set(frame["image_id"].tolist()))}
    good = {name: path for name, path in files.items() if path.is_file()}
    findings = _lacking(files, good, "no such file", key)
    try:
        pairs = find_duplicates({"table": good}, progress=progress)
    except InputError:  # rare, so that only then every file is decoded twice
        readable = {name: path for name, path in good.items() if _decodes(path)}
        findings += _lacking(good, readable, "not a readable image", key)
        pairs = find_duplicates({"table": readable}, progress=progress)
    faults, facts = near_duplicate_findings(
        {"table": frame}, pairs, scheme="", keys={"table": key}, parts=parts
    )
    return findings + faults, facts


def _lacking(all_files: dict[str, Path], good: dict[str, Path], detail: str, key: str) -> list[Finding]:
    lost = all_files.keys() - good.keys()
    if not lost:
        return []
    return [
        Finding("A9-unmatched", "table", "", "warning", "", "", len(lost), len(all_files), hash_examples(lost, key),
                "complete the images, or name them as the table does", detail=detail)
    ]  # fmt: skip


def _decodes(path: Path) -> bool:
    try:
        read_grey8(path)
    except InputError:
        return False
    return True
