"""How far a profile is: from the plan, the files on disk and what Snakemake has noted.

Snakemake itself is not asked: it takes many seconds, and not while it runs. So a finished job counts as done whatever
became of its settings, code or inputs since; that is what `cmcgns reproduce --dry-run` says.
"""

from __future__ import annotations

import fcntl
import os
import statistics
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.pipeline import ledger
from cmcgns.pipeline.jobs import Job, jobs
from cmcgns.pipeline.plan import Plan
from cmcgns.progress import duration

INCOMPLETE = Path(".snakemake/incomplete")  # a marker for each output of a job that has begun and not ended
LOCK = Path(".snakemake/cmcgns.lock")
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


def status(plan: Plan) -> dict[str, Any]:
    """How far a profile is.

    Returns:
        `profile`; `reproducing`, whether `cmcgns reproduce` runs in this folder; `counts` by state; `rules`, for each rule
        its counts, and `median_seconds` and `seconds` of its finished jobs; `left_seconds`, what the running and waiting
        jobs of rules that have run before take one after another, and `unknown`, how many are of other rules; `running`
        and `failed`: these jobs, with `rule`, `output`, `log`, `seconds` and what their log `said` last.
    """
    known, held, now = Records(plan.settings.profile), _held(), time.time()
    found = [_look(job, known, held, now) for job in jobs(plan)]
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
        "profile": plan.settings.profile,
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


class Records:
    """What is known of an output: Snakemake's record, or the ledger's in a clone that has not run yet."""

    def __init__(self, profile: str):
        self.profile = profile

    def of(self, target: str) -> Mapping[str, Any] | None:
        try:
            record = ledger.read_record(target)
        except InputError:  # being written just now
            record = None
        return record or self._listed.get(target)

    @cached_property
    def _listed(self) -> dict[str, Any]:
        return {entry["target"]: entry["record"] for entry in ledger.read(self.profile)}


def _look(job: Job, known: Records, held: bool, now: float) -> Found:
    begun = [time for time in map(_changed, (ledger.record_path(o, INCOMPLETE) for o in job.outputs)) if time]
    if begun and held:
        return Found(job, "running", now - min(begun), _last_line(_tail(job.log)))
    made = [_changed(output) for output in job.outputs]
    there = all(made) and not begun  # what a killed job has left is half a file
    logged = _changed(job.log)
    # a finished job may say its last word after its output is there, so a newer log alone means nothing
    if logged and (not there or logged > max(made)) and (error := _error(_tail(job.log))):
        return Found(job, "failed", now - logged, error)
    record = known.of(job.outputs[0]) if there else None
    return Found(job, "done", took(record)) if record else Found(job, "waiting")


def _changed(path: str | Path) -> float:
    """Time of the last change, or 0 if there is no such file."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def took(record: Mapping[str, Any] | None) -> float | None:
    """Seconds a job took, or None without a record."""
    return record["endtime"] - record["starttime"] if record else None


def _held() -> bool:
    """Whether a reproduction runs here: the kernel gives its lock back when the last of its processes is gone."""
    if not LOCK.exists():
        return False
    with LOCK.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _tail(log: str | Path) -> list[str]:
    """The last lines of a log that are not blank."""
    try:
        with Path(log).open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]


def _last_line(lines: list[str]) -> str:
    return lines[-1] if lines else ""


def _error(lines: list[str]) -> str:
    """The error a log ends in: our own message, a traceback's last line, or a usage error; else nothing."""
    told = [line for line in lines if line.startswith("cmcgns: ")]
    if told:
        return told[-1]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return lines[-1]
    boxed = [i for i, line in enumerate(lines) if line.startswith("╭─ Error")]
    return lines[boxed[-1] + 1].strip("│ ") if boxed and boxed[-1] + 1 < len(lines) else ""


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
