"""What is stale: decided here and nowhere else, from the jobs of the graph and from what the jobs that ran say of their files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.pipeline import gpu, history, store
from cmcgns.pipeline.fingerprint import changes
from cmcgns.pipeline.graph import Graph, Job, by_output, in_order
from cmcgns.pipeline.history import Entry, hashed_files
from cmcgns.pipeline.reads import changed as changed_reads
from cmcgns.pipeline.record import surroundings
from cmcgns.pipeline.state import file_hash, place


class Reason(NamedTuple):
    """Why a job must run: its `kind`, what it is about, and of a setting the values.

    Kinds: `setting`, `code` (functions, or a step where they are not known), `file`, `after` (a rule that runs again),
    `missing` (a file that was there), `new` (a rule whose job has not run), `other`.
    """

    kind: str
    what: str
    before: Any = None
    now: Any = None

    def __str__(self) -> str:
        told = {
            "setting": f"setting {self.what}: {_short(self.before)} -> {_short(self.now)}",
            "code": f"code: {self.what}",
            "file": f"{self.what} has changed",
            "after": f"{self.what} runs again",
            "missing": f"{self.what} is not there",
            "new": f"{self.what} has not run yet",
        }
        return told.get(self.kind, self.what)


class Verdict(NamedTuple):
    """What must run, and why.

    Attributes:
        stale: target -> reasons of the jobs whose outputs are not those of these settings, code and inputs. A job after one of
            them is stale, too: when its turn comes, it may turn out that its inputs have kept their bytes.
        changed: files that are not as the job that ran has left them.
        unknown: files at the places of outputs that no job has made.
        entries: target -> entry, of the jobs that have one that is true.
        sound: targets of the jobs that would do now what they have done; their files may be missing or changed.
    """

    stale: dict[str, list[Reason]]
    changed: list[str]
    unknown: list[str]
    entries: dict[str, Entry]
    sound: set[str]


def judge(profile: str, jobs: Sequence[Job], *, remember: bool = True) -> Verdict:
    """Hold every job of the graph against its history.

    Args:
        remember: whether raw files that were touched and not changed may be noted as such.
    """
    made_by, listed = by_output(jobs), history.read(profile)
    named = {job.target: job for job in jobs}
    expected: dict[
        str, str
    ] = {}  # file -> sha256, of what is as it should be or will be made again as it was
    passed_on: set[str] = set()  # stale jobs after which others must be asked again
    found = Verdict({}, [], [], {}, set())
    for job in in_order(jobs):
        target = job.target
        said = history.believed(target, listed)
        if said is not None:
            found.entries[target] = said
        there = [] if said else [file for file in job.outputs if os.path.isfile(file)]
        said = said or history.local(target) or listed.get(target)
        if said is None and not there:
            continue  # it has not run: Snakemake sees what is missing
        upstream = next(
            (
                origin
                for f in job.inputs
                if (origin := made_by[f].target if f in made_by else "") in passed_on
            ),
            "",
        )
        reasons = (
            [Reason("other", "no job has made its files")] if said is None else _differs(job, said, expected)
        )
        for kind, folders in (("reads", job.content["folders"]), ("fills", job.content["fills"])):
            if path := changed_reads(place(kind, target), folders, remember=remember):
                reasons.append(Reason("file", path))
        if reasons or upstream:
            found.stale[target] = reasons or [Reason("after", named[upstream].rule)]
            passed_on.add(target)
        else:
            expected |= hashed_files(said)
            found.sound.add(target)
        if there:
            written = hashed_files(said) if said else {}
            found.unknown.extend(file for file in there if file not in written)
            found.changed.extend(
                file for file in there if file in written and file_hash(file) != written[file]
            )
            found.stale.setdefault(target, [Reason("other", "its files are not as a job has left them")])
    return found


def to_run(graph: Graph, found: Verdict) -> list[Job]:
    """The jobs that are stale, or whose missing files somebody asks for, in the graph's order."""
    made_by = by_output(graph.jobs)
    missing = [file for file in graph.wanted if not os.path.isfile(file)]
    waiting = [*found.stale, *(made_by[file].target for file in missing if file in made_by)]
    named, chosen = {job.target: job for job in graph.jobs}, set()
    while waiting:
        target = waiting.pop()
        if target not in chosen:
            chosen.add(target)
            waiting += [
                made_by[f].target for f in named[target].inputs if f in made_by and not os.path.isfile(f)
            ]
    return [job for job in graph.jobs if job.target in chosen]


