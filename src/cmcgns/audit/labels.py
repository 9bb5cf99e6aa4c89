"""The audit of label files alone: read what is there, draw every scheme's splits, check them. No image is opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cmcgns.audit import balance, checks, contents
from cmcgns.audit.findings import Fact, Finding, Result
from cmcgns.errors import InputError
from cmcgns.sources import NAMES, source
from cmcgns.sources.csvs import read_strings
from cmcgns.sources.folders import find_file
from cmcgns.sources.groups import NIH_MAP, nih_map, read_groups, resolve
from cmcgns.sources.index import WITH_RSNA_FILMS
from cmcgns.splits.official import replay
from cmcgns.splits.schemes import DEFAULTS, SCHEMES, TASKS, make_split
from cmcgns.splits.subsets import rank_subset

_MIMIC_SPLIT, _MIMIC_METADATA = "mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.0.0-metadata.csv"


def audit_labels(
    folder: Path,
    schemes: Sequence[str] = SCHEMES,
    groups: Mapping[str, Path] | None = None,
    key: str = "",
) -> Result:
    """Findings and facts of all sources whose label files are below `folder`.

    Args:
        schemes: which of `SCHEMES` to draw.
        groups: source -> map of its images to patients (columns `image, group`, or the public NIH map); rsna's
            serves COVIDx' rows of RSNA origin too, and is taken from the folder where it lies there.
        key: with which examples of ids are hashed; without one there are none.

    Raises:
        InputError: no source is there, or a map does not fit.
    """
    maps = dict(groups or {})
    for name, values, what in (("scheme", schemes, SCHEMES), ("source", maps, NAMES)):
        unknown = [value for value in values if value not in what]
        if unknown:
            raise InputError(f"unknown {name}: {unknown[0]!r}", expected=f"one of {', '.join(what)}")
    if "rsna" not in maps and (patients := nih_map(folder)):
        maps["rsna"] = patients
    found = Result([], [])
    indexes: dict[str, pd.DataFrame] = {}
    keys: dict[str, str] = {}
    for name in NAMES:
        root = _find(name, folder)
        if root is None:
            continue
        keys[name] = key
        index, result = _read(name, root, maps, keys[name])
        found.add(*result)
        if index is not None:
            indexes[name] = index
    if not keys:
        raise InputError(
            "no label files of any source found",
            file=folder,
            expected="folders such as rsna/, siim/, covidx/, chexpert/, object-CXR/, mimic/",
        )
    versions = {}
    for name, index in indexes.items():
        versions[name], fact = contents.published_version(name, index)
        faults, known = contents.genuine_files(name, _label_files(name, _find(name, folder)), versions[name])
        found.add(faults, [fact, *known, *unknown_groups(name, index, "rsna" in maps)])
    for scheme in schemes:
        splits: dict[str, pd.DataFrame] = {}
        for name, index in indexes.items():
            split, result = check_scheme(name, index, scheme, keys[name], versions[name])
            found.add(*result)
            if split is not None:
                splits[name] = split
        called = {n: checks.identities(n, indexes[n], resolved="rsna" in maps) for n in splits}
        found.add(*checks.across_sources(splits, called, scheme=scheme, keys=keys))
    return found


def check_scheme(
    name: str, index: pd.DataFrame, scheme: str, key: str, version: str | None = None
) -> tuple[pd.DataFrame | None, Result]:
    """Draw one source's splits under one scheme and check them: the split table (None if it cannot be drawn) first."""
    options = _options(name, index, scheme)
    try:
        split = pd.concat(
            [make_split(name, index, task, scheme, options=options) for task in TASKS[name]],
            ignore_index=True,
        )
    except InputError as error:
        return None, Result([], [Fact("A1-image-overlap", name, scheme, f"cannot be checked: {error}")])
    ranks = {}
    if name != "mimic_cxr":
        drawn = [rank_subset(split, index, task, 0) for task in TASKS[name]]
        ranks[0] = pd.concat(drawn, ignore_index=True)
    # tables in another order, which must draw the same subsets again
    found = check_split(name, index.iloc[::-1], split.iloc[::-1], scheme, key, ranks=ranks)
    found.add(contents.split_sizes(split, source=name, scheme=scheme, version=version))
    if name == "chexpert" and scheme == "official":  # drawn from all rows, of which only the frontal are used
        rows = replay(name, index, "classification", options).assign(task="classification")
        for check in (checks.image_overlap, checks.group_overlap):
            found.add(check(rows, source=name, scheme=scheme, key=key, unit="rows"))
    return split, found


