"""The paper's claims, held against the runs: docs/science.md says what is claimed and when it holds."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from cmcgns.files import csv_text, markdown_text, read_csv_rows, read_json, write_text
from cmcgns.methods import METHODS
from cmcgns.reporting.runs import Group, keyed
from cmcgns.reporting.tables import TASKS

# what is compared in C4 and C5: metric, its control
MAPS = (
    ("pointing, own film - other film", "pointing", "pointing (other film)"),
    ("relative pointing, own film - other film", "pointing (relative)", "pointing (relative, other film)"),
)
FAMILIES = ("initialisation", "image only", "global image-text", "local image-text")
Scores = Mapping[tuple[str, str, int, int], float]
"""(arm, pair, fraction, seed) -> the primary metric in per cent."""


class Finding(NamedTuple):
    """One claim in one task: the difference for each seed (C3: each data set), in points, and what follows."""

    claim: str
    task: str
    what: str
    differences: tuple[float, ...]
    verdict: str


def write_claims(
    *,
    cells: Sequence[Group],
    seeds: list[int],
    metrics: list[Path],
    comparisons: Path,
    grounding_arms: list[str],
    grounding: Sequence[Path] = (),
    csv: Path,
    md: Path,
) -> None:
    """Write the findings twice.

    Args:
        cells: the (arm, pair, fraction) that were run.
        metrics: cells x seeds, the `metrics.json` of the runs.
        comparisons: the table of comparisons with CM-CGNS.
        grounding: for each of `grounding_arms` its metrics of phrase grounding.
    """
    primary = {key: read_json(file)["primary"] for key, file in keyed(cells, seeds, metrics).items()}
    scores = {key: 100 * value for key, value in primary.items() if value is not None}
    attended = dict(zip(grounding_arms, map(read_json, grounding), strict=True))
    found = [*families(scores), *ablation(scores), *against_random(comparisons)]
    found += [*attention(attended), *best(scores)]
    rows = [["claim", "task", "difference of", "mean", "each", "verdict"]]
    for f in found:
        each = " ".join(f"{d:+.2f}" for d in f.differences)
        rows.append([f.claim, f.task, f.what, f"{fmean(f.differences):+.2f}", each, f.verdict])
    write_text(csv, csv_text(rows))
    write_text(md, markdown_text(rows))


def families(scores: Scores) -> list[Finding]:
    """C1: each family against the one before it, CM-CGNS against the last; on the cells that all methods have."""
    scores = _common({key: value for key, value in scores.items() if key[0] in METHODS})
    members = defaultdict(list)
    for arm in dict.fromkeys(key[0] for key in scores):
        if arm in METHODS and arm != "cm_cgns":
            members[METHODS[arm].family].append(arm)
    order = [(family, members[family]) for family in FAMILIES if members[family]]
    if any(key[0] == "cm_cgns" for key in scores):
        order.append(("CM-CGNS", ["cm_cgns"]))
    return [
        _finding(
            "C1", task, f"{high[0]} - {low[0]}", _mean(scores, task, high[1]), _mean(scores, task, low[1])
        )
        for task in _tasks(scores)
        for low, high in zip(order, order[1:], strict=False)
    ]


def ablation(scores: Scores, of: str = "cm_cgns") -> list[Finding]:
    """C2: each part against the baseline, both parts against each."""
    part = {name: f"{of}-{name}" for name in ("baseline", "cgns", "mir")} | {"both": of}
    known = {key[0] for key in scores}
    if not set(part.values()) <= known:
        return []
    shared = {key[1:3] for key in scores if key[0] == part["baseline"]}
    kept = _common({k: v for k, v in scores.items() if k[1:3] in shared and k[0] in part.values()})
    steps = [
        ("cgns", "baseline"),
        ("mir", "baseline"),
        ("both", "baseline"),
        ("both", "cgns"),
        ("both", "mir"),
    ]
    return [
        _finding("C2", task, f"{a} - {b}", _mean(kept, task, [part[a]]), _mean(kept, task, [part[b]]))
        for task in _tasks(kept)
        for a, b in steps
    ]


def against_random(comparisons: Path) -> list[Finding]:
    """C3: CM-CGNS against a random start, from the intervals of the comparisons."""
    pair = {"method": METHODS["random"].title, "reference": METHODS["cm_cgns"].title}
    rows = [row for row in read_csv_rows(comparisons) if row.items() >= pair.items()]
    found = []
    for table, task in TASKS.items():
        for fraction in ("1%", "10%"):
            chosen = [r for r in rows if (r["table"], r["fraction"]) == (table, fraction) and r["difference"]]
            if not chosen:
                continue
            # the table says random minus CM-CGNS
            above = [float(row["high"]) < 0 for row in chosen]
            below = [float(row["low"]) > 0 for row in chosen]
            verdict = "holds" if any(above) and not any(below) else "does not hold"
            what = f"CM-CGNS - random at {fraction}: {', '.join(row['dataset'] for row in chosen)}"
            differences = tuple(-float(row["difference"]) for row in chosen)
            found.append(Finding("C3", task, what.replace(",", ";"), differences, verdict))
    return found


def attention(documents: Mapping[str, dict], of: str = "cm_cgns") -> list[Finding]:
    """C4: a sentence's map on its own film against its map on another film, as it is and relative; C5: channels, where it fails."""
    found = []
    for claim, arm, wanted in (("C4", of, True), ("C5", f"{of}-channel_view", False)):
        scores = list(documents.get(arm, {}).get("seeds", {}).values())
        for what, own, control in MAPS:
            pairs = [(s.get(own), s.get(control)) for s in scores]
            differences = tuple(100 * (a - b) for a, b in pairs if None not in (a, b))
            if len(differences) < 2:
                continue
            clear = fmean(differences) > 2 * stdev(differences)
            verdict = "holds" if clear == wanted else "does not hold"
            found.append(Finding(claim, "grounding", f"{arm}: {what}", differences, verdict))
    return found


