"""What a profile consists of, and what it costs where something of it has run before."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cmcgns.pipeline.graph import graph_of
from cmcgns.pipeline.plan import Plan
from cmcgns.pipeline.status import columns, seconds_by_rule, short
from cmcgns.progress import duration
from cmcgns.reporting.tables import TITLES


def describe(plan: Plan) -> dict[str, Any]:
    """What a profile consists of.

    Returns:
        `profile, scheme, synthetic, sources, seeds, fractions`; `arms`: `arm, title, starts_from` and its `phases`, each
        with `phase, epochs` and `run`, the folder of the run, which arms may share; `tables`: `name, title, cells, runs`;
        `rules`: `rule, jobs`, and `median_seconds` of the jobs of earlier runs, or None; `jobs`; `known_seconds`, what all
        jobs of known rules take one after another.
    """
    s = plan.settings
    jobs = graph_of(s.profile).jobs
    known, counted = seconds_by_rule(s.profile, jobs), Counter(job.rule for job in jobs)
    return {
        "profile": s.profile,
        "scheme": plan.scheme,
        "synthetic": bool(s.synthetic),
        "sources": plan.sources(),
        "seeds": list(s.downstream.seeds),
        "fractions": list(s.downstream.fractions),
        "arms": [
            {
                "arm": arm,
                "title": plan.title(arm),
                "starts_from": plan.image_weights(arm),
                "phases": [
                    {
                        "phase": phase,
                        "epochs": s.training(plan.method(arm), phase)["epochs"],
                        "run": plan.phase(arm, phase),
                    }
                    for phase in plan.phases(arm)
                ],
            }
            for arm in plan.arms()
        ],
        "tables": [_table(plan, name) for name in plan.tables()],
        "rules": [
            {"rule": rule, "jobs": count, "median_seconds": known.get(rule)}
            for rule, count in counted.items()
        ],
        "jobs": sum(counted.values()),
        "known_seconds": sum(count * known[rule] for rule, count in counted.items() if rule in known),
    }


def describe_text(document: Mapping[str, Any]) -> str:
    """`describe` to read."""
    of = "the synthetic world" if document["synthetic"] else "raw files"
    lines = [
        f"profile {document['profile']}: scheme {document['scheme']}, {of}: {', '.join(document['sources'])}",
        f"seeds {', '.join(map(str, document['seeds']))}; "
        f"{', '.join(f'{f} %' for f in document['fractions'])} of the training labels",
        "",
    ]
    rows = [("arm", "starts from", "phases: epochs")]
    for arm in document["arms"]:
        phases = []
        for phase in arm["phases"]:
            owner = phase["run"].split("/")[-2]
            shared = "" if owner == arm["arm"] else f" (that of {owner})"
            phases.append(f"{phase['phase']}: {phase['epochs']}{shared}")
        rows.append((arm["arm"], arm["starts_from"], ", ".join(phases)))
    lines += [*columns(rows, left=3), ""]
    rows = [("table", "cells", "runs")]
    rows += [(t["title"], str(t["cells"] or ""), str(t["runs"] or "")) for t in document["tables"]]
    lines += [*columns(rows), ""]
    rows = [("rule", "jobs", "median", "together")]
    for rule in document["rules"]:
        median = rule["median_seconds"]
        together = None if median is None else median * rule["jobs"]
        rows.append((rule["rule"], str(rule["jobs"]), short(median), short(together)))
    lines += columns(rows)
    unknown = [rule["rule"] for rule in document["rules"] if rule["median_seconds"] is None]
    cost = f", {duration(document['known_seconds'])} one after another" if document["known_seconds"] else ""
    but = f"; never run here: {', '.join(unknown)}" if cost and unknown else ""
    return "\n".join([*lines, f"{document['jobs']} jobs{cost}{but}"])


def _table(plan: Plan, name: str) -> dict[str, Any]:
    """Cells and runs of a table; 0 where its rows are no fine-tuning runs of its own."""
    cells = len(plan.groups(name)) if name in plan.cell_tables() or name == "leakage" else 0
    times = len(plan.leakage_schemes()) if name == "leakage" else 1
    return {
        "name": name,
        "title": TITLES[name],
        "cells": cells,
        "runs": cells * times * len(plan.settings.downstream.seeds),
    }
