"""How each file was made: written by the job that ran, believed where the files are what it says, and nothing else is believed.

A job's entry lies in `.cmcgns/jobs`, all entries of a profile in `results/<profile>/ledger.jsonl`, which travels with the results.
No engine has a part in it: what Snakemake notes, touches or forgets changes no history.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import canonical, read_json, sha256_file, write_json, write_text
from cmcgns.pipeline.state import STATE, file_hash, place

Entry = dict[str, Any]
Hashed = dict[str, list[list[str]]]  # name -> pairs of file and sha256
KEYS = ("step", "code", "settings", "inputs", "outputs", "identity", "made", "started", "seconds")
ALSO = ("reads", "fills", "adopted", "sources", "shows", "private")  # of some
TAKEN_AWAY = STATE / "taken-away"  # files at the places of outputs that are not what a job has written
# Whatever lies in these folders of a profile was made by a job, but for what a killed training left to go on from.
MADE = {
    "data": ("index", "images", "splits"),
    "results": ("pretrain", "features", "finetune", "leakage", "alignment", "figures", "audit", "tables", "report"),
}  # fmt: skip
UNFINISHED = ("resume", ".")


def ledger_path(profile: str) -> Path:
    return Path(f"results/{profile}/ledger.jsonl")


def files_of(named: Mapping[str, str | list[str]]) -> list[str]:
    """The files of a job's inputs or outputs, in the order of their names."""
    return [
        f for name in sorted(named) for f in ([named[name]] if isinstance(named[name], str) else named[name])
    ]


def hashed_files(entry: Entry, kind: str = "outputs") -> dict[str, str]:
    """file -> sha256 of an entry's outputs, or inputs."""
    return {file: digest for pairs in entry[kind].values() for file, digest in pairs}


def target_of(job: Mapping[str, Any]) -> str:
    """The file that stands for a job: its first output."""
    return files_of(job["outputs"])[0]


def target_of_entry(entry: Entry) -> str:
    """The same of a job that has run."""
    return next(iter(hashed_files(entry)))


def identity(job: Mapping[str, Any], inputs: Hashed) -> str:
    """What a job is, whatever its files are called: step, code, settings and the bytes of its inputs."""
    read = {name: [digest for _, digest in pairs] for name, pairs in inputs.items()}
    known = {key: job[key] for key in ("step", "code", "settings")} | {"outputs": sorted(job["outputs"])}
    return hashlib.sha256(canonical(known | {"inputs": read}).encode()).hexdigest()[:32]


# ---- entries ----


def note(entry: Entry) -> None:
    """Keep what a job that has ended says of its files."""
    write_json(place("jobs", target_of_entry(entry)), entry)


def local(target: str) -> Entry | None:
    """What the last job that ran here said of a file."""
    path = place("jobs", target)
    return read_json(path) if path.is_file() else None


def locals_of(profile: str) -> Iterator[Entry]:
    """The entries of all jobs of a profile that ran here."""
    for path in _files(str(STATE / "jobs")):
        if path.endswith(".tmp"):
            continue
        entry = read_json(path)
        if _of_profile(target_of_entry(entry), profile):
            yield entry


def is_true(entry: Entry) -> bool:
    """Whether each file that is there is the one that the entry speaks of."""
    return all(
        not os.path.isfile(file) or file_hash(file) == digest for file, digest in hashed_files(entry).items()
    )


def believed(target: str, listed: Mapping[str, Entry]) -> Entry | None:
    """The entry of a job that fits its files: of the job that ran here, or of a ledger that came with the files.

    Args:
        listed: of the ledger, by target.
    """
    return next((e for e in (local(target), listed.get(target)) if e is not None and is_true(e)), None)


# ---- the ledger ----


def read(profile: str) -> dict[str, Entry]:
    """The entries of a profile's ledger by target; none without a ledger.

    Raises:
        InputError: a line is no entry.
    """
    path = ledger_path(profile)
    return parse(path.read_text(encoding="utf-8"), path, profile) if path.exists() else {}


