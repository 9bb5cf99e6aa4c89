"""Everything of a profile in one call: Snakemake under a lock of our own, then the tables."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.markdown import Markdown

from cmcgns.errors import InputError
from cmcgns.pipeline import ledger
from cmcgns.pipeline.gpu import devices
from cmcgns.pipeline.plan import Plan
from cmcgns.reporting.tables import TITLES

# Rules whose outputs often keep their bytes when they run again, in the order in which they depend on each other. Within one call
# Snakemake runs what depends on a file that was made again even if it is the same, so each of these gets a call of its own.
WAVES = (
    {"synthesize"},
    {"extract_reports", "index", "shape_weights"},
    {"images"},
    {"split", "tokenize"},
    {"subset"},
    {"audit"},
    {"gate"},
    {"pretrain"},
    {"export_trunk"},
    {"features"},
)


def reproduce(profile: str, *, raw: Path | None, cores: int | None, dry_run: bool) -> int:
    """Run what is not done, print the tables and where the report is; returns Snakemake's exit status.

    Args:
        raw: folder of downloads to read; it is linked as `data/<profile>/raw`.
        cores: CPU cores, all by default.

    Raises:
        InputError: wrong settings, no Snakefile here, another run in this folder, or no raw data.
    """
    if not Path("Snakefile").exists():
        raise InputError(
            "there is no Snakefile in this folder", remedy="call it in the root of the repository"
        )
    plan = Plan.load(profile)
    link_raw(plan, raw)
    check_raw(plan)
    Path(".snakemake").mkdir(exist_ok=True)
    with Path(".snakemake/cmcgns.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                "another reproduction is running in this folder",
                remedy="wait for it, or work in another clone",
            ) from None
        # Snakemake's own lock outlives a kill; ours does not, and while we hold it no other `reproduce` runs.
        shutil.rmtree(".snakemake/locks", ignore_errors=True)
        gpus = len(devices())
        arguments = [*(["--resources", f"gpu={gpus}"] if gpus else []), "--cores", str(cores or "all")]
        synced = ledger.sync(profile, aside=dry_run)
        if dry_run:
            try:
                _tell(synced, "to be ")
                return _snakemake(profile, *arguments, "--dry-run", lock=lock)
            finally:
                ledger.put_back(synced)
        _tell(synced)
        written = ledger.ledger_path(profile)
        # On a first run nothing is there that could stay the same.
        if not written.exists() or not written.stat().st_size:
            ran, code, rules = True, 0, {"all"}
        else:
            code, rules = to_do(profile, lock)
            ran = bool(rules)
        try:
            remade = 0
            if code == 0 and synced.removed and _known(profile, synced.removed):
                # Snakemake does not miss what everything that reads it has read already: weights between two phases
                ran, remade = True, _snakemake(profile, *arguments, *synced.removed, lock=lock)
                code, rules = to_do(profile, lock)
            for wave in WAVES:
                if wave & rules and rules - wave - {"all"}:
                    failed = _snakemake(profile, *arguments, "--until", *sorted(wave & rules), lock=lock)
                    if failed:  # the last call does all that does not depend on it
                        break
                    code, rules = to_do(profile, lock)
            if code == 0 and rules:
                code = _snakemake(profile, *arguments, lock=lock)
            code = code or remade
        finally:
            if ran or synced.stale:
                ledger.pack(profile)
    if code == 0:
        # DVC wants every output to be there, even if nothing was asked of it
        for name in ("alignment", "figures", "leakage"):
            Path(plan.paths.results, name).mkdir(exist_ok=True)
        show(plan)
    return code


def _tell(synced: ledger.Report, would: str = "") -> None:
    for file in synced.removed:
        print(f"{file} is not what a run has written: {would}removed and made again", flush=True)
    for file in synced.foreign:
        print(f"{file} was made by no run: {would}moved to {ledger.FOREIGN / file}", flush=True)


def link_raw(plan: Plan, raw: Path | None) -> None:
    """Make `data/<profile>/raw` lead to the downloads, or raise if it leads elsewhere or nowhere."""
    link = Path(plan.paths.raw)
    if plan.settings.synthetic:
        if raw is not None:
            raise InputError(
                f"profile {plan.settings.profile!r} makes its own raw files", remedy="leave --raw out"
            )
        return
    if raw is not None:
        if not raw.is_dir():
            raise InputError("the folder of downloads does not exist", file=raw)
        if not link.exists() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(raw.resolve())
        if link.resolve() != raw.resolve():
            raise InputError(
                f"it already leads to {link.resolve()}", file=link, remedy="remove it to read other downloads"
            )
    if not link.exists():
        raise InputError(
            "there are no raw files",
            file=link,
            expected="the downloads described in docs/reproducing.md",
            remedy="name their folder: make reproduce PROFILE=<profile> RAW=<folder>, or cmcgns reproduce --raw <folder>",
        )


def check_raw(plan: Plan) -> None:
    """Raise before anything runs if a source that the profile reads is not among the downloads."""
    if plan.settings.synthetic:
        return
    from cmcgns.sources.mimic_cxr import (
        find_reports,
    )  # pandas, two seconds that a finished synthetic run does not need

    raw = Path(plan.paths.raw)
    missing = [source for source in plan.sources() if not plan.label_files(source)]
    if "mimic_cxr" in plan.sources() and not find_reports(raw):
        missing.append("the reports of mimic_cxr")
    if missing:
        raise InputError(
            f"not among the downloads: {', '.join(missing)}",
            file=raw,
            expected="the folders of docs/reproducing.md",
            remedy=f"see `cmcgns doctor {raw}`, or leave their part out in your profile: "
            "downstream.pairs, ablation.pairs, leakage.pairs, sensitivity.pairs, alignment.kinds, figures.kinds",
        )


def show(plan: Plan) -> None:
    """Print the tables and the path of the report."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for name in plan.tables():
        text = Path(plan.paths.table(name, "md")).read_text(encoding="utf-8")
        console.print(f"\n[bold]{TITLES[name]}[/bold], mean ± std over seeds, per cent")
        console.print(Markdown(text))
    console.print(f"\nReport: {plan.paths.report}")


def to_do(profile: str, lock: IO[str]) -> tuple[int, set[str]]:
    """Snakemake's exit status when asked what is to be done, and the names of the rules that would run."""
    asked = [*_command(profile), "--dry-run", "--quiet", "rules", "reason", "host"]
    done = subprocess.run(
        asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, pass_fds=[lock.fileno()]
    )
    if done.returncode:
        print(done.stdout, file=sys.stderr, flush=True)
        return done.returncode, set()
    rules = set(re.findall(r"^(\w+) +\d+$", done.stdout, re.MULTILINE)) - {"total"}
    if not rules and "Nothing to be done" not in done.stdout:
        raise RuntimeError(f"Snakemake's answer was not understood:\n{done.stdout}")
    if not rules:
        print(f"profile {profile}: nothing to be done, all files are there and up to date", flush=True)
    return 0, rules


def _known(profile: str, files: list[str]) -> bool:
    """The study still has a rule for each of these files."""
    asked = [*_command(profile), "--dry-run", "--quiet", "all", "--cores", "1", *files]
    return subprocess.run(asked, capture_output=True).returncode == 0


def _command(profile: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", "--config", f"profile={profile}"]


def _snakemake(profile: str, *arguments: str, lock: IO[str]) -> int:
    """Run Snakemake; it inherits the lock, so that an orphan of a killed run still holds it."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [*_command(profile), *arguments]
    return subprocess.run(command, env=environment, pass_fds=[lock.fileno()]).returncode
