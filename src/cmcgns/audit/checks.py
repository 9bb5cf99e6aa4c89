"""Checks of splits for leaks (data specification 11): tables in, findings out.

A split table is `task, image_id, group_id, split` (and `parts`, see `splits.official`), an index table that of
`sources`. `key` is the secret of `findings.hash_examples`. Counts are images of the later split.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from cmcgns.audit.findings import Fact, Finding, hash_examples
from cmcgns.sources.csvs import among
from cmcgns.sources.index import NO_FILE, NO_ROW
from cmcgns.splits.subsets import rank_subset, take

PARTS = ("train", "valid", "test")
PRETRAINING = ("mimic_cxr",)
# the part that each publisher meant for testing
PUBLISHED_TEST = {"mimic_cxr": "test", "chexpert": "valid", "covidx": "test", "object_cxr": "dev"}


def image_overlap(
    split: pd.DataFrame,
    *,
    source: str,
    scheme: str,
    key: str,
    unit: str = "images",
    parts: Collection[str] = PARTS,
) -> list[Finding]:
    """A1: images that are in two splits of one task.

    Args:
        parts: the splits, earlier ones first; every pair is compared.
    """
    remedy = "split the images, not the rows of a file, and let no image be drawn twice"
    return [
        Finding("A1-image-overlap", source, scheme, "critical", a, b, len(hits), total,
                hash_examples(hits["image_id"], key), remedy, task=task, unit=unit)
        for task, a, b, hits, total in _crossings(split, "image_id", parts)
    ]  # fmt: skip


def group_overlap(
    split: pd.DataFrame,
    *,
    source: str,
    scheme: str,
    key: str,
    unit: str = "images",
    parts: Collection[str] = PARTS,
) -> list[Finding]:
    """A2: images whose patient (or other group) has an image in an earlier split; none if every image is its own."""
    if not groups_known(split):
        return []
    remedy = "draw whole patients: scheme audited"
    return [
        Finding("A2-group-overlap", source, scheme, "critical", a, b, len(hits), total,
                hash_examples(hits["image_id"], key), remedy, task=task, unit=unit,
                detail=f"{hits['group_id'].nunique()} groups cross")
        for task, a, b, hits, total in _crossings(split, "group_id", parts)
    ]  # fmt: skip


def groups_known(table: pd.DataFrame) -> bool:
    """Whether a table's groups say more than its images do."""
    return bool((table["group_id"] != table["image_id"]).any())


def mask_cut(
    split: pd.DataFrame, index: pd.DataFrame, *, source: str, scheme: str, key: str
) -> list[Finding]:
    """A3: positive images of which a split has only some of the masks; of all positive images of that split."""
    if "parts" not in split:
        return []
    masks = split["image_id"].map(index.set_index("image_id")["rle"].map(len))
    positive = masks > 0
    cut = positive & (split["parts"].map(lambda parts: 0 if parts is None else len(parts)) < masks)
    findings = []
    for part in PARTS:
        here = split["split"] == part
        if (here & cut).any():
            findings.append(
                Finding("A3-mask-cut", source, scheme, "critical", "", part, int((here & cut).sum()),
                        int((here & positive).sum()), hash_examples(split.loc[here & cut, "image_id"], key),
                        "keep all rows of an image in one split", task="segmentation",
                        detail="positive images that lack at least one of their masks")
            )  # fmt: skip
    return findings


def subset_faults(
    ranks: pd.DataFrame, split: pd.DataFrame, index: pd.DataFrame, seed: int, *,
    source: str, scheme: str, key: str, siim_subset_of: str = "balanced",
    fractions: Collection[float] = (0.01, 0.1, 1.0),
) -> list[Finding]:  # fmt: skip
    """A7: subsets that are not nested, not of training images, or not those that the seed gives.

    Args:
        ranks: rank table of all tasks; what it is compared with is drawn anew from `split` and `index`.
    """
    findings = []

    def say(task: str, wrong: Collection[str], total: int, detail: str) -> None:
        if wrong:
            findings.append(
                Finding("A7-subsets", source, scheme, "critical", "", "train", len(wrong), total,
                        hash_examples(wrong, key), "make the subsets again", task=task, detail=detail)
            )  # fmt: skip

    for task, ranked in ranks.groupby("task", sort=False):
        training = set(split.loc[(split["task"] == task) & (split["split"] == "train"), "image_id"].tolist())
        subsets = [set(take(ranked, fraction)) for fraction in sorted(fractions)]
        say(task, subsets[-1] - training, len(ranked), "ranked images that are not in the training part")
        for small, large in zip(subsets, subsets[1:], strict=False):
            say(task, small - large, len(small), "images of a smaller subset that the next one lacks")
        anew = rank_subset(split, index, task, seed, siim_subset_of=siim_subset_of)
        ours, theirs = (
            dict(zip(t["image_id"].tolist(), t["rank"].tolist(), strict=True)) for t in (ranked, anew)
        )
        moved = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}
        say(task, moved, len(ours | theirs), f"images whose rank is not what seed {seed} gives")
    return findings


def published_test_used(
    split: pd.DataFrame, index: pd.DataFrame, *, source: str, scheme: str, key: str
) -> list[Finding]:
    """A11: images of the publisher's test part that a scheme trains on or selects by."""
    if source not in PUBLISHED_TEST:
        return []
    held = index.loc[index["official_split"] == PUBLISHED_TEST[source], "image_id"]
    table = split[among(split["image_id"], held)]
    findings = []
    for (task, part), hits in table[table["split"] != "test"].groupby(["task", "split"]):
        total = table.loc[table["task"] == task, "image_id"].nunique()
        findings.append(
            Finding("A11-test-before-selection", source, scheme, "critical", part, "test", len(hits), total,
                    hash_examples(hits["image_id"], key), "keep the published test part out of both",
                    task=task, detail=f"images of the published test part in {part}")
        )  # fmt: skip
    return findings