def parse(text: str, path: str | Path, profile: str) -> dict[str, Entry]:
    """The entries in a ledger's text; `path` is for the message.

    Raises:
        InputError: a line is no entry, or speaks of a file outside the profile.
    """
    entries = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
            entry = {key: entry[key] for key in KEYS} | {key: entry.get(key) for key in ALSO}
            target, *others = hashed_files(entry)
            if not all(_of_profile(file, profile) for file in (target, *others)):
                raise ValueError("it names a file outside of the profile")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"not an entry of the ledger ({error})", file=path, row=number,
                remedy="fetch the file again, or delete it: what ran in this folder is known without it",
            ) from None  # fmt: skip
        entries[target] = entry
    return entries


def pack(profile: str) -> int:
    """Write the ledger: the true entries of files that are there, and of all that these were made from."""
    entries = read(profile) | {target_of_entry(e): e for e in locals_of(profile)}
    made_by = {file: target for target, entry in entries.items() for file in hashed_files(entry)}
    kept = [t for t, e in entries.items() if any(map(os.path.isfile, hashed_files(e))) and is_true(e)]
    wanted = dict.fromkeys(kept)
    for target in kept:  # grows while it is walked
        for file in hashed_files(entries[target], "inputs"):
            origin = made_by.get(file)
            if origin and origin not in wanted:
                wanted[origin] = None
                kept.append(origin)
    text = "".join(json.dumps(entries[t], sort_keys=True) + "\n" for t in sorted(kept))
    if kept and (
        not ledger_path(profile).exists() or ledger_path(profile).read_text(encoding="utf-8") != text
    ):
        write_text(ledger_path(profile), text)
    return len(kept)


def verify(profile: str, progress: Callable[[int, int], None] | None = None) -> dict[str, list[str]]:
    """Hash every output anew: `changed`, `missing`, `foreign` (made by no job), and `unknown`, made since the ledger was written.

    Args:
        progress: called with (outputs hashed, outputs in all).

    Raises:
        InputError: there is no ledger.
    """
    entries = read(profile)
    if not entries:
        raise InputError("there is no ledger", file=ledger_path(profile), remedy="run `cmcgns reproduce`")
    listed = {file: digest for entry in entries.values() for file, digest in hashed_files(entry).items()}
    here = {file for entry in locals_of(profile) for file in hashed_files(entry)}
    found: dict[str, list[str]] = {"changed": [], "missing": []}
    for number, (file, digest) in enumerate(listed.items(), 1):
        if not Path(file).is_file():
            found["missing"].append(file)
        elif sha256_file(file) != digest:
            found["changed"].append(file)
        if progress:
            progress(number, len(listed))
    found["foreign"] = foreign(profile, listed.keys() | here)
    found["unknown"] = sorted(file for file in here - listed.keys() if Path(file).is_file())
    return found


def foreign(profile: str, known: Iterable[str]) -> list[str]:
    """The files at places of outputs that are none of the known: copied there, or left by a killed job."""
    known = set(known)
    return sorted(
        path
        for top, folders in MADE.items()
        for folder in folders
        for path in _files(f"{top}/{profile}/{folder}")
        if path not in known and not os.path.basename(path).startswith(UNFINISHED)
    )


# ---- making room ----


def take_away(file: str) -> Path:
    """Move a file that is not what a job has written out of the way; it is kept."""
    place = TAKEN_AWAY / datetime.now().strftime("%Y%m%d-%H%M%S.%f") / file
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file, place)
    return place


def _of_profile(file: str, profile: str) -> bool:
    return file.startswith((f"data/{profile}/", f"results/{profile}/")) and ".." not in file.split("/")


def _files(folder: str) -> Iterator[str]:
    for where, _, names in os.walk(folder):
        for name in names:
            yield f"{where}/{name}"