class Takeover(NamedTuple):
    """Jobs that need not run, because others have done them: target -> (job, hashes of its inputs, key).

    Attributes:
        now: those that can be taken over at once, in an order of work.
        later: those that have to wait for a file that must be there, as trainings have to for the gate.
        gates: these files, of jobs that do run.
    """

    now: dict[str, tuple[Job, history.Hashed, str]]
    later: dict[str, tuple[Job, history.Hashed, str]]
    gates: list[str]


def takeover(jobs: Sequence[Job], found: Verdict, *, local: bool = True) -> Takeover:
    """Of the jobs that must run those that another has done.

    Args:
        local: they would run on this machine; elsewhere on a device as the jobs of this folder have found it there.
    """
    chosen = Takeover({}, {}, [])
    if not store.has_donors():
        return chosen
    before, known = (
        by_output(jobs),
        {},
    )  # known: file -> sha256, of what is there and of what would be taken over
    waiting: set[str] = set()  # of these the ones that are not there yet
    for target, entry in found.entries.items():
        if target not in found.stale:
            known |= hashed_files(entry)
    filled: dict[str, Path] = {}
    for job in in_order(jobs):
        named = {k: history.files_of({"": files}) for k, files in job.content["inputs"].items()}
        if any(file in before and file not in known for files in named.values() for file in files):
            continue
        try:
            inputs = {k: [[f, known.get(f) or file_hash(f)] for f in files] for k, files in named.items()}
        except OSError:
            continue
        name = history.identity(job.content, inputs)
        for device in [""] if local or not job.content["gpu"] else gpu.known_devices():
            key = store.key_of(name, surroundings(job.content, device))
            donor = next((d for d in store.donors(key) if store.fits(d, job.content, filled)), None)
            if donor is None:
                continue
            gates = [f for f in history.files_of(job.content["requires"]) if f in before and f not in known]
            chosen.gates.extend(gates)
            late = gates or not waiting.isdisjoint(job.inputs)
            (chosen.later if late else chosen.now)[job.target] = job, inputs, key
            waiting.update(job.outputs if late else ())
            filled |= {top: donor.folders[name] for name, top in job.content["fills"].items()}
            known |= dict(zip(job.outputs, hashed_files(donor.entry).values(), strict=True))
            break
    return chosen._replace(gates=sorted(set(chosen.gates)))


def _differs(job: Job, entry: Entry, expected: Mapping[str, str]) -> list[Reason]:
    """Why a job is not the one that an entry speaks of; nothing if it is."""
    now, reasons = job.content, []
    if now["step"] != entry["step"]:
        reasons.append(Reason("other", f"it is made by {now['step']}, not by {entry['step']}"))
    elif now["code"] != entry["code"]:
        parts = changes(entry["code"], now["step"], now["also"]) or [now["step"]]
        reasons += [Reason("code", part) for part in parts]
    reasons += _differences(entry["settings"], now["settings"])
    for name in sorted(now["inputs"].keys() | entry["inputs"].keys()):
        files = history.files_of({"": now["inputs"].get(name, [])})
        digests = [digest for _, digest in entry["inputs"].get(name, [])]
        if len(files) != len(digests):
            reasons.append(Reason("other", f"it reads other files as {name}"))
            continue
        for file, digest in zip(files, digests, strict=True):
            if (expected.get(file) or _on_disk(file)) not in (None, digest):
                reasons.append(Reason("file", file))
    if sorted(now["outputs"]) != sorted(entry["outputs"]):
        reasons.append(Reason("other", "it writes other files"))
    return reasons


def _on_disk(file: str) -> str | None:
    return file_hash(file) if os.path.isfile(file) else None


def _differences(before: Any, now: Any, name: str = "") -> list[Reason]:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [Reason("setting", name, before, now)]
    return [
        reason
        for key in sorted(before.keys() | now.keys())
        for reason in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
