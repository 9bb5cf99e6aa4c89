"""Checks of finished runs: the same score under different seeds (A14), learning rates that never did their work (A15)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from cmcgns.audit.findings import Fact, Finding, to_document
from cmcgns.files import read_json, write_json

NEVER = 0.5  # a run whose highest rate stays below this share of the one asked for ended inside its warm-up
STILL = 0.9  # a schedule that ends above this share of its highest rate has not come down


def audit_runs(
    *,
    groups: Sequence[Sequence[str | int]],
    seeds: Sequence[int],
    heads: Mapping[str, Mapping[str, Any]],
    phases: Sequence[Mapping[str, Any]],
    metrics: Sequence[Path] = (),
    history: Sequence[Path] = (),
    out: Path,
) -> tuple[list[Finding], list[Fact]]:
    """Check the runs of a profile and write `runs.json`.

    Args:
        groups: (arm, pair, fraction) of the runs; each has all `seeds`.
        heads: `<pair>-<fraction>` -> `lr, schedule, max_epochs` as set.
        phases: of every pre-training phase `arm, phase, lr, schedule`.
        metrics: `metrics.json` of the runs: all seeds of the first group, then of the next.
        history: `history.csv` of each of `phases`.
    """
    findings: list[Finding] = []
    runs = []
    for ((arm, pair, fraction), seed), file in zip(product(groups, seeds), metrics, strict=True):
        document = read_json(file)
        runs.append({"arm": arm, "pair": pair, "fraction": fraction, "primary": document["primary"]})
        rates, head = [row["lr"] for row in document["history"]], heads[f"{pair}-{fraction}"]
        # stopped early, a cosine has every right to be high still
        schedule = head["schedule"] if len(rates) == head["max_epochs"] else "constant"
        name = f"{arm}, {pair}, {fraction} %, seed {seed}"
        findings += dead_schedule(rates, head["lr"], schedule, name, pair.partition("-")[2])
    findings += duplicate_runs(runs)
    for phase, file in zip(phases, history, strict=True):
        rates = pd.read_csv(file)["lr"].tolist()
        name = f"{phase['arm']}, {phase['phase']}"
        findings += dead_schedule(rates, phase["lr"], phase["schedule"], name, "mimic_cxr")
    facts = [Fact("A14-duplicate-runs", "", "", f"{len(runs)} runs were compared")]
    write_json(out, to_document(findings, facts))
    return findings, facts


def duplicate_runs(runs: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """A14: runs of one cell whose score agrees to the last digit although their seeds differ; perfect scores may.

    Args:
        runs: `arm, pair, fraction, primary`, one a seed.
    """
    groups: dict[tuple[str, str, int], list[float]] = {}
    for run in runs:
        if run["primary"] is not None:
            groups.setdefault((run["arm"], run["pair"], run["fraction"]), []).append(run["primary"])
    findings = []
    for (arm, pair, fraction), scores in groups.items():
        again = sum(n for score, n in Counter(scores).items() if n > 1 and score not in (0.0, 1.0))
        if again:
            task, _, source = pair.partition("-")
            findings.append(
                Finding("A14-duplicate-runs", source, "", "warning", "", "", again, len(scores), (),
                        "see whether the seed reaches the run, or one run was copied", task=task, unit="runs",
                        detail=f"{arm} at {fraction} %: the same score to the last digit under different seeds")
            )  # fmt: skip
    return findings


def dead_schedule(
    rates: Sequence[float], asked: float, schedule: str, name: str, source: str
) -> list[Finding]:
    """A15: a run that never reached its learning rate, or whose schedule never came down.

    Args:
        rates: the learning rate at the end of each epoch.
        asked: the rate in the settings.
        schedule: `constant`, or one that falls.
    """
    if not rates:
        return []
    highest = max(rates)
    wrong = ""
    # a whole cosine of one or two epochs is over before its first epoch's end tells the highest rate
    if len(rates) > 2 and highest < NEVER * asked:
        wrong = f"its learning rate reached {highest:.2g} of {asked:.2g}"
    elif len(rates) > 2 and schedule != "constant" and rates[-1] > STILL * highest:
        wrong = f"its {schedule} schedule ended at {rates[-1]:.2g}, the highest was {highest:.2g}"
    if not wrong:
        return []
    return [
        Finding("A15-dead-schedule", source, "", "warning", "", "", len(rates), len(rates), (),
                "compare epochs, warm-up and schedule", unit="epochs", detail=f"{name}: {wrong}")
    ]  # fmt: skip
