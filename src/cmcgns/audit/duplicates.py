"""A13: what pairs of images of one film mean for splits."""

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

import pandas as pd

from cmcgns.audit.checks import PARTS, PRETRAINING
from cmcgns.audit.findings import Fact, Finding, hash_examples
from cmcgns.sources.csvs import among

CHECK = "A13-near-duplicate"


def near_duplicate_findings(
    splits: Mapping[str, pd.DataFrame],
    pairs: pd.DataFrame,
    *,
    scheme: str,
    keys: Mapping[str, str],
    parts: Collection[str] = PARTS,
) -> tuple[list[Finding], list[Fact]]:
    """What pairs of one film mean for the splits of a scheme.

    Critical: an image of which an earlier split of the same task has a duplicate, or a test image of which another
    source pre-trains on one. Between downstream sources a fact, as in A8. Pairs inside a split are no fault.

    Args:
        splits: a split table a source.
        pairs: of `find_duplicates`.
        keys: of `hash_examples`, a source each.
        parts: the splits, earlier ones first.
    """
    turned = pairs.rename(
        columns=lambda name: name[:-1] + {"a": "b", "b": "a"}[name[-1]] if name[-2] == "_" else name
    )
    both_ways = pd.concat([pairs, turned], ignore_index=True)
    findings, facts = [], []
    for (a, b), between in both_ways.groupby(["source_a", "source_b"]):
        if a not in splits or b not in splits:
            continue
        for task_a, part_a, task_b, part_b in _cases(splits, a, b, parts):
            seen = splits[a].loc[(splits[a]["task"] == task_a) & (splits[a]["split"] == part_a)]
            table = splits[b].loc[(splits[b]["task"] == task_b) & (splits[b]["split"] == part_b)]
            leak = between[
                among(between["image_a"], seen["image_id"]) & among(between["image_b"], table["image_id"])
            ]
            if leak.empty:
                continue
            count, total = leak["image_b"].nunique(), len(table)
            told = f"{len(leak):,} pairs of one film"
            if a == b:
                group = splits[a].drop_duplicates("image_id").set_index("image_id")["group_id"]
                same = (leak["image_a"].map(group).array == leak["image_b"].map(group).array).sum()
                told += f", {same:,} of them of one group"
                remedy = "keep one image of each film, or all of them in one split"
            else:
                remedy = f"take them out of {a}'s training part"
            if a == b or a in PRETRAINING:
                findings.append(
                    Finding(CHECK, b, scheme, "critical", part_a if a == b else f"{a}:{part_a}", part_b, count, total,
                            hash_examples(leak["image_b"], keys[b]), remedy, task=task_b, detail=told)
                )  # fmt: skip
            else:
                text = f"{count:,} of {total:,} test images show a film of {a}, {task_a}: carry no model from there"
                facts.append(Fact(CHECK, b, scheme, text, task_b, {"count": count, "total": total}))
    return findings, facts


def _cases(
    splits: Mapping[str, pd.DataFrame], a: str, b: str, parts: Collection[str]
) -> Iterator[tuple[str, str, str, str]]:
    """(task and part of source a, task and part of source b) that must not have a film in common."""
    for task_b in splits[b]["task"].unique():
        if a == b:
            yield from ((task_b, part_a, task_b, part_b) for part_a, part_b in combinations(parts, 2))
        else:
            yield from ((task_a, "train", task_b, "test") for task_a in splits[a]["task"].unique())
