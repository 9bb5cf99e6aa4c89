"""Finished jobs to take over instead of running them again: moved aside here, of other profiles of this folder, or of a store.

A job is known by its key: its identity (`history.identity`) and under what it ran. What is taken over is copied, as a clone of the
same blocks where the disk can, and hashed on arrival; what was moved aside is moved back.
"""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import atomic, canonical, read_json, sha256_file, write_json, write_text
from cmcgns.pipeline import history
from cmcgns.pipeline.history import Entry, Hashed, files_of, hashed_files
from cmcgns.pipeline.reads import changed, paths
from cmcgns.pipeline.state import STATE, place, remember_hash

VARIABLE = "CMCGNS_STORE"  # a folder of finished jobs that several working copies use
ASIDE = STATE / "aside"  # finished jobs whose outputs made room
STORE = "the store"  # how histories call it
SAME = (
    "packages",
    "python",
    "torch",
    "device",
)  # of `made`: what a job must share with one that it takes over


class Donor(NamedTuple):
    """A finished job.

    Attributes:
        files: its outputs, in the order of their names.
        about: its tables `reads` and `fills` (`reads.write_table`).
        folders: those that it has filled.
        name: what histories call it.
        spare: nobody else needs its files.
    """

    entry: Entry
    files: list[Path]
    about: Mapping[str, Path]
    folders: Mapping[str, Path]
    name: str
    spare: bool = False


class Damaged(Exception):
    """A file of a donor is not what the donor says."""


def key_of(identity: str, made: Mapping[str, Any]) -> str:
    """Of a job that is, or would be, run under `made`."""
    return hashlib.sha256(canonical([identity, {k: made[k] for k in SAME}]).encode()).hexdigest()[:32]


def shared() -> Path | None:
    """The store that folders share, if there is one."""
    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def has_donors() -> bool:
    """Whether anything has ever been done here or been stored."""
    return bool(shared()) or (STATE / "donors").exists() or ASIDE.exists()


def donors(key: str) -> Iterator[Donor]:
    """Whoever claims to have done it, the cheapest to take over first."""
    if found := _stored(ASIDE / key, "moved aside before", spare=True):
        yield found
    for target in _targets(key):
        entry = history.local(target)
        files = [Path(file) for file in hashed_files(entry or {"outputs": {}})]
        same = entry and key_of(entry["identity"], entry["made"]) == key
        if same and all(map(Path.is_file, files)) and history.is_true(entry):
            about = {kind: place(kind, target) for kind in ("reads", "fills")}
            yield Donor(
                entry, files, about, {n: Path(f) for n, f in (entry.get("fills") or {}).items()}, target
            )
    if (top := shared()) and (found := _stored(top / key[:2] / key[2:], STORE)):
        yield found


def _targets(key: str) -> list[str]:
    """The files that stand for the jobs of this folder that have had this key, of all its profiles."""
    try:
        return place("donors", key).read_text().splitlines()
    except OSError:
        return []


def _stored(folder: Path, name: str, spare: bool = False) -> Donor | None:
    try:
        entry = read_json(folder / "entry.json")
        files = [folder / str(number) for number in range(len(hashed_files(entry)))]
        filled = {n: folder / f"{n}.files" for n in entry.get("fills") or {}}
    except (InputError, KeyError, TypeError, AttributeError):
        return None
    about = {kind: folder / kind for kind in ("reads", "fills")}
    return Donor(entry, files, about, filled, name, spare) if all(map(Path.is_file, files)) else None


def fits(donor: Donor, job: Mapping[str, Any], elsewhere: Mapping[str, Path] | None = None) -> bool:
    """Whether a donor has the outputs of a job, and has read the same raw files, as far as can be told without its bytes.

    Args:
        elsewhere: where folders are now that will be at the job's places later.
    """
    folders = {name: str((elsewhere or {}).get(top, top)) for name, top in job["folders"].items()}
    same = sorted(donor.entry["outputs"]) == sorted(job["outputs"])
    return same and len(donor.files) == len(files_of(job["outputs"])) and not changed(
        donor.about["reads"], folders, remember=False
    )  # fmt: skip


