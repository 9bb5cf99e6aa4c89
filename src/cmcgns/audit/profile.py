"""The audit of a profile's own tables and pixels, and of what the other schemes would have made of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from cmcgns.audit import checks
from cmcgns.audit.duplicates import near_duplicate_findings
from cmcgns.audit.findings import Fact, Result, to_document
from cmcgns.audit.labels import check_scheme, check_split, unknown_groups
from cmcgns.files import write_json
from cmcgns.hidden_ids import read_key
from cmcgns.images.duplicates import find_duplicates
from cmcgns.images.store import ImageStore
from cmcgns.parquet import read_parquet
from cmcgns.splits.schemes import SCHEMES


def audit_profile(
    *,
    scheme: str,
    sources: Sequence[str],
    seeds: Sequence[int],
    siim_subset_of: str,
    near_duplicates: bool,
    index: Sequence[Path],
    unmatched: Sequence[Path],
    store: Sequence[Path],
    store_table: Sequence[Path],
    split: Sequence[Path],
    ranks: Sequence[Path] = (),
    key: Path,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Check what the runs of a profile will read; the other schemes are drawn here and checked beside it.

    Args:
        scheme: the profile's.
        near_duplicates: compare the pixels, too (A13).
        index, unmatched, store, store_table, split: one a source, in the order of `sources`; the splits of `scheme`.
        ranks: subsets under `scheme`; of every source but mimic_cxr, one a seed.
        key: of the ids that are shown hashed.
        out: `audit.json`; its findings name their scheme, those of the label files none.
        progress: see `find_duplicates`.

    Returns:
        Findings and facts, as written.
    """
    indexes = dict(zip(sources, map(read_parquet, index), strict=True))
    # that which hides ids elsewhere in the results, so that an example here can be found there
    keys = dict.fromkeys(sources, read_key(key))
    stores = {name: ImageStore(*files) for name, *files in zip(sources, store, store_table, strict=True)}
    own = dict(zip(sources, split, strict=True))
    subset_keys = [(name, seed) for name in sources if name != "mimic_cxr" for seed in seeds]
    subsets = dict(zip(subset_keys, ranks, strict=True))
    pairs = find_duplicates(stores, progress=progress) if near_duplicates else None
    found = Result([], [])
    resolved = {name: checks.groups_known(index) for name, index in indexes.items()}
    for name, rest in zip(sources, map(read_parquet, unmatched), strict=True):
        faults, known = checks.unmatched_files(rest, len(indexes[name]), source=name, key=keys[name])
        found.add(faults, [*known, *unknown_groups(name, indexes[name], resolved.get("rsna", False))])
    if pairs is None:
        fact = Fact("A13-near-duplicate", "", "", "pixels were not compared: audit.near_duplicates is off")
        found.facts.append(fact)
    for which in (scheme, *(other for other in SCHEMES if other != scheme)):
        splits: dict[str, pd.DataFrame] = {}
        for name in sources:
            usable = indexes[name][indexes[name]["image_id"].isin(set(stores[name].ids))]
            if which == scheme:
                drawn = read_parquet(own[name])
                ranked = {seed: read_parquet(file) for (of, seed), file in subsets.items() if of == name}
                result = check_split(
                    name, usable, drawn, which, keys[name], ranks=ranked, siim_subset_of=siim_subset_of
                )
            else:
                drawn, result = check_scheme(name, usable, which, keys[name])
            found.add(*result)
            if drawn is not None:
                splits[name] = drawn
        called = {
            name: checks.identities(name, indexes[name], resolved.get("rsna", False)) for name in splits
        }
        found.add(*checks.across_sources(splits, called, scheme=which, keys=keys))
        if pairs is not None:
            found.add(*near_duplicate_findings(splits, pairs, scheme=which, keys=keys))
    write_json(out, {"scheme": scheme, "sources": sorted(sources), **to_document(*found)})
    return found
