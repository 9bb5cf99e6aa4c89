"""What a run would do, why, and how long it would take: told before it, and held against it while it goes on."""

import heapq
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.pipeline import history
from cmcgns.pipeline.graph import Job, in_order
from cmcgns.pipeline.judge import Reason, Verdict
from cmcgns.pipeline.plan import Plan, differences
from cmcgns.pipeline.runs import about_last, overhead
from cmcgns.progress import duration

NOTHING = "Nothing to be done (all requested files are present and up to date)."
MOST_REASONS, MOST_RULES = 12, 16  # lines: all of it is to fit a screen


class Price(NamedTuple):
    """What a run would do.

    Attributes:
        certain: jobs that run whatever comes out of others.
        possible: those that run only if the bytes of what they read change.
        taken: jobs that are taken over from others that have done them.
        kept: how many jobs stay as they are.
        seconds: target -> seconds, of the jobs that would run and whose like has run before.
        reasons: target -> why.
        settings: [name, value before, value now] of the profile since its last run here.
    """

    certain: list[Job]
    possible: list[Job]
    taken: list[Job]
    kept: int
    seconds: dict[str, float]
    reasons: dict[str, list[Reason]]
    settings: list[list[Any]]


def price(
    profile: str, graph: Sequence[Job], jobs: Sequence[Job], found: Verdict, taken: Sequence[str]
) -> Price:
    """Of the jobs of a profile's graph those that must run, less those that are taken over."""
    reasons = {job.target: found.stale.get(job.target) or [_missing(job, found)] for job in jobs}
    away = set(taken)
    ours = [job for job in jobs if job.target not in away]
    only_after = {job.target for job in ours if all(r.kind == "after" for r in reasons[job.target])}
    settings = about_last(profile).get("settings")
    now = Plan.load(profile).settings.model_dump(mode="json") if settings else None
    return Price(
        [job for job in ours if job.target not in only_after],
        [job for job in ours if job.target in only_after],
        [job for job in jobs if job.target in away],
        len(graph) - len(jobs),
        seconds_of(profile, ours),
        reasons,
        differences(settings, now) if settings else [],
    )


def _missing(job: Job, found: Verdict) -> Reason:
    if job.target not in found.sound:
        return Reason("new", job.rule)
    return Reason("missing", next(file for file in job.outputs if not os.path.isfile(file)))


def seconds_of(profile: str, jobs: Sequence[Job]) -> dict[str, float]:
    """Target -> how long a job is likely to take: as the last time, or as the jobs of its step whose settings are most like its own.

    Where those had other numbers of epochs, in proportion.
    """
    listed, of_step, found = history.read(profile), {}, {}
    for job in jobs:
        now = dict(_leaves(job.content["settings"]))
        if entry := history.local(job.target) or listed.get(job.target):
            found[job.target] = _scaled(entry["seconds"], dict(_leaves(entry["settings"])), now)
            continue
        if not of_step:
            for entry in _all_entries():
                of_step.setdefault(entry["step"], []).append(
                    (dict(_leaves(entry["settings"])), entry["seconds"])
                )
        alike: dict[int, list[float]] = {}
        for before, seconds in of_step.get(job.step, ()):
            alike.setdefault(len(before.items() & now.items()), []).append(_scaled(seconds, before, now))
        if alike:
            found[job.target] = statistics.median(alike[max(alike)])
    return found


