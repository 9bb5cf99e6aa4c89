"""Which numbers differ between two states of the results, and which inputs explain it, found by walking both ledgers."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.pipeline import runs
from cmcgns.pipeline.history import Entry, ledger_path, parse
from cmcgns.pipeline.paths import Paths
from cmcgns.pipeline.trace import Step, by_file, follow, title
from cmcgns.reporting.tables import DATASETS, METRICS, NUMERALS, arm_title

SURROUNDINGS = (
    "packages",
    "python",
    "torch",
    "device",
    "threads",
)  # of `made`; the code has its own fingerprint
BEFORE = "before"  # in place of a revision: the run before, as it was kept here
Key = tuple[str, ...]  # a number: table, data set and metric, fraction, method, as far as its table has them


class Side(NamedTuple):
    """One state of a profile's results: its numbers, its findings by severity, and its ledger by file."""

    name: str
    profile: str
    numbers: dict[Key, dict[str, float]]
    audit: dict[str, int]
    entries: dict[str, Entry]


def load(name: str) -> Side:
    """Read the results of `name`: a profile, the run before in this folder, `before:demo`, or those of a git revision, `main:demo`.

    Raises:
        InputError: there are no results of that name, or no such revision, or DVC cannot get its files.
    """
    revision, _, profile = name.rpartition(":")
    summary, listed = Paths(profile).summary, str(ledger_path(profile))
    if revision == BEFORE:
        if not (folder := runs.before(profile)):
            raise InputError(
                f"no run of profile {profile!r} with other results is kept in this folder",
                remedy="change something and run it again; of runs elsewhere name a git revision, as in main:demo",
            )
        texts = [(folder / file).read_text(encoding="utf-8") for file in (runs.NUMBERS, runs.LEDGER)]
    elif revision:
        texts = _fetch(revision, summary, listed)
    else:
        for file in (summary, listed):
            if not Path(file).is_file():
                raise InputError(
                    f"profile {profile!r} has no results here", file=file,
                    expected="a profile that has run, or a git revision and a profile such as main:demo",
                    remedy=f"run `cmcgns reproduce --profile {profile}`",
                )  # fmt: skip
        texts = [Path(file).read_text(encoding="utf-8") for file in (summary, listed)]
    try:
        document = json.loads(texts[0])
    except ValueError as error:
        raise InputError(f"not JSON ({error})", file=summary, remedy="run `cmcgns reproduce` again") from None
    audit = document.pop("audit", {})
    entries = by_file(parse(texts[1], listed, profile).values())
    return Side(name, profile, dict(_numbers(document, ())), audit, entries)


def compare(a: Side, b: Side) -> dict[str, Any]:
    """What moved from `a` to `b`, and why.

    Returns:
        `a, b`: names; `compared`: how many numbers both have; `moved`: those that differ, the farthest first, each with
        `number` (its key), `a` and `b` ({mean, std}), `change` of the mean, `stds` (the change over the root mean square
        of both standard deviations, None without one) and `causes`; `only_a`, `only_b`: numbers of one side; `audit`:
        {severity: [a, b]} where the counts of findings differ; `causes`: each cause once, with how many `numbers` it may
        have moved. A cause has `rule, kind, name, a, b`; its kinds are listed at `causes`.
    """
    moved = []
    runs_a, runs_b = runs_by_number(a), runs_by_number(b)
    for key in [key for key in a.numbers if key in b.numbers]:
        before, after = a.numbers[key], b.numbers[key]
        if before == after:
            continue
        change = round(after["mean"] - before["mean"], 4)
        why = causes(a, b, _of(runs_a, key), _of(runs_b, key))
        moved.append(
            {"number": list(key), "a": before, "b": after, "change": change}
            | {"stds": _stds(change, before, after), "causes": why}
        )
    moved.sort(key=lambda one: (-abs(one["stds"] or 0.0), -abs(one["change"]), one["number"]))
    together: dict[str, dict[str, Any]] = {}
    for one in moved:
        for cause in one["causes"]:
            entry = together.setdefault(json.dumps(cause, sort_keys=True), cause | {"numbers": 0})
            entry["numbers"] += 1
    severities = sorted({*a.audit, *b.audit})
    return {
        "a": a.name,
        "b": b.name,
        "compared": sum(key in b.numbers for key in a.numbers),
        "moved": moved,
        "only_a": [list(key) for key in a.numbers if key not in b.numbers],
        "only_b": [list(key) for key in b.numbers if key not in a.numbers],
        "audit": {
            s: [a.audit.get(s, 0), b.audit.get(s, 0)] for s in severities if a.audit.get(s) != b.audit.get(s)
        },
        "causes": sorted(together.values(), key=lambda cause: -cause["numbers"]),
    }


