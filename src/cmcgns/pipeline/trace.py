"""Where a number comes from: from a table's cell down to the hashes of raw files, read from the ledger."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import read_json
from cmcgns.methods import METHODS
from cmcgns.pipeline.history import Entry, hashed_files, ledger_path, read
from cmcgns.pipeline.plan import Plan
from cmcgns.reporting.tables import ABLATION, DATASETS, TITLES


class Step(NamedTuple):
    """One file of the chain.

    Attributes:
        file, sha256: the file; of a file that no job made the hash that the job saw which read it.
        step: the function that made it; empty for a file that no job made.
        settings: all that the job could read of params.yaml.
        code: fingerprint of the code the job ran.
        started, seconds: when, UTC, and for how long.
        inputs: file -> sha256 of what the job read.
        raw: how many raw files it read besides, and one hash of them all.
        made: git revision, packages, versions, device and threads (`record.surroundings`).
        taken_from: where its files were taken over from, if the job was done before.
    """

    file: str
    sha256: str
    step: str = ""
    settings: Any = None
    code: str = ""
    started: str = ""
    seconds: float = 0.0
    inputs: Mapping[str, str] = {}
    raw: Mapping[str, Any] = {}
    made: Mapping[str, Any] = {}
    taken_from: str = ""


def runs_of(plan: Plan, cell: str) -> list[str]:
    """The metrics files behind a cell such as `table1 / CheXpert / 1% / CM-CGNS`; names as the tables print them.

    Raises:
        InputError: no such table, data set, fraction or method in this profile.
    """
    parts = [part.strip() for part in cell.split("/")]
    if len(parts) != 4:
        raise InputError(f"{cell!r} names no cell", expected="'table1 / CheXpert / 1% / CM-CGNS', or a file")
    table, dataset, fraction, method = parts
    name = table.lower().removeprefix("table").strip()
    if name not in plan.cell_tables():
        raise InputError(
            f"no table {table!r}", expected=f"one of {', '.join(f'table{n}' for n in plan.cell_tables())}"
        )
    groups = plan.groups(name)
    for what, wanted, told in (
        ("data set", dataset, lambda g: DATASETS[g[1].partition("-")[2]]),
        ("fraction", fraction, lambda g: f"{g[2]}%"),
        ("method", method, lambda g: title(name, g[0])),
    ):
        known = list(dict.fromkeys(told(group) for group in groups))
        chosen = [group for group in groups if told(group).lower() == wanted.lower()]
        if not chosen:
            raise InputError(f"no {what} {wanted!r} in {TITLES[name]}", expected=f"one of {', '.join(known)}")
        groups = chosen
    seeds = plan.settings.downstream.seeds
    return [f"{plan.paths.cell(*group, seed)}/metrics.json" for group in groups for seed in seeds]


def chain(profile: str, targets: list[str]) -> list[Step]:
    """The targets and all that they were made from, each file once, a file before what it was made from.

    Raises:
        InputError: a target is not in the ledger.
    """
    entries = by_file(read(profile).values())
    for target in targets:
        if target not in entries:
            raise InputError(
                f"{target} is not in the ledger", file=ledger_path(profile),
                remedy="run `cmcgns reproduce`, or name a file that it has made",
            )  # fmt: skip
    return follow(entries, targets)


def by_file(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The entry of each file that they speak of."""
    return {file: entry for entry in entries for file in hashed_files(entry)}


def follow(entries: Mapping[str, Entry], targets: list[str]) -> list[Step]:
    """As `chain`, in entries by file; a file that is not there counts as made by no job."""
    steps: dict[str, Step] = {}
    queue = [(target, "") for target in targets]
    for target, seen_as in queue:  # grows while it is walked
        if target in steps:
            continue
        entry = entries.get(target)
        steps[target] = Step(target, seen_as) if entry is None else step_of(target, entry)
        queue += steps[target].inputs.items()
    return list(steps.values())


def step_of(file: str, entry: Entry) -> Step:
    """One file of an entry."""
    started = datetime.fromtimestamp(entry["started"], UTC)
    return Step(
        file, hashed_files(entry)[file], entry["step"].removeprefix("cmcgns."), entry["settings"], entry["code"],
        started.isoformat(timespec="seconds"), round(entry["seconds"], 1), hashed_files(entry, "inputs"),
        entry.get("reads") or {}, entry["made"], (entry.get("adopted") or {}).get("from", ""),
    )  # fmt: skip


def as_text(profile: str, targets: list[str]) -> str:
    """The chain to read: the targets with their scores, then each step with its hash, job, settings and inputs."""
    lines = []
    for target in targets:
        if target.endswith("metrics.json") and Path(target).is_file():
            value = read_json(target)
            lines.append(f"{target}: {value.get('metric')} {value.get('primary')}")
    for step in chain(profile, targets):
        lines += ["", f"{step.file}", f"  sha256    {step.sha256 or 'not recorded'}"]
        if not step.step:
            lines.append("  made by no job")
            continue
        lines.append(f"  made by   {step.step}, code {step.code}, {step.started}, {step.seconds} s")
        lines += [f"  taken over, {step.taken_from}"] if step.taken_from else []
        lines.append("  under     " + ", ".join(f"{name} {value}" for name, value in step.made.items()))
        lines += (
            [f"  settings  {json.dumps(step.settings, sort_keys=True)}"] if step.settings is not None else []
        )
        lines += [f"  from      {name}" for name in step.inputs]
        if step.raw:
            lines.append(
                f"  from      {step.raw['files']} raw files and folders, sha256 {step.raw['sha256']}"
            )
    return "\n".join(lines)


def as_prov(profile: str, targets: list[str]) -> dict[str, Any]:
    """The chain as W3C PROV-JSON: files are entities, jobs are activities."""
    entity: dict[str, Any] = {}
    activity: dict[str, Any] = {}
    used: dict[str, Any] = {}
    generated: dict[str, Any] = {}
    for step in chain(profile, targets):
        entity[f"file:{step.file}"] = {"cmcgns:sha256": step.sha256}
        if not step.step:
            continue
        job = f"job:{step.step}-{step.started}-{step.file}"
        activity[job] = {
            "prov:startTime": step.started,
            "cmcgns:seconds": step.seconds,
            "cmcgns:step": step.step,
            "cmcgns:code": step.code,
            "cmcgns:settings": json.dumps(step.settings, sort_keys=True),
            **{f"cmcgns:{name}": value for name, value in step.made.items()},
            **({"cmcgns:takenFrom": step.taken_from} if step.taken_from else {}),
        }
        generated[f"_:g{len(generated)}"] = {"prov:entity": f"file:{step.file}", "prov:activity": job}
        for name in step.inputs:
            used[f"_:u{len(used)}"] = {"prov:activity": job, "prov:entity": f"file:{name}"}
    prefix = {name: f"urn:cmcgns:{name}:" for name in ("cmcgns", "file", "job")}
    return {
        "prefix": prefix,
        "entity": entity,
        "activity": activity,
        "used": used,
        "wasGeneratedBy": generated,
    }


def title(table: str, arm: str) -> str:
    """What a table, by its name, calls an arm."""
    if table == "4" and arm in ABLATION:
        return ABLATION[arm]
    return METHODS[arm].title if arm in METHODS else arm.partition("-")[2]