def _leaves(settings: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(settings, dict):
        yield name, str(settings)
        return
    for key, value in settings.items():
        yield from _leaves(value, f"{name}.{key}")


def _scaled(seconds: float, before: Mapping[str, str], now: Mapping[str, str]) -> float:
    for leaf, value in now.items():
        if (
            leaf.endswith("epochs")
            and before.get(leaf, value) != value
            and before[leaf].isdigit()
            and value.isdigit()
        ):
            seconds *= int(value) / max(1, int(before[leaf]))
    return seconds


def _all_entries() -> list[history.Entry]:
    found = []
    for ledger in sorted(Path("results").glob("*/ledger.jsonl")):
        with suppress(InputError):  # another profile's, which is that profile's trouble
            found += history.read(ledger.parent.name).values()
    return found


def makespan(jobs: Sequence[Job], seconds: Mapping[str, float], cores: int, gpus: int = 0) -> float:
    """How long the jobs take on so many cores, each begun as soon as what it reads is there and cores and a GPU are free.

    Args:
        gpus: 0 for a machine without, on which the jobs that want one do without.
    """
    made_by = {file: job.target for job in jobs for file in job.outputs}
    waiting, after, ready = {}, {}, []
    for job in in_order(jobs):
        origins = {made_by[f] for f in job.inputs if f in made_by}
        waiting[job.target] = len(origins)
        for origin in origins:
            after.setdefault(origin, []).append(job)
        ready += [] if origins else [job]
    free, now = [cores, gpus], 0.0
    running: list[tuple[float, str, list[int]]] = []
    while ready or running:
        for job in list(ready):
            needs = [min(job.threads, cores), min(job.content["gpu"], gpus)]
            if all(n <= f for n, f in zip(needs, free, strict=True)):
                ready.remove(job)
                free = [f - n for n, f in zip(needs, free, strict=True)]
                heapq.heappush(running, (now + seconds.get(job.target, 0.0), job.target, needs))
            if not free[0]:
                break
        now, ended, needs = heapq.heappop(running)
        free = [f + n for n, f in zip(needs, free, strict=True)]
        for job in after.get(ended, ()):
            waiting[job.target] -= 1
            ready += [] if waiting[job.target] else [job]
    return now


def expected(price: Price, cores: int, gpus: int = 0) -> tuple[float, float]:
    """Seconds that a run takes if only what is certain runs, and if all does."""
    start, each = overhead()

    def whole(jobs: Sequence[Job]) -> float:
        return start + each * len(jobs) + makespan(jobs, price.seconds, cores, gpus) if jobs else 0.0

    return whole(price.certain), whole([*price.certain, *price.possible])


def describe(price: Price, found: Verdict, cores: int, gpus: int = 0) -> str:
    """A price to read, on one screen."""
    ours = [*price.certain, *price.possible]
    if not ours and not price.taken:
        return "\n".join([NOTHING, *_why(price)])
    lines = [*_why(price), ""]
    counts = [Counter(job.rule for job in jobs) for jobs in (price.certain, price.possible, price.taken)]
    rules = list(dict.fromkeys(job.rule for job in (*ours, *price.taken)))
    shown = rules if len(rules) <= MOST_RULES else rules[: MOST_RULES - 1]
    rows = [("job", "runs", "runs if what it reads changes", "is taken over")]
    rows += [(rule, *(str(count[rule] or "") for count in counts)) for rule in shown]
    if others := rules[len(shown) :]:
        rest = (str(sum(count[rule] for rule in others) or "") for count in counts)
        rows.append((f"{len(others)} other rules", *rest))
    rows.append(("in all", *(str(count.total() or "") for count in counts)))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines += [
        "  ".join(
            [row[0].ljust(wide[0]), *(t.rjust(w) for t, w in zip(row[1:], wide[1:], strict=True))]
        ).rstrip()
        for row in rows
    ]
    lines += ["", how_long(price, cores, gpus)]
    moved = [(found.changed, "is not what a job has written"), (found.unknown, "was made by no job")]
    lines += [f"{file} {what}: to be moved away" for files, what in moved for file in files]
    return "\n".join(lines)


def _why(price: Price) -> list[str]:
    """What has changed, each thing once, and how many jobs it concerns.

    Settings by their names in params.yaml, where the last run here is known, else by those that jobs have for them.
    """
    told: Counter[str] = Counter()
    for target, reasons in price.reasons.items():
        for reason in reasons:
            # the report shows the code of other steps, whose change is told where it is
            passed_on = reason.kind == "after" or (
                reason.kind == "setting" and reason.what.startswith("code.")
            )
            if passed_on or (reason.kind == "setting" and price.settings):
                continue
            about = f"{target}: " if reason.kind == "other" and os.path.exists(target) else ""
            told[f"{about}{reason}"] += 1
    lines = [str(Reason("setting", name, before, now)) for name, before, now in price.settings]
    if lines and not price.reasons:
        lines = [f"{line}  (no job that has run reads it)" for line in lines]
    lines += [f"{reason}  ({count} job{'s' * (count > 1)})" for reason, count in told.most_common()]
    more = len(lines) - MOST_REASONS
    return lines if more <= 0 else [*lines[:MOST_REASONS], f"and {more} more"]


def how_long(price: Price, cores: int, gpus: int = 0) -> str:
    """How long the jobs take that run, and how many there are besides."""
    kept, ours = f"{price.kept} jobs stay as they are.", [*price.certain, *price.possible]
    if not ours:
        return f"Nothing is computed. {kept}"
    unknown = Counter(job.rule for job in ours if job.target not in price.seconds)
    if unknown.total() == len(ours):
        return f"How long it takes is not known: nothing like it has run here. {kept}"
    least, most = expected(price, cores, gpus)
    told = f"About {duration(most)} on {cores} cores" + (f" and {gpus} GPUs" if gpus else "")
    if price.possible and price.certain:
        told += f", {duration(least)} if what comes out of the first is as before"
    if unknown:
        told += f", and {unknown.total()} jobs that have not run here yet: {', '.join(unknown)}"
    return f"{told}. {kept}"