def causes(a: Side, b: Side, runs_a: list[str], runs_b: list[str]) -> list[dict[str, Any]]:
    """What differs between the two histories of a number, from its runs; nothing if a side has none.

    Kinds: `run` (a seed that one side has more), `setting` (a leaf of what a rule read of params.yaml), `code` (a rule's
    fingerprint), `raw file` and `split` (hashes), `step` (a rule that one side has not), `surroundings` (of a rule's
    jobs: packages, Python, torch, device), `bytes` (a file that differs although all of these, and its inputs, are equal:
    images that changed on disk, or a device that does not repeat itself).
    """
    if not runs_a or not runs_b:
        return []
    steps_a, steps_b = (
        {_place(step.file, side.profile): step for step in follow(side.entries, runs)}
        for side, runs in ((a, runs_a), (b, runs_b))
    )
    names_a, names_b = ({_place(run, s.profile) for run in runs} for s, runs in ((a, runs_a), (b, runs_b)))
    found = [
        _cause("", "run", name, name in names_a or None, name in names_b or None)
        for name in sorted(names_a ^ names_b)
    ]
    rules_a, rules_b = ({step.step for step in steps.values()} for steps in (steps_a, steps_b))
    found += [
        _cause(rule, "step", rule, rule in rules_a or None, rule in rules_b or None)
        for rule in sorted(rules_a ^ rules_b)
        if rule
    ]
    for name in sorted(steps_a.keys() & steps_b.keys()):
        found += _between(name, steps_a[name], steps_b[name], a.profile, b.profile)
    raw = {name for steps in (steps_a, steps_b) for name, step in steps.items() if not step.step}
    for name in sorted(raw - (steps_a.keys() & steps_b.keys())):
        hashes = [steps[name].sha256 if name in steps else None for steps in (steps_a, steps_b)]
        found.append(_cause("", "raw file", name, *hashes))
    return list({json.dumps(cause, sort_keys=True): cause for cause in found}.values())


def runs_by_number(side: Side) -> dict[Key, list[str]]:
    """The metrics files behind each number, as the ledger's entries of the tables name them.

    A model has one file for all its numbers of an alignment table, there the key is (table, method).
    """
    paths, found = Paths(side.profile), {}
    for entry in side.entries.values():
        settings, name = entry["settings"], entry["settings"].get("name", "")
        if not entry["step"].startswith("cmcgns.reporting.") or "metrics" not in entry["inputs"] or not name:
            continue
        if "arms" in settings:
            runs = [file for file, _ in entry["inputs"]["metrics"]]
            found |= {(name, arm_title(arm)): [run] for arm, run in zip(settings["arms"], runs, strict=True)}
        for arm, pair, fraction in settings.get("groups", []):
            task, _, source = pair.partition("-")
            dataset = f"{DATASETS[source]} {METRICS.get(pair, METRICS[task])}"
            key = tuple(filter(None, (NUMERALS[name], dataset, f"{fraction}%", title(name, arm))))
            runs = [f"{paths.cell(arm, pair, fraction, seed)}/metrics.json" for seed in settings["seeds"]]
            found[key] = [run for run in runs if run in side.entries]
    return found


def _of(runs: Mapping[Key, list[str]], key: Key) -> list[str]:
    return runs.get(key) or runs.get((key[0], key[-1]), [])


def as_text(document: Mapping[str, Any], most: int = 30) -> str:
    """`compare` to read: the numbers that moved farthest, at most so many, then the causes."""
    moved = document["moved"]
    lines = [f"{document['a']} -> {document['b']}: {len(moved)} of {document['compared']} numbers moved"]
    for one in moved[:most]:
        stds = "" if one["stds"] is None else f", {one['stds']:+.1f} std"
        values = f"{_value(one['a'])} -> {_value(one['b'])}  ({one['change']:+.2f}{stds})"
        lines.append(f"  {' / '.join(one['number'])}: {values}")
    if len(moved) > most:
        lines.append(f"  and {len(moved) - most} more; --json has all")
    for side in "ab":
        if only := document[f"only_{side}"]:
            lines.append(f"only in {document[side]}: {len(only)}, such as {' / '.join(only[0])}")
    lines += [f"audit: {name} findings {a} -> {b}" for name, (a, b) in document["audit"].items()]
    if not moved:
        return "\n".join(lines)
    lines += ["", "what differs behind the numbers that moved:"]
    for cause in document["causes"]:
        what = cause["kind"] if cause["name"] == cause["rule"] else f"{cause['kind']} {cause['name']}"
        rule = f"{cause['rule']}, " if cause["rule"] else ""
        lines.append(
            f"  {rule}{what}: {_shown(cause['a'])} -> {_shown(cause['b'])}  ({_count(cause['numbers'])})"
        )
    unexplained = sum(not one["causes"] for one in moved)
    if unexplained:
        lines.append(f"  nothing the ledgers know of: {_count(unexplained)}")
    return "\n".join(lines)


