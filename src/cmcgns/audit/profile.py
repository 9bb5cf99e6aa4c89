"""The audit of a profile's own tables and pixels, and of what the other schemes would have made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cmcgns.audit import checks
from cmcgns.audit.duplicates import near_duplicate_findings
from cmcgns.audit.findings import Fact, Finding, to_document
from cmcgns.audit.labels import check_scheme, check_split, unknown_groups
from cmcgns.files import sha256_file, write_json
from cmcgns.images.duplicates import find_duplicates
from cmcgns.images.store import ImageStore
from cmcgns.parquet import read_parquet
from cmcgns.splits.schemes import SCHEMES


def audit_profile(
    files: Mapping[str, Mapping[str, Any]],
    *,
    scheme: str,
    siim_subset_of: str,
    near_duplicates: bool,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Finding], list[Fact]]:
    """Check what the runs of a profile will read; the other schemes are drawn here and checked beside it.

    Args:
        files: source -> `index, unmatched, split, store, store_table` and `ranks`, {seed: file} of the profile's scheme.
        scheme: the profile's.
        near_duplicates: compare the pixels, too (A13).
        out: `audit.json`; its findings name their scheme, those of the label files none.
        progress: see `find_duplicates`.

    Returns:
        Findings and facts, as written.
    """
    indexes = {name: read_parquet(f["index"]) for name, f in files.items()}
    # the key that hides ids elsewhere in the results, so that an example here can be found there
    keys = {name: sha256_file(f["index"]) for name, f in files.items()}
    stores = {name: ImageStore(Path(f["store"]), Path(f["store_table"])) for name, f in files.items()}
    pairs = find_duplicates(stores, progress=progress) if near_duplicates else None
    findings: list[Finding] = []
    facts: list[Fact] = []
    resolved = {name: checks.groups_known(index) for name, index in indexes.items()}
    for name, f in files.items():
        rest = read_parquet(f["unmatched"])
        faults, known = checks.unmatched_files(rest, len(indexes[name]), source=name, key=keys[name])
        findings += faults
        facts += [*known, *unknown_groups(name, indexes[name], resolved.get("rsna", False))]
    if pairs is None:
        facts.append(
            Fact("A13-near-duplicate", "", "", "pixels were not compared: audit.near_duplicates is off")
        )
    for which in (scheme, *(other for other in SCHEMES if other != scheme)):
        splits: dict[str, pd.DataFrame] = {}
        for name, f in files.items():
            usable = indexes[name][indexes[name]["image_id"].isin(set(stores[name].ids))]
            if which == scheme:
                split = read_parquet(f["split"])
                ranks = {seed: read_parquet(file) for seed, file in f["ranks"].items()}
                faults, known = check_split(
                    name, usable, split, which, keys[name], ranks=ranks, siim_subset_of=siim_subset_of
                )
            else:
                split, faults, known = check_scheme(name, usable, which, keys[name])
            findings += faults
            facts += known
            if split is not None:
                splits[name] = split
        called = {
            name: checks.identities(name, indexes[name], resolved.get("rsna", False)) for name in splits
        }
        for faults, known in (
            checks.across_sources(splits, called, scheme=which, keys=keys),
            ([], []) if pairs is None else near_duplicate_findings(splits, pairs, scheme=which, keys=keys),
        ):
            findings += faults
            facts += known
    write_json(out, {"scheme": scheme, "sources": sorted(files), **to_document(findings, facts)})
    return findings, facts
