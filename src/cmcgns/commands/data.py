"""The downloads: what is there, their hashes, and the reports alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcgns.commands.common import Json, example, say, say_counts, say_json
from cmcgns.errors import InputError
from cmcgns.progress import progress

app = typer.Typer()
reports_app = typer.Typer(no_args_is_help=True, help="Radiology reports: sections, sentences, filters.")
app.add_typer(reports_app, name="reports")


@app.command(epilog=example("doctor downloads"))
def doctor(
    raw: Annotated[Path, typer.Argument(help="The folder that holds the downloads.")],
    json_output: Json = False,
) -> None:
    """Say which data sets are there, which version they look like, and what is missing."""
    from cmcgns.reporting.doctor import render
    from cmcgns.sources.doctor import examine

    if not raw.is_dir():
        raise InputError("the folder of downloads does not exist", file=raw)
    findings = examine(raw)
    say_json(findings) if json_output else say(render(findings))
    if any(entry["status"] != "ok" for entry in findings):
        raise typer.Exit(1)


@app.command(epilog=example("manifest downloads --out downloads.sha256"))
def manifest(
    raw: Annotated[Path, typer.Argument(help="The folder that holds the downloads.")],
    out: Annotated[Path | None, typer.Option(help="Write the hash of every file here.")] = None,
    check: Annotated[Path | None, typer.Option(help="Compare with a manifest written before.")] = None,
    workers: int = 4,
) -> None:
    """Hash raw files that may not be copied, or say which differ from a manifest; status 1 if one does."""
    from cmcgns.sources.manifest import compare, digest, read_manifest, write_manifest

    if not raw.is_dir():
        raise InputError("the folder of downloads does not exist", file=raw)
    if (out is None) == (check is None):
        raise InputError("nothing to write and nothing to compare", expected="one of --out and --check")
    with progress("files") as tick:
        if out is not None:
            entries = write_manifest(raw, out, workers=workers, progress=tick)
        else:
            entries = read_manifest(check)
            found = compare(raw, entries, workers=workers, progress=tick)
    say(f"{len(entries)} files, digest {digest(entries)}")
    if check is not None:
        for what, names in found._asdict().items():
            for name in names:
                say(f"{what}: {name}")
        if any(found):
            raise typer.Exit(1)


@reports_app.command("extract", epilog=example("reports extract downloads --out reports.parquet"))
def reports_extract(
    reports: Annotated[Path, typer.Argument(help="Folder of reports, or the zip as downloaded.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write, a row a study.")],
    profile: Annotated[
        str | None, typer.Option(help="A profile of params.yaml; the paper's rules if none.")
    ] = None,
) -> None:
    """Cut reports into sections and sentences, and filter them."""
    from cmcgns.pipeline.plan import Plan
    from cmcgns.reports.extract import extract_reports

    values = Plan.load(profile).slice("reports") if profile else {}
    say_counts("studies", extract_reports(raw=reports, out=out, **values))