def check_split(
    name: str,
    index: pd.DataFrame,
    split: pd.DataFrame,
    scheme: str,
    key: str,
    *,
    ranks: Mapping[int, pd.DataFrame] | None = None,
    siim_subset_of: str = "balanced",
) -> Result:
    """Everything that a split table of a source, with the rank tables of its seeds, can be asked."""
    about: dict[str, Any] = {"source": name, "scheme": scheme}
    findings = [
        *checks.image_overlap(split, key=key, **about),
        *checks.group_overlap(split, key=key, **about),
        *checks.mask_cut(split, index, key=key, **about),
        *checks.published_test_used(split, index, key=key, **about),
    ]
    for seed, table in (ranks or {}).items():
        findings += checks.subset_faults(
            table, split, index, seed, siim_subset_of=siim_subset_of, key=key, **about
        )
    faults, facts = balance.class_balance(split, index, **about)
    baselines = balance.trivial_baselines(split, index, **about)
    return Result(findings + faults, facts + checks.across_tasks(split, **about) + baselines)


def _find(name: str, folder: Path) -> Path | None:
    """The source's root if any of its label files is in it."""
    module = source(name)
    root = module.find(folder)
    if root is None:
        return None
    if name == "mimic_cxr":
        return root if find_file(root, (_MIMIC_SPLIT,)) else None
    try:
        module.label_files(root)
    except InputError:
        return None
    return root


def _label_files(name: str, root: Path | None) -> list[Path]:
    if root is None:
        raise ValueError(f"{name} was not found")
    if name == "mimic_cxr":
        return [file for n in (_MIMIC_SPLIT, _MIMIC_METADATA) if (file := find_file(root, (n,)))]
    return source(name).label_files(root)


def _read(name: str, root: Path, maps: Mapping[str, Path], key: str) -> tuple[pd.DataFrame | None, Result]:
    """The index, or None and why there is none: unknown words (A6), or a file that is not a label file at all."""
    module = source(name)
    options = {"groups": maps["rsna"]} if name in WITH_RSNA_FILMS and "rsna" in maps else {}
    try:
        lists = contents.read_lists(name, root)
        wrong = contents.vocabulary(name, lists, key) + contents.listed_twice(name, lists, key)
        if wrong:
            fact = Fact("A1-image-overlap", name, "", "no split was drawn: mend the lists first")
            return None, Result(wrong, [fact])
        if name == "mimic_cxr" and not find_file(root, (_MIMIC_METADATA,)):
            fact = Fact("A4-counts", name, "", f"without {_MIMIC_METADATA} laterals count as well")
            return _read_mimic_split(root), Result([], [fact])
        index = module.read(root, **options)
    except InputError as error:
        if error.file is not None and Path(error.file) not in _label_files(name, root):
            raise  # a map, which is not the source's fault
        fault = Finding("A12-genuine-file", name, "", "critical", "", "", 1, len(_label_files(name, root)), (),
                        "use the label files as published", unit="files", detail=str(error))  # fmt: skip
        return None, Result([fault], [])
    if name in maps and name != "rsna":
        path = _label_files(name, root)[0]
        index = index.assign(group_id=resolve(index["image_id"], read_groups(maps[name]), path))
    return index, Result([], [])


def _read_mimic_split(root: Path) -> pd.DataFrame:
    """An index of the split file alone, every image taken as used."""
    (path,) = _label_files("mimic_cxr", root)
    table = read_strings(path, ("dicom_id", "subject_id", "study_id", "split")).reset_index(drop=True)
    return pd.DataFrame(
        {
            "image_id": table["dicom_id"],
            "group_id": table["subject_id"],
            "path": "",
            "view": "",
            "frontal": True,
            "official_split": table["split"],
            "subject_id": table["subject_id"],
            "study_id": table["study_id"],
        }
    )


def _options(name: str, index: pd.DataFrame, scheme: str) -> dict[str, Any]:
    """The defaults; a small CheXpert table has the published share of validation images, not their number."""
    options = dict(DEFAULTS[name])
    if name == "chexpert" and scheme != "official":  # which sees to it by itself
        pool = int((index["frontal"] & (index["official_split"] == "train")).sum())
        if pool <= options["valid_images"]:
            options["valid_images"] /= 191_027
    return options


def unknown_groups(name: str, index: pd.DataFrame, resolved: bool) -> list[Fact]:
    """A2 that cannot be checked, and what it would take; `resolved`: RSNA's exams are known as NIH patients."""
    if name == "rsna" and not resolved:
        text = f"patients cannot be checked: an id is an exam; give {NIH_MAP} (--groups rsna=FILE)"
    elif name == "covidx" and not resolved and (index["origin"] == "rsna").any():
        text = "patients of RSNA films cannot be checked: give --groups rsna=FILE"
    elif not checks.groups_known(index):
        text = "patients cannot be checked: nobody published them; near-duplicate images tell some"
    else:
        return []
    return [Fact("A2-group-overlap", name, "", text)]