def _between(
    name: str,
    a: Step,
    b: Step,
    of_a: str,
    of_b: str,
) -> list[dict[str, Any]]:
    """What differs between the two makings of one file, and is not only passed on by its inputs."""
    differ = bool(a.sha256 and b.sha256 and a.sha256 != b.sha256)
    if not a.step or not b.step:
        return [_cause("", "raw file", name, a.sha256, b.sha256)] if differ else []
    found = []
    before, after = dict(_leaves(a.settings, of_a)), dict(_leaves(b.settings, of_b))
    for leaf in sorted(before.keys() | after.keys()):
        if before.get(leaf) != after.get(leaf):
            found.append(_cause(b.step, "setting", leaf, before.get(leaf), after.get(leaf)))
    if a.code != b.code:
        found.append(_cause(b.step, "code", b.step, a.code, b.code))
    if not differ:
        return found
    if a.raw.get("sha256") != b.raw.get("sha256"):
        found.append(_cause(b.step, "raw files", name, a.raw.get("sha256"), b.raw.get("sha256")))
    if name.startswith("data/splits/"):
        found.append(_cause(b.step, "split", name, a.sha256, b.sha256))
    around = [
        _cause(b.step, "surroundings", what, a.made.get(what), b.made.get(what))
        for what in SURROUNDINGS
        if a.made.get(what) != b.made.get(what)
    ]
    inputs = [
        {_place(file, of): digest for file, digest in step.inputs.items()}
        for step, of in ((a, of_a), (b, of_b))
    ]
    if not found and not around and inputs[0] == inputs[1]:
        found.append(_cause(b.step, "bytes", name, a.sha256, b.sha256))
    return found + around


def _cause(rule: str, kind: str, name: str, a: Any, b: Any) -> dict[str, Any]:
    return {"rule": rule, "kind": kind, "name": name, "a": a, "b": b}


def _place(text: str, profile: str) -> str:
    """A file's name, the same for every profile."""
    return text.replace(f"data/{profile}/", "data/").replace(f"results/{profile}/", "results/")


def _leaves(value: Any, profile: str, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of settings by their dotted names; a list is a leaf."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, profile, f"{name}.{key}" if name else key)
    else:
        yield name, _place(value, profile) if isinstance(value, str) else value


def _numbers(document: Mapping[str, Any], key: Key) -> Iterator[tuple[Key, dict[str, float]]]:
    """The {mean, std} at the bottom of a summary, by their keys."""
    if not all(isinstance(value, dict) for value in document.values()):
        yield key, dict(document)
        return
    for name, part in document.items():
        yield from _numbers(part, (*key, name))


def _stds(change: float, *sides: Mapping[str, float]) -> float | None:
    stds = [side["std"] for side in sides if "std" in side]
    spread = math.sqrt(sum(std**2 for std in stds) / len(stds)) if stds else 0.0
    return round(change / spread, 2) if spread else None


def _count(numbers: int) -> str:
    return f"{numbers} number{'' if numbers == 1 else 's'}"


def _value(number: Mapping[str, float]) -> str:
    return f"{number['mean']:.2f}" + (f" ± {number['std']:.2f}" if "std" in number else "")


def _shown(value: Any) -> str:
    """A value in a line: of a hash its first digits."""
    if value is None:
        return "nothing"
    text = "there" if value is True else json.dumps(value) if isinstance(value, list | dict) else str(value)
    return f"{text[:12]}…" if len(text) == 64 and not set(text) - set("0123456789abcdef") else text


def _fetch(revision: str, *files: str) -> list[str]:
    """The text of DVC's outputs, or of git's files, as they were at a revision."""
    import dvc.api
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    texts = []
    for file in files:
        try:
            texts.append(dvc.api.read(file, repo=".", rev=revision, encoding="utf-8"))
        except (DvcException, SCMError, OSError) as error:
            raise InputError(
                f"cannot be had at revision {revision!r} ({error})", file=file,
                expected="a revision whose results were given to DVC and are in its cache or its remote",
                remedy="see `dvc list . results --rev <revision> -R`, and push the results from where they were made",
            ) from None  # fmt: skip
    return texts
