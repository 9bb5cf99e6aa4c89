"""The ledger of a profile: the sha256 of every output, and Snakemake's own record of how it was made.

It lies with the results and travels with them. Snakemake keeps records in `.snakemake/metadata` and no hash of any output:
in a fresh clone with pulled results it would run everything again, and it does not see a file that was changed behind its
back. Before a run `sync` gives it back the records of the files that are there, and takes away files that no run has left as
they are, or has made at all; after it `pack` writes the ledger anew.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import read_json, write_json, write_text

METADATA = Path(".snakemake/metadata")
HASHES = Path(".snakemake/cmcgns-hashes.json")
ADOPTED = Path(".snakemake/cmcgns-ledgers.json")
_PART = 254  # letters of a record's file name; Snakemake puts longer ones into folders that begin with @


FOREIGN = Path(".snakemake/cmcgns-foreign")
ASIDE = Path(".snakemake/cmcgns-aside")
# Whatever lies in these folders of a profile was made by a job, but for what a killed training left to go on from.
MADE = {
    "data": ("index", "images", "splits"),
    "results": (
        "pretrain",
        "features",
        "finetune",
        "leakage",
        "alignment",
        "figures",
        "audit",
        "tables",
        "report",
    ),
}
UNFINISHED = ("resume", ".")


class Report(NamedTuple):
    """What `sync` did, as paths: records given back; files removed because nothing that ran has left them so; files that
    no job has made, now below `FOREIGN`. `stale`: something has been made since the ledger was written."""

    restored: list[str]
    removed: list[str]
    foreign: list[str]
    stale: bool


def ledger_path(profile: str) -> Path:
    return Path(f"results/{profile}/ledger.jsonl")


def pack(profile: str) -> int:
    """Write the ledger of all outputs that Snakemake has a record of and that are there; returns their number."""
    known, now = _Hashes(), surroundings()
    before = {entry["target"]: entry for entry in read(profile)}
    lines = []
    for target, record in sorted(_records(profile)):
        if not Path(target).is_file():
            continue
        entry = {"target": target, "sha256": known.of(target), "record": record}
        old = before.get(target, {})
        same = all(old.get(key) == value for key, value in entry.items())
        lines.append(json.dumps(entry | {"made": old["made"] if same else now}, sort_keys=True))
    known.save()
    write_text(ledger_path(profile), "".join(line + "\n" for line in lines))
    _adopt(profile)
    return len(lines)


def surroundings() -> dict[str, Any]:
    """Under what a run was made: the git revision and whether files differ from it, the sha256 of the lock of packages,
    versions of Python and torch, and the device."""
    lock = Path("requirements.lock")
    return {
        "revision": _ask("git", "rev-parse", "HEAD"),
        "changed_files": bool(_ask("git", "status", "--porcelain", "--untracked-files=no")),
        "packages": _sha256(lock) if lock.is_file() else "",
        "python": platform.python_version(),
        "torch": version("torch"),
        "device": _ask("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
        or f"CPU {platform.machine()}",
    }


def _ask(*command: str) -> str:
    """What a command prints; nothing where there is no such command, or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def sync(profile: str, *, aside: bool = False) -> Report:
    """Make Snakemake's records and the files on disk agree with the ledger.

    A file with the ledger's hash gets the ledger's record, unless the ledger is the one this folder wrote or read last: then
    a record that differs is newer. Another file stays if Snakemake has made it since (its record is
    not the ledger's), as after a killed run; otherwise it was changed by no run and is removed, so that it is made again.

    Args:
        aside: for a dry run: what would be removed or moved away is only put aside, until `put_back`.
    """
    for path in _files(str(ASIDE)):  # of a dry run that was killed
        target = Path(path).relative_to(ASIDE)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            Path(path).rename(target)
    known, restored, removed = _Hashes(), [], []
    entries, recorded = read(profile), dict(_recorded(profile))
    unlisted = {target for target in recorded if Path(target).is_file()} - {e["target"] for e in entries}
    stale, ours = bool(unlisted), _adopted(profile)
    written = ledger_path(profile).stat().st_mtime_ns if ours else 0
    for entry in entries:
        target = entry["target"]
        if not Path(target).is_file():
            continue
        if ours and target in recorded and recorded[target].stat().st_mtime_ns < written:
            here = entry["record"]  # as it was when the ledger was written: no need to read it
        else:
            here = read_json(recorded[target]) if target in recorded else None
        if known.of(target) == entry["sha256"]:
            if here is None or here != entry["record"] and not ours:
                write_json(record_path(target), entry["record"])
                restored.append(target)
            elif here != entry["record"]:  # run again since, to the same bytes
                stale = True
        elif here is None or here == entry["record"]:
            if aside:
                _move(target, ASIDE)
            else:
                Path(target).unlink()
            removed.append(target)
        else:
            stale = True
    known.save()
    _adopt(profile)
    moved = foreign(profile, {entry["target"] for entry in entries} | recorded.keys())
    for target in moved:
        _move(target, ASIDE if aside else FOREIGN)
    return Report(restored, removed, moved, stale)