def unmatched_files(
    rest: pd.DataFrame, labelled: int, *, source: str, key: str
) -> tuple[list[Finding], list[Fact]]:
    """A9: label rows without their file are findings; files without a row are facts, many downloads have some.

    Args:
        rest: `image_id, path, reason` of `sources.index.match`.
        labelled: how many label rows need a file.
    """
    missing = rest.loc[rest["reason"] == NO_FILE, "image_id"]
    extra = int((rest["reason"] == NO_ROW).sum())
    findings, facts = [], []
    if len(missing):
        findings.append(
            Finding("A9-unmatched", source, "", "warning", "", "", len(missing), labelled,
                    hash_examples(missing, key), "complete the download", detail=NO_FILE)
        )  # fmt: skip
    if extra:
        facts.append(Fact("A9-unmatched", source, "", f"{extra:,} image files have no label row"))
    return findings, facts


def identities(source: str, index: pd.DataFrame, resolved: bool) -> pd.DataFrame:
    """What one image is called across sources: `image_id, film, patient`, the last empty where nobody knows.

    A film of RSNA origin is called by its exam, in COVIDx as well; its patient is one of NIH ChestX-ray14 and known
    when a map was given (`resolved`).
    """
    table = index[["image_id"]].assign(film=index["image_id"], patient="")
    nih = pd.Series(source == "rsna", index=index.index)
    if source == "covidx":
        nih = index["origin"] == "rsna"
        table["film"] = index["patient_id"].where(nih, index["image_id"])
    if resolved:
        table["patient"] = index["group_id"].where(nih, "")
    return table


def across_sources(
    splits: Mapping[str, pd.DataFrame],
    names: Mapping[str, pd.DataFrame],
    *,
    scheme: str,
    keys: Mapping[str, str],
) -> tuple[list[Finding], list[Fact]]:
    """A8: test images of one source whose film or patient another source trains on.

    A finding where the other source is for pre-training, as every downstream task starts from it. Between downstream
    sources a fact: it matters only to who carries a model from one task to another.

    Args:
        splits: a split table a source.
        names: `identities` of the same sources.
        keys: of `hash_examples`, a source each.
    """
    trained = {
        name: {
            task: (set(table["film"].tolist()), set(table["patient"].tolist()) - {""})
            for task, table in _part(split, names[name], "train").items()
        }
        for name, split in splits.items()
    }
    tested = {name: _part(split, names[name], "test") for name, split in splits.items()}
    cases = [
        (a, task_a, films, patients, b, task_b, test)
        for a in splits for b in splits if a != b
        for task_a, (films, patients) in trained[a].items() for task_b, test in tested[b].items()
    ]  # fmt: skip
    findings, facts = [], []
    for a, task_a, films, patients, b, task_b, test in cases:
        film = among(test["film"], films)
        hit = film | among(test["patient"], patients)
        count, same = int(hit.sum()), int(film.sum())
        if not count:
            continue
        told = f"{same:,} show the same film as {a}, {task_a}; {count - same:,} the same patient only"
        if a in PRETRAINING:
            findings.append(
                Finding("A8-pretraining-overlap", b, scheme, "critical", f"{a}:train", "test", count, len(test),
                        hash_examples(test.loc[hit, "image_id"], keys[b]), f"take them out of {a}'s training part",
                        task=task_b, detail=told)
            )  # fmt: skip
        else:
            text = f"of {len(test):,} test images {told}: carry no model from there"
            facts.append(
                Fact("A8-pretraining-overlap", b, scheme, text, task_b, {"count": count, "total": len(test)})
            )
    return findings, facts


def across_tasks(split: pd.DataFrame, *, source: str, scheme: str) -> list[Fact]:
    """A1 across the tasks of a source: test images of one that another trains on, which is no fault by itself."""
    facts = []
    for a, b in ((a, b) for a in split["task"].unique() for b in split["task"].unique() if a != b):
        train = split.loc[(split["task"] == a) & (split["split"] == "train"), "image_id"]
        test = split.loc[(split["task"] == b) & (split["split"] == "test"), "image_id"]
        if count := int(among(test, train).sum()):
            text = f"{count:,} test images of {b} are training images of {a}: carry no model from one to the other"
            facts.append(
                Fact("A1-image-overlap", source, scheme, text, b, {"count": count, "total": len(test)})
            )
    return facts


def _crossings(
    split: pd.DataFrame, column: str, parts: Collection[str]
) -> Iterator[tuple[str, str, str, pd.DataFrame, int]]:
    """(task, earlier part, later part, the later one's rows whose `column` is in the earlier, all its rows)."""
    for task, table in split.groupby("task", sort=False):
        codes, names = pd.factorize(table[column])
        where = {part: (table["split"] == part).to_numpy() for part in parts}
        for a, b in combinations(parts, 2):
            seen = np.zeros(len(names), bool)
            seen[codes[where[a]]] = True
            hit = where[b] & seen[codes]
            if hit.any():
                yield str(task), a, b, table[hit], int(where[b].sum())


def _part(split: pd.DataFrame, names: pd.DataFrame, part: str) -> dict[str, pd.DataFrame]:
    """{task: identities of the images of one part}."""
    table = split[split["split"] == part].merge(names, on="image_id")
    return {str(task): rows.drop_duplicates("image_id") for task, rows in table.groupby("task", sort=False)}
