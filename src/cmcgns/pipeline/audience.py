"""Who may have a file: it follows from whose data it was made of, through its whole history, and from how much it shows of them.

A rule says of each output what it shows: the content of what it was made of, unless it says less. What is made of weights shows
no more than weights do. The terms of a source turn this into an audience; a file has the narrowest of all its sources.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from cmcgns.errors import InputError
from cmcgns.pipeline import history
from cmcgns.pipeline.history import files_of

# What a file shows, from little to much.
COUNTS = "counts"  # numbers over many patients: scores, losses, findings of an audit
LEARNT = "what was learnt"  # weights, and features or scores of single images without their names
CONTENT = "content"  # pixels, report text, names and labels of images and patients
SHOWN = (COUNTS, LEARNT, CONTENT)
# Who may have it, from many to few.
ANYONE = "anyone"
HOLDERS = "holders of the same agreement"
MACHINE = "this machine only"
AUDIENCES = (ANYONE, HOLDERS, MACHINE)

SYNTHETIC = "synthetic"
# Downloads are not passed on, whoever asks: each user gets them from their host. PhysioNet has models of its credentialed data
# handled as the data are (its terms for MIMIC-CXR and MS-CXR); the others' terms say nothing of models, so the same holds.
DOWNLOAD = {CONTENT: MACHINE, LEARNT: HOLDERS, COUNTS: ANYONE}
TERMS = {SYNTHETIC: dict.fromkeys(SHOWN, ANYONE)}


def terms(source: str) -> Mapping[str, str]:
    """What is shown of a source -> who may see it; what is not known is bound like a download."""
    return TERMS.get(source, DOWNLOAD)


def audiences(
    made: Iterable[Mapping[str, Any]], most_shown: str = CONTENT
) -> dict[str, tuple[str, list[str]]]:
    """File -> its audience, and the sources that bind it.

    Args:
        most_shown: of extracts that show no more.
        made: jobs or histories of jobs: `inputs` and `outputs` by name, as files or pairs of file and hash, `sources`, `shows`.
    """
    made = list(made)
    by_file = {file: one for one in made for name in one["outputs"] for file in _files(one["outputs"][name])}
    known: dict[int, dict[str, str]] = {}  # of a job: source -> the most that it has read of it

    def read(one: Mapping[str, Any]) -> dict[str, str]:
        waiting = [one]
        while waiting:  # no recursion: histories are long
            top = waiting[-1]
            origins = [
                by_file[f] for name in top["inputs"] for f in _files(top["inputs"][name]) if f in by_file
            ]
            if missing := [origin for origin in origins if id(origin) not in known]:
                waiting += missing
                continue
            waiting.pop()
            found = dict.fromkeys(top.get("sources") or (), CONTENT)
            for name in top["inputs"]:
                for file in _files(top["inputs"][name]):
                    for source, shown in shown_by(file).items():
                        found[source] = max(found.get(source, COUNTS), shown, key=SHOWN.index)
            known[id(top)] = found
        return known[id(one)]

    def shown_by(file: str) -> dict[str, str]:
        one = by_file.get(file)
        if one is None:
            return {}
        name = next(name for name in one["outputs"] if file in _files(one["outputs"][name]))
        most = (one.get("shows") or {}).get(name, CONTENT)
        return {source: min(shown, most, key=SHOWN.index) for source, shown in known[id(one)].items()}

    result = {}
    for file, one in by_file.items():
        read(one)
        shown_of = {
            source: min(shown, most_shown, key=SHOWN.index) for source, shown in shown_by(file).items()
        }
        who = {source: terms(source)[shown] for source, shown in shown_of.items()}
        audience = max(who.values(), key=AUDIENCES.index, default=ANYONE)
        result[file] = audience, sorted(source for source in who if who[source] == audience)
    return result


def _files(value: Any) -> list[str]:
    if value and isinstance(value, list) and isinstance(value[0], list):
        return [file for file, _ in value]
    return files_of({"": value})


def may_travel(made: Iterable[Mapping[str, Any]], profile: str, stages: str | Path = "dvc.yaml") -> None:
    """Raise if `dvc push` would send a file of a profile that not everybody may have.

    Raises:
        InputError: naming the output of `dvc.yaml`.
    """
    sent = pushed(profile, stages)
    for file, (audience, sources) in sorted(audiences(made).items()):
        out = next((out for out in sent if f"{file}/".startswith(f"{out}/")), None)
        if out and audience != ANYONE:
            raise InputError(
                f"`dvc push` would send {file}, which is for {audience}: it was made of {', '.join(sources)}",
                file=stages, expected=f"push: false at {out}",
                remedy="put a profile that reads downloads under reproduce_raw, not under reproduce",
            )  # fmt: skip


def pushed(profile: str, stages: str | Path = "dvc.yaml") -> list[str]:
    """The files and folders of a profile that a plain `dvc push` sends."""
    path = Path(stages)
    if not path.exists():
        return []
    found = []
    for stage in (yaml.safe_load(path.read_text(encoding="utf-8")).get("stages") or {}).values():
        items, stage = stage.get("foreach"), stage.get("do", stage)
        if items is not None and profile not in items:
            continue
        for out in stage.get("outs") or ():
            name, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
            if (options or {}).get("push", True):
                found.append(name.replace("${item}", profile).rstrip("/"))
    return found


def of_files(profile: str, shows: str = CONTENT) -> dict[str, tuple[str, list[str]]]:
    """`audiences` of all files that have a history here; those of other profiles count, where this one was made of them."""
    return audiences((entry for name in _profiles(profile) for entry in _entries(name)), shows)


def _profiles(profile: str) -> list[str]:
    return sorted({profile, *(path.parent.name for path in Path("results").glob("*/ledger.jsonl"))})


def _entries(profile: str) -> list[history.Entry]:
    here = {history.target_of_entry(entry): entry for entry in history.locals_of(profile)}
    return list((history.read(profile) | here).values())


def require(file: str, profile: str, for_holders: bool, shows: str = CONTENT) -> str:
    """The audience of a file, or of an extract that `shows` less, which is about to be given away.

    Raises:
        InputError: it is not for everybody, and nobody has said that it goes to those who may have it.
    """
    audience, sources = of_files(profile, shows).get(file, (MACHINE, ["nobody knows what"]))
    if audience == MACHINE or (audience == HOLDERS and not for_holders):
        told = (
            "--for-holders, if who gets it has signed the agreement of these sources"
            if audience == HOLDERS
            else ""
        )
        raise InputError(
            f"this is for {audience}: it was made of {', '.join(sources)}",
            file=file,
            remedy=told or "keep it here",
        )
    return audience


def table(jobs: Iterable[Mapping[str, Any]], rules: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """(rule, output, what it shows, audience) of each kind of output; where two of a kind differ, the narrowest.

    Args:
        rules: of the first output of a job its rule.
    """
    jobs = list(jobs)
    who = audiences(jobs)
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for job in jobs:
        for name, files in job["outputs"].items():
            key = rules[files_of(job["outputs"])[0]], name
            audience = max((who[file][0] for file in _files(files)), key=AUDIENCES.index)
            before = found.get(key, (ANYONE, ANYONE))[1]
            found[key] = job["shows"].get(name, CONTENT), max(audience, before, key=AUDIENCES.index)
    return [(*key, *value) for key, value in sorted(found.items())]