def best(scores: Scores, of: str = "cm_cgns") -> list[Finding]:
    """C6: CM-CGNS against the best other method of each cell, on the cells that all methods have."""
    scores = _common({key: value for key, value in scores.items() if key[0] in METHODS})
    others = sorted({key[0] for key in scores if key[0] in METHODS and key[0] != of})
    if not others or not any(key[0] == of for key in scores):
        return []
    rivals: dict[tuple[str, str, int, int], float] = {}
    for pair, fraction in {key[1:3] for key in scores if key[0] == of}:
        by_seed = {
            arm: {k[3]: v for k, v in scores.items() if k[:3] == (arm, pair, fraction)} for arm in others
        }
        rival = max((arm for arm in others if by_seed[arm]), key=lambda arm: fmean(by_seed[arm].values()))
        rivals |= {("best other", pair, fraction, seed): value for seed, value in by_seed[rival].items()}
    joined = {**scores, **rivals}
    return [
        _finding(
            "C6", task, "CM-CGNS - best other", _mean(joined, task, [of]), _mean(joined, task, ["best other"])
        )
        for task in _tasks(scores)
    ]


def _common(scores: Scores) -> Scores:
    """The scores of the (pair, fraction, seed) that every arm has."""
    arms = {key[0] for key in scores}
    counts = Counter(key[1:] for key in scores)
    return {key: value for key, value in scores.items() if counts[key[1:]] == len(arms)}


def _tasks(scores: Scores) -> list[str]:
    return list(dict.fromkeys(key[1].split("-")[0] for key in scores))


def _mean(scores: Scores, task: str, arms: list[str]) -> dict[int, float]:
    """seed -> mean over the arms of their mean over the task's cells."""
    values = defaultdict(list)
    for (arm, pair, _, seed), value in scores.items():
        if arm in arms and pair.startswith(task):
            values[seed].append(value)
    return {seed: fmean(found) for seed, found in sorted(values.items())}


def _finding(claim: str, task: str, what: str, high: dict[int, float], low: dict[int, float]) -> Finding:
    differences = tuple(high[seed] - low[seed] for seed in high if seed in low)
    holds = (
        "holds" if min(differences) > 0 else "in the mean only" if fmean(differences) > 0 else "does not hold"
    )
    return Finding(claim, task, what, differences, holds)
