"""Everything of a profile in one call: its jobs, then the tables."""

import os
import sys
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from cmcgns.errors import InputError
from cmcgns.pipeline import engine
from cmcgns.pipeline.audience import may_travel
from cmcgns.pipeline.gpu import devices
from cmcgns.pipeline.graph import graph_of
from cmcgns.pipeline.plan import Plan
from cmcgns.pipeline.price import describe
from cmcgns.reporting.tables import TITLES

DVC_FOLDERS = ("alignment", "figures", "leakage")


def reproduce(profile: str, *, files: list[str], raw: Path | None, cores: int | None, dry_run: bool) -> int:
    """Make what is not done, print the tables and where the report is; returns the exit status.

    Args:
        files: make these and what they come from only.
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
    gpus = len(devices())
    arguments = ["--config", f"profile={profile}", *(["--resources", f"gpu={gpus}"] if gpus else [])]
    arguments += ["--cores", str(cores or "all"), *files]
    if not plan.settings.synthetic:
        may_travel([job.content for job in graph_of(profile, remember=not dry_run).jobs], profile)
    call = engine.Call(profile, arguments, files, cores=cores or os.cpu_count() or 1, gpus=gpus, quiet=True)
    if dry_run:
        print(describe(*engine.estimate(call), call.cores, gpus))
        return 0
    code = engine.run(call, tell=partial(print, flush=True))
    if code == 0 and not files:
        # DVC takes every folder for an output, also if a profile has no figures, say
        for name in DVC_FOLDERS:
            Path(plan.paths.results, name).mkdir(exist_ok=True)
        show(plan)
    return code


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
    for folder in (
        plan.paths.data,
        f"logs/{plan.settings.profile}",
    ):  # names of patients' files stand in logs, too
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder).chmod(0o700)
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
    # pandas, two seconds that a finished synthetic run does not need
    from cmcgns.sources import source
    from cmcgns.sources.mimic_cxr import find_reports

    raw = Path(plan.paths.raw)
    missing = [name for name in plan.sources() if source(name).find(raw) is None]
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