def adopt(
    job: Mapping[str, Any], inputs: Hashed, key: str, tell: Callable[[str], None] = print
) -> Entry | None:
    """Put the outputs of the job `key` where this job wants them and note its history; None if nobody has them unharmed.

    Args:
        inputs: of this job.
        tell: gets a sentence about each donor that is refused.
    """
    for donor in donors(key):
        if not fits(donor, job):
            continue
        try:
            _take(donor, job)
        except (Damaged, OSError) as error:
            tell(f"not taken over from {donor.name}: {error}")
            continue
        target, wanted = history.target_of(job), iter(files_of(job["outputs"]))
        outputs = {
            name: [[next(wanted), d] for _, d in donor.entry["outputs"][name]]
            for name in sorted(job["outputs"])
        }
        for kind, table in donor.about.items():
            if table.exists():
                with atomic(place(kind, target)) as temporary:
                    shutil.copy(table, temporary)
        took = {"from": donor.name, "at": round(time.time(), 3)}
        entry = donor.entry | {"inputs": inputs, "outputs": outputs, "fills": job["fills"], "adopted": took}
        note(entry)
        if donor.spare:
            shutil.rmtree(donor.files[0].parent)
        elif donor.name == STORE:
            with suppress(OSError):  # it has been of use: not to be pruned
                os.utime(donor.files[0].parent)
        return entry
    return None


def note(entry: Entry) -> None:
    """Keep a job's history, and that others may take it over."""
    history.note(entry)
    key, target = key_of(entry["identity"], entry["made"]), history.target_of_entry(entry)
    if target not in (known := _targets(key)):
        write_text(place("donors", key), "\n".join([*known, target]))


def _take(donor: Donor, job: Mapping[str, Any]) -> None:
    """Copy or move the files of a donor to where a job wants them: all of them, or none."""
    digests, wanted = list(hashed_files(donor.entry).values()), files_of(job["outputs"])
    with ExitStack() as stack:
        arrived = [stack.enter_context(atomic(file)) for file in wanted]
        for source, file, digest in zip(donor.files, arrived, digests, strict=True):
            _check(source, digest) if donor.spare else copy(source, file, digest)
        for name, top in job["fills"].items() if donor.about["fills"].exists() else ():
            _take_folder(donor, name, Path(top))
        for source, file in zip(donor.files, arrived, strict=True):
            if donor.spare:
                shutil.move(source, file)
    for file, digest in zip(wanted, digests, strict=True):
        remember_hash(file, digest)


def _take_folder(donor: Donor, name: str, top: Path) -> None:
    """The same of a folder that a job fills; what is there makes room."""
    source, temporary = donor.folders[name], top.with_name(f".{top.name}.{os.getpid()}.tmp")
    try:
        for path, digest in paths(donor.about["fills"]):
            folder, _, rest = path.partition("/")
            if folder != name:
                continue
            if donor.spare:
                _check(source / rest, digest)
            else:
                (temporary / rest).parent.mkdir(parents=True, exist_ok=True)
                copy(source / rest, temporary / rest, digest)
        if top.exists():
            history.take_away(str(top))
        shutil.move(source if donor.spare else temporary, top)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy(source: Path, target: Path, digest: str) -> None:
    """Copy a file with its times, on a disk that can as a clone of its blocks, and hash what has arrived.

    Raises:
        Damaged: it is another file.
    """
    with source.open("rb") as old, target.open("wb") as new:
        left = os.fstat(old.fileno()).st_size
        try:
            while left and (copied := os.copy_file_range(old.fileno(), new.fileno(), left)):
                left -= copied
        except (OSError, AttributeError):  # two disks of kinds that cannot, or another system
            old.seek(0), new.seek(0)
            shutil.copyfileobj(old, new, 1 << 20)
    shutil.copystat(source, target)
    _check(target, digest, source)


def _check(file: Path, digest: str, name: Path | None = None) -> None:
    if sha256_file(file) != digest:
        raise Damaged(f"{name or file} is not the file that its history tells of")


