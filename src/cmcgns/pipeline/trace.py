"""Where a number comes from: from a table's cell down to the hashes of raw files, read from the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import read_json
from cmcgns.methods import METHODS
from cmcgns.pipeline.ledger import ledger_path, read
from cmcgns.pipeline.plan import Plan
from cmcgns.reporting.tables import ABLATION, DATASETS, TITLES


class Step(NamedTuple):
    """One file of the chain.

    Attributes:
        file, sha256: the file; of a raw file the hash that the job saw which read it.
        rule: the job that made it; empty for a raw file.
        settings: all that the job could read of params.yaml.
        code: fingerprint of the code the job ran.
        started, seconds: when, UTC, and for how long.
        inputs: the files the job read.
        made: git revision, lock of packages, versions and device (`ledger.surroundings`).
    """

    file: str
    sha256: str
    rule: str = ""
    settings: Any = None
    code: str = ""
    started: str = ""
    seconds: float = 0.0
    inputs: tuple[str, ...] = ()
    made: Mapping[str, Any] = {}


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
    entries = {entry["target"]: entry for entry in read(profile)}
    for target in targets:
        if target not in entries:
            raise InputError(
                f"{target} is not in the ledger", file=ledger_path(profile),
                remedy="run `cmcgns reproduce`, or name a file that it has made",
            )  # fmt: skip
    return follow(entries, targets)


def follow(entries: Mapping[str, Mapping[str, Any]], targets: list[str]) -> list[Step]:
    """As `chain`, in a ledger's entries by target; a target that is not there counts as a raw file."""
    steps: dict[str, Step] = {}
    queue = [(target, "") for target in targets]
    while queue:
        target, seen_as = queue.pop(0)
        if target in steps:
            continue
        entry = entries.get(target)
        if entry is None:
            steps[target] = Step(target, seen_as)
            continue
        steps[target] = step_of(entry)
        checksums = entry["record"].get("input_checksums") or {}
        queue += [
            (name, str(checksums.get(name, "")).removeprefix("sha256:")) for name in steps[target].inputs
        ]
    return list(steps.values())


def step_of(entry: Mapping[str, Any]) -> Step:
    """An entry of the ledger, read."""
    record = entry["record"]
    settings, code = _params(record.get("params") or [])
    started = datetime.fromtimestamp(record["starttime"], UTC)
    return Step(
        entry["target"], entry["sha256"], record["rule"], settings, code, started.isoformat(timespec="seconds"),
        round(record["endtime"] - record["starttime"], 1), tuple(record.get("input") or []), entry["made"],
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
        if not step.rule:
            lines.append("  raw file")
            continue
        lines.append(f"  made by   {step.rule}, code {step.code}, {step.started}, {step.seconds} s")
        lines.append("  under     " + ", ".join(f"{name} {value}" for name, value in step.made.items()))
        lines += (
            [f"  settings  {json.dumps(step.settings, sort_keys=True)}"] if step.settings is not None else []
        )
        lines += [f"  from      {name}" for name in step.inputs]
    return "\n".join(lines)


def as_prov(profile: str, targets: list[str]) -> dict[str, Any]:
    """The chain as W3C PROV-JSON: files are entities, jobs are activities."""
    entity: dict[str, Any] = {}
    activity: dict[str, Any] = {}
    used: dict[str, Any] = {}
    generated: dict[str, Any] = {}
    for step in chain(profile, targets):
        entity[f"file:{step.file}"] = {"cmcgns:sha256": step.sha256}
        if not step.rule:
            continue
        job = f"job:{step.rule}-{step.started}-{step.file}"
        activity[job] = {
            "prov:startTime": step.started,
            "cmcgns:seconds": step.seconds,
            "cmcgns:rule": step.rule,
            "cmcgns:code": step.code,
            "cmcgns:settings": json.dumps(step.settings, sort_keys=True),
            **{f"cmcgns:{name}": value for name, value in step.made.items()},
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


def _params(texts: list[str]) -> tuple[Mapping[str, Any] | None, str]:
    """Settings and code among a record's parameters, which are texts as Python writes them, in no order to rely on."""
    settings, code = None, ""
    for text in _plain(texts):
        if text.startswith("{"):
            settings = json.loads(text)
        elif len(text) == 16 and not set(text) - set("0123456789abcdef"):
            code = text
    return settings, code


def _plain(texts: list[str]) -> Iterator[str]:
    """Without Python's quotes, and without those a rule has put round a shell argument."""
    for text in texts:
        if text[:1] in "'\"" and text[:1] == text[-1:]:
            text = text[1:-1].replace("\\'", "'")
        yield text.strip("'")
