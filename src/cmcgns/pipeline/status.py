"""How far a profile is: from the graph, the files on disk and the notes that jobs leave.

A finished job counts as done whatever became of its settings, code or inputs since; that is what `cmcgns reproduce --dry-run`
says.
"""

import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import read_json
from cmcgns.pipeline import history, lock
from cmcgns.pipeline.graph import Job, graph_of
from cmcgns.pipeline.history import Entry
from cmcgns.pipeline.state import place
from cmcgns.progress import duration

STATES = ("done", "running", "failed", "waiting")
_TAIL = 16384  # bytes of a log that are looked at


class Found(NamedTuple):
    """Where a job is.

    Attributes:
        seconds: how long it took (done), has run (running), or since when it has failed (failed); None if unknown.
        said: the last line of its log (running), or its error (failed).
    """

    job: Job
    state: str
    seconds: float | None = None
    said: str = ""


def status(profile: str) -> dict[str, Any]:
    """How far a profile is.

    Returns:
        `profile`; `reproducing`, whether a run goes on in this folder; `counts` by state; `rules`, for each rule
        its counts, and `median_seconds` and `seconds` of its finished jobs; `left_seconds`, what the running and waiting
        jobs of rules that have run before take one after another, and `unknown`, how many are of other rules; `running`
        and `failed`: these jobs, with `rule`, `output`, `log`, `seconds` and what their log `said` last.
    """
    held, jobs = lock.holder_of_lock() is not None, graph_of(profile).jobs
    listed = history.read(profile)
    found = [_look(job, listed, held) for job in jobs]
    rules: dict[str, dict[str, Any]] = {}
    left, unknown = 0.0, 0
    for rule in dict.fromkeys(f.job.rule for f in found):
        of = [f for f in found if f.job.rule == rule]
        known_times = [f.seconds for f in of if f.state == "done" and f.seconds is not None]
        median = statistics.median(known_times) if known_times else None
        counts = {state: sum(f.state == state for f in of) for state in STATES}
        rules[rule] = counts | {"median_seconds": median, "seconds": sum(known_times)}
        undone = len(of) - counts["done"]
        if median is None:
            unknown += undone
            continue
        left += median * (undone - counts["running"])
        left += sum(max(0.0, median - (f.seconds or 0.0)) for f in of if f.state == "running")
    return {
        "profile": profile,
        "reproducing": held,
        "counts": {state: sum(f.state == state for f in found) for state in STATES},
        "rules": rules,
        "left_seconds": left,
        "unknown": unknown,
        "running": [_shown(f) for f in found if f.state == "running"],
        "failed": [_shown(f) for f in found if f.state == "failed"],
    }


def status_text(document: Mapping[str, Any]) -> str:
    """`status` to read: a line a rule, then what runs and what has failed."""
    counts = document["counts"]
    total = sum(counts.values())
    told = ", ".join(f"{counts[state]} {state}" for state in STATES[1:])
    lines = [
        f"profile {document['profile']}: {counts['done']} of {total} jobs done, {told}",
        "a reproduction is running in this folder" if document["reproducing"] else "nothing is running",
    ]
    if counts["done"] < total:
        rest = (
            f", and {document['unknown']} jobs of rules that have not run yet" if document["unknown"] else ""
        )
        lines.append(f"left: about {duration(document['left_seconds'])}, one job after another{rest}")
    rows = [
        (rule, *(str(values[state] or "") for state in STATES), short(values["median_seconds"]))
        for rule, values in document["rules"].items()
    ]
    lines += ["", *columns([("rule", *STATES, "median"), *rows])]
    for one in document["running"]:
        lines += ["", f"running for {short(one['seconds'])}: {one['rule']}, {one['output']}"]
        lines += [f"  {one['said']}"] if one["said"] else []
    for one in document["failed"]:
        lines += ["", f"failed {short(one['seconds'])} ago: {one['rule']}, {one['output']}"]
        lines += [f"  {one['said']}", f"  {one['log']}"]
    return "\n".join(lines)


def seconds_by_rule(profile: str, jobs: Sequence[Job]) -> dict[str, float]:
    """Median seconds of a job, for each rule that has run."""
    listed, times = history.read(profile), {}
    for job in jobs:
        if entry := history.local(job.target) or listed.get(job.target):
            times.setdefault(job.rule, []).append(entry["seconds"])
    return {rule: statistics.median(values) for rule, values in times.items()}


def _look(job: Job, listed: Mapping[str, Entry], held: bool) -> Found:
    running, failed = (_note(kind, job.target) for kind in ("running", "failed"))
    if running and held:
        return Found(job, "running", time.time() - running["since"], _last_line(job.log))
    if failed:
        return Found(job, "failed", time.time() - failed["at"], failed["said"])
    entry = history.local(job.target) or listed.get(job.target)
    done = entry is not None and all(map(os.path.isfile, job.outputs))
    return Found(job, "done", entry["seconds"]) if done else Found(job, "waiting")


def _note(kind: str, target: str) -> dict[str, Any]:
    try:
        return read_json(place(kind, target))
    except InputError:  # there is none, or it goes away just now
        return {}


def _last_line(log: str) -> str:
    """The last line of a log that is not blank."""
    try:
        with Path(log).open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _shown(found: Found) -> dict[str, Any]:
    job = found.job
    return {
        "rule": job.rule,
        "output": job.outputs[0],
        "log": job.log,
        "seconds": found.seconds,
        "said": found.said,
    }


def short(seconds: float | None) -> str:
    """A duration, or nothing."""
    return "" if seconds is None else duration(seconds)


def columns(rows: Iterable[tuple[str, ...]], left: int = 1) -> list[str]:
    """Rows of texts in columns, the first `left` of them flush left."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if i < left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