# ---- giving ----


def put_aside(entry: Entry) -> None:
    """Move the outputs of a finished job away, to be taken back when the same job is asked for again; nothing is lost."""
    files = hashed_files(entry)
    if not all(map(os.path.isfile, files)):
        for file in filter(os.path.isfile, files):
            history.take_away(file)
        return
    folder = ASIDE / key_of(entry["identity"], entry["made"])
    shutil.rmtree(folder, ignore_errors=True)  # the same job, done once more
    folder.mkdir(parents=True)
    for number, file in enumerate(files):
        shutil.move(file, folder / str(number))
    for name, top in (entry.get("fills") or {}).items():
        if os.path.isdir(top):
            shutil.move(top, folder / f"{name}.files")
    _describe(entry, folder)


def publish(entry: Entry, tell: Callable[[str], None] = print) -> bool:
    """Copy a finished job into the store that folders share, if there is one and it has none; whether it did."""
    top, key = shared(), key_of(entry["identity"], entry["made"])
    if not top or (folder := top / key[:2] / key[2:]).exists():
        return False
    if entry.get("private") and top.exists() and top.stat().st_mode & 0o077:
        tell(
            f"not put into the store {top}: others may read it, and this was made of downloads that they may not have"
        )
        return False
    temporary = top / f".{secrets.token_hex(8)}.tmp"
    try:
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.mkdir()
        for number, (file, digest) in enumerate(hashed_files(entry).items()):
            copy(Path(file), temporary / str(number), digest)
        table = place("fills", history.target_of_entry(entry))
        filled = paths(table) if table.exists() else []
        for path, digest in filled:
            name, _, rest = path.partition("/")
            (temporary / f"{name}.files" / rest).parent.mkdir(parents=True, exist_ok=True)
            copy(Path(entry["fills"][name], rest), temporary / f"{name}.files" / rest, digest)
        _describe(entry, temporary)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(folder)
    except (OSError, Damaged) as error:  # the job is done; the store is a help, no duty
        tell(f"not put into the store {top}: {error}")
        return False
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _describe(entry: Entry, folder: Path) -> None:
    """What lies beside the files; written last, because without it they are nobody's."""
    for kind in ("reads", "fills"):
        if (table := place(kind, history.target_of_entry(entry))).exists():
            shutil.copy(table, folder / kind)
    write_json(folder / "entry.json", entry)


# ---- looking after it ----


class Stored(NamedTuple):
    """One stored job: where, what, how large (bytes), since or last used when."""

    folder: Path
    entry: Entry
    size: int
    used: float


def stored() -> dict[str, list[Stored]]:
    """What lies in `aside` and in the shared `store`; entries that are not whole have an empty history."""
    found: dict[str, list[Stored]] = {"aside": []} | ({"store": []} if shared() else {})
    for where, pattern, top in (("aside", "*", ASIDE), ("store", "??/*", shared())):
        for folder in sorted(top.glob(pattern)) if top else ():
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            donor = _stored(folder, where)
            used = folder.stat().st_mtime
            found[where].append(Stored(folder, donor.entry if donor else {}, size, used))
    return found


def damaged(one: Stored) -> list[str]:
    """The files of a stored job that are not what it says."""
    if not one.entry:
        return [f"{one.folder}: not whole"]
    digests = enumerate(hashed_files(one.entry).values())
    files = {one.folder / str(number): digest for number, digest in digests}
    if (one.folder / "fills").exists():
        for path, digest in paths(one.folder / "fills"):
            name, _, rest = path.partition("/")
            files[one.folder / f"{name}.files" / rest] = digest
    return [str(file) for file, digest in files.items() if not file.is_file() or sha256_file(file) != digest]


def prune(found: Sequence[Stored], days: float) -> list[Stored]:
    """Remove stored jobs that nobody has used for so many days, and those that are not whole; returns them."""
    gone = [one for one in found if not one.entry or time.time() - one.used > days * 86400]
    for one in gone:
        shutil.rmtree(one.folder)
    return gone
