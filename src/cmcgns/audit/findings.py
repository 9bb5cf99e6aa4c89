"""What a check of the audit says: findings are faults, facts are numbers to know."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.files import write_json
from cmcgns.hidden_ids import hashed

SEVERITIES = ("critical", "warning", "info")
EXAMPLES = 20  # hashed ids that a finding shows


@dataclass(frozen=True)
class Finding:
    """One fault.

    Args:
        check: the number of the check and its words, "A2-group-overlap".
        source: the data set; "table" for anybody's own table.
        scheme: the split scheme; empty where the fault is none of a split.
        severity: critical (a leak between splits, or a wrong file), warning or info.
        split_a, split_b: where; of a leak, `split_b` is the later of train < valid < test. Empty if neither.
        count: how many of `total` are at fault; of a leak, what in `split_b` is also in `split_a`.
        total: out of how many; of a leak, all of `split_b`.
        ids: examples, made by `hash_examples`.
        remedy: what to do about it ("what_to_do" in JSON).
        task: where a source is split differently for its tasks.
        unit: what is counted: images, rows, patients, groups, files.
        detail: more in words.
    """

    check: str
    source: str
    scheme: str
    severity: str
    split_a: str
    split_b: str
    count: int
    total: int
    ids: tuple[str, ...]
    remedy: str
    task: str = ""
    unit: str = "images"
    detail: str = ""

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(f"unknown severity {self.severity!r}")

    def as_json(self) -> dict[str, Any]:
        """The finding as it stands in `audit.json`."""
        entry = asdict(self) | {"ids": list(self.ids), "count": int(self.count), "total": int(self.total)}
        entry["what_to_do"] = entry.pop("remedy")
        return entry


@dataclass(frozen=True)
class Fact:
    """A number that is no fault: a baseline to beat, a size, or a check that could not be made and why."""

    check: str
    source: str
    scheme: str
    statement: str
    task: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The fact as it stands in `audit.json`."""
        return asdict(self)


class Result(NamedTuple):
    """What checks found; it grows with every check."""

    findings: list[Finding]
    facts: list[Fact]

    def add(self, findings: Iterable[Finding], facts: Iterable[Fact] = ()) -> None:
        self.findings.extend(findings)
        self.facts.extend(facts)


def hash_examples(ids: Iterable[str], key: str) -> tuple[str, ...]:
    """The first 20 of the sorted distinct ids as `hashed` writes them.

    Args:
        key: see `hidden_ids`; without one there are no examples.
    """
    if not key:
        return ()
    first = sorted(set(map(str, ids)))[:EXAMPLES]
    return tuple(hashed(name, key) for name in first)


def to_document(findings: Sequence[Finding], facts: Sequence[Fact] = ()) -> dict[str, Any]:
    """`{"findings": [...], "facts": [...]}`, the worst findings first."""
    worst = sorted(findings, key=lambda found: SEVERITIES.index(found.severity))
    return {
        "findings": [found.as_json() for found in worst],
        "facts": [fact.as_json() for fact in facts],
    }


def write_audit(path: str | Path, findings: Sequence[Finding], facts: Sequence[Fact] = ()) -> None:
    """Write `audit.json`."""
    write_json(path, to_document(findings, facts))
