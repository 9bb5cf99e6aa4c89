"""Split and rank tables as files, with everything that made them in the file's own metadata."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cmcgns.errors import InputError
from cmcgns.files import sha256_file
from cmcgns.images.duplicates import film_groups, unite
from cmcgns.images.store import ImageStore
from cmcgns.parquet import read_parquet, write_parquet
from cmcgns.splits.schemes import TASKS, check, make_split
from cmcgns.splits.subsets import rank_subset


def write_split(
    source: str,
    scheme: str,
    *,
    index: Path,
    out: Path,
    store_table: Path | None = None,
    store: Path | None = None,
    reports: Path | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Split a source for all its tasks and write one table.

    Args:
        source, scheme, seed, options: as for `schemes.make_split`.
        index: the source's index table.
        out: the split table to write.
        store_table: the store's table; when given, only images that are good in the store are used, and it
            fills in the view where the index has none.
        store: the store's pixels; with them, scheme audited keeps images of one film together, whatever patients the
            source names.
        progress: see `find_duplicates`; called only where films are compared.
        reports: the report table; when given (mimic_cxr), only images whose study keeps its report are used.

    Returns:
        The metadata written with the table: scheme, seed, options, sha256 of the inputs; counts and the
            sha256 of the
        sorted ids per task and split; per task how many usable images were left out.
    """
    tasks = TASKS.get(source, ("",))
    settings = check(source, tasks[0], scheme, options or {})
    frame = read_parquet(index)
    stored = None if store_table is None else _read_stored(store_table, frame)
    usable = _usable(frame, stored, reports)
    if stored is not None:  # RSNA and SIIM tell the view in the DICOM header only
        frame["view"] = frame["view"].where(
            frame["view"] != "", frame["image_id"].map(stored["view"]).fillna("")
        )
    if scheme == "audited" and store is not None:
        films = film_groups(ImageStore(store, store_table), progress)
        frame["group_id"] = link(frame["group_id"], frame["image_id"].map(films))
    parts = {
        task: make_split(source, frame, task, scheme, seed=seed, usable=usable, options=options)
        for task in tasks
    }
    table = pd.concat(parts.values(), ignore_index=True)
    meta = {
        "source": source,
        "scheme": scheme,
        "seed": seed,
        "options": settings,
        "inputs": _hashes(index=index, store=store_table, reports=reports),
        "counts": _per_split(table, len),
        "ids_sha256": _per_split(table, hash_ids),
        "left_out": {task: len(usable - set(part["image_id"])) for task, part in parts.items()},
    }
    write_parquet(table, out, meta)
    return meta


def write_ranks(
    source: str, *, index: Path, split: Path, out: Path, seed: int, siim_subset_of: str = "balanced"
) -> dict[str, Any]:
    """Rank the training images of every task in a split table, and write one table; returns its metadata."""
    frame, images = read_parquet(split), read_parquet(index)
    tasks = list(dict.fromkeys(frame["task"]))
    parts = {task: rank_subset(frame, images, task, seed, siim_subset_of=siim_subset_of) for task in tasks}
    meta = {
        "source": source,
        "seed": seed,
        "siim_subset_of": siim_subset_of,
        "inputs": _hashes(index=index, split=split),
        "counts": {task: len(part) for task, part in parts.items()},
        "ids_sha256": {task: hash_ids(part["image_id"]) for task, part in parts.items()},
    }
    write_parquet(pd.concat(parts.values(), ignore_index=True), out, meta)
    return meta


def link(groups: pd.Series, films: pd.Series) -> pd.Series:
    """Groups that share a film become one, which has the first of their names; a missing film links nothing.

    Args:
        groups, films: (n,) of the same images.
    """
    found = pd.DataFrame({"group": groups, "film": films}).dropna().drop_duplicates()
    return groups.map(unite(groups, found.groupby("film")["group"].agg(list)))


def hash_ids(ids: Iterable[str]) -> str:
    """Hex sha256 of the sorted ids, one a line without an end of line after the last."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _read_stored(store_table: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """`row, view` by image id; `InputError` when frontal images of the index are not in the table at all."""
    stored = read_parquet(store_table, columns=["image_id", "row", "view"]).set_index("image_id")
    unknown = int((frame["frontal"] & ~frame["image_id"].isin(stored.index)).sum())
    if unknown:
        raise InputError(
            f"{unknown} frontal images of the index are not in this table",
            file=store_table,
            remedy="the index has changed since: run `cmcgns reproduce` again",
        )
    return stored


def _usable(frame: pd.DataFrame, stored: pd.DataFrame | None, reports: Path | None) -> set[str]:
    """Frontal images that are good in the store and whose report is kept."""
    keep = frame["frontal"]
    if stored is not None:
        keep &= frame["image_id"].isin(stored.index[stored["row"] >= 0])
    if reports is not None:
        studies = read_parquet(reports, columns=["study_id", "kept"])
        keep &= frame["study_id"].isin(studies.loc[studies["kept"], "study_id"])
    return set(frame.loc[keep, "image_id"])


def _hashes(**files: Path | None) -> dict[str, str]:
    return {name: sha256_file(path) for name, path in files.items() if path is not None}


def _per_split(table: pd.DataFrame, value: Callable[[pd.Series], Any]) -> dict[str, dict[str, Any]]:
    """{task: {split: value(ids)}}."""
    result: dict[str, dict[str, Any]] = {}
    for (task, split), part in table.groupby(["task", "split"]):
        result.setdefault(task, {})[split] = value(part["image_id"])
    return result