def put_back(report: Report) -> None:
    """Undo what `sync` has put aside."""
    for target in (*report.removed, *report.foreign):
        (ASIDE / target).rename(target)


def _move(target: str, folder: Path) -> None:
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).rename(folder / target)


def foreign(profile: str, known: set[str]) -> list[str]:
    """The files at places of outputs that are none of the known: copied there, or left by a killed job."""
    return sorted(
        path
        for top, folders in MADE.items()
        for folder in folders
        for path in _files(f"{top}/{profile}/{folder}")
        if path not in known and not os.path.basename(path).startswith(UNFINISHED)
    )


def _files(folder: str) -> Iterator[str]:
    """The paths of all files below a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield f"{place}/{name}"


def verify(profile: str, progress: Callable[[int, int], None] | None = None) -> dict[str, list[str]]:
    """Hash every output anew: `changed`, `missing`, `foreign` (made by no job), and `unknown`, outputs that Snakemake made
    since the ledger was written.

    Args:
        progress: called with (outputs hashed, outputs in all).

    Raises:
        InputError: there is no ledger.
    """
    entries = read(profile)
    if not entries:
        raise InputError("there is no ledger", file=ledger_path(profile), remedy="run `cmcgns reproduce`")
    listed = {entry["target"] for entry in entries}
    made = {target for target, _ in _recorded(profile)}
    found: dict[str, list[str]] = {"changed": [], "missing": [], "unknown": []}
    found["foreign"] = foreign(profile, listed | made)
    for number, entry in enumerate(entries, 1):
        path = Path(entry["target"])
        if not path.is_file():
            found["missing"].append(entry["target"])
        elif _sha256(path) != entry["sha256"]:
            found["changed"].append(entry["target"])
        if progress:
            progress(number, len(entries))
    found["unknown"] = sorted(target for target in made - listed if Path(target).is_file())
    return found


def read(profile: str) -> list[dict[str, Any]]:
    """The entries `target, sha256, record, made` (of `surroundings`); none without a ledger.

    Raises:
        InputError: a line is no entry.
    """
    path = ledger_path(profile)
    return parse(path.read_text(encoding="utf-8"), path) if path.exists() else []


def parse(text: str, path: str | Path) -> list[dict[str, Any]]:
    """The entries in a ledger's text; `path` is for the message.

    Raises:
        InputError: a line is no entry.
    """
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            entry = json.loads(line)
            entries.append({key: entry[key] for key in ("target", "sha256", "record", "made")})
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "not an entry of the ledger", file=path, row=number,
                remedy="fetch the file again, or delete it: `cmcgns reproduce` then trusts what is on disk",
            ) from None  # fmt: skip
    return entries


def _adopted(profile: str) -> bool:
    """The ledger is the one that this folder wrote or read last, and no other version that was checked out."""
    try:
        return read_json(ADOPTED).get(profile) == _sha256(ledger_path(profile))
    except (InputError, FileNotFoundError):
        return False


def _adopt(profile: str) -> None:
    path = ledger_path(profile)
    if path.exists():
        try:
            adopted = read_json(ADOPTED)
        except InputError:
            adopted = {}
        write_json(ADOPTED, adopted | {profile: _sha256(path)})


class _Hashes:
    """sha256 by path, remembered between calls for files whose size and time of change are the same."""

    def __init__(self) -> None:
        try:
            self.known: dict[str, list[Any]] = read_json(HASHES)
        except InputError:
            self.known = {}
        self._new = False

    def of(self, target: str) -> str:
        state = Path(target).stat()
        now = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
        if self.known.get(target, [None])[:-1] != now:
            self.known[target] = [*now, _sha256(Path(target))]
            self._new = True
        return self.known[target][-1]

    def save(self) -> None:
        if self._new:
            there = {target: value for target, value in self.known.items() if os.path.exists(target)}
            write_json(HASHES, there)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def record_path(target: str, folder: Path = METADATA) -> Path:
    """Where Snakemake keeps what it knows of an output, in `folder`."""
    name = base64.urlsafe_b64encode(target.encode()).decode()
    parts = [name[i : i + _PART] for i in range(0, len(name), _PART)]
    return folder.joinpath(*("@" + part for part in parts[:-1]), parts[-1])


def read_record(target: str) -> Any:
    """Snakemake's record of how an output was made; None if there is none."""
    path = record_path(target)
    return read_json(path) if path.is_file() else None


def _records(profile: str) -> Iterator[tuple[str, Any]]:
    """(target, record) of every record of this profile's outputs."""
    for target, path in _recorded(profile):
        yield target, read_json(path)


def _recorded(profile: str) -> Iterator[tuple[str, Path]]:
    """(target, file of its record) of every output of this profile that Snakemake has made."""
    for path in _files(str(METADATA)):
        parts = path.removeprefix(f"{METADATA}/").split("/")
        name = "".join(part.removeprefix("@") for part in parts)
        try:
            target = base64.b64decode(name, altchars=b"-_", validate=True).decode()
        except ValueError:
            continue  # a temporary file of Snakemake's
        if target.startswith((f"data/{profile}/", f"results/{profile}/")):
            yield target, Path(path)
