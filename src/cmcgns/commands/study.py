"""A whole study: run it, look at it, follow its numbers; and the steps that write its tables and pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cmcgns.commands.common import Json, Profile, SettingsText, example, say, say_json, settings_of
from cmcgns.pipeline.paths import Paths
from cmcgns.progress import progress

app = typer.Typer()

TABLE_NAMES = (
    *("1", "2", "3", "4", "sensitivity", "retrieval", "zero_shot", "grounding"),
    *("leakage", "compute", "comparisons", "ranks", "claims"),
)


@app.command(epilog=example("reproduce --profile demo --cores 2"))
def reproduce(
    profile: Profile = "demo",
    raw: Annotated[Path | None, typer.Option(help="Where the downloads are.")] = None,
    cores: Annotated[int | None, typer.Option(help="All, if not given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would run.")] = False,
) -> None:
    """Run everything of a profile that is not done yet, and print the tables."""
    from cmcgns.pipeline.reproduce import reproduce as run_all

    raise typer.Exit(run_all(profile, raw=raw, cores=cores, dry_run=dry_run))


@app.command(epilog=example("plan --profile paper"))
def plan(profile: Profile = "demo", json_output: Json = False) -> None:
    """Say what a profile consists of: arms, tables, jobs, and what they cost where some have run before."""
    from cmcgns.pipeline.overview import describe, describe_text
    from cmcgns.pipeline.plan import Plan

    document = describe(Plan.load(profile))
    say_json(document) if json_output else say(describe_text(document))


@app.command(epilog=example("status --profile demo"))
def status(profile: Profile = "demo", json_output: Json = False) -> None:
    """Say what is done, running, failed and waiting, and for how long; status 1 if a job has failed."""
    from cmcgns.pipeline.plan import Plan
    from cmcgns.pipeline.status import status as examine
    from cmcgns.pipeline.status import status_text

    document = examine(Plan.load(profile))
    say_json(document) if json_output else say(status_text(document))
    if document["failed"]:
        raise typer.Exit(1)


@app.command(epilog=example("trace 'table1 / CheXpert / 1% / CM-CGNS' --profile demo"))
def trace(
    what: Annotated[
        str, typer.Argument(help="A cell, 'table1 / CheXpert / 1% / CM-CGNS', or a file that a run made.")
    ],
    profile: Profile = "demo",
    json_output: Annotated[bool, typer.Option("--json", help="W3C PROV-JSON.")] = False,
) -> None:
    """Follow a number down to the hashes of raw files: jobs, settings, code and inputs on the way."""
    from cmcgns.pipeline.plan import Plan
    from cmcgns.pipeline.trace import as_prov, as_text, runs_of

    targets = [what] if what.startswith(("data/", "results/")) else runs_of(Plan.load(profile), what)
    say_json(as_prov(profile, targets)) if json_output else say(as_text(profile, targets))


@app.command(epilog=example("compare main:demo demo"))
def compare(
    a: Annotated[str, typer.Argument(help="A profile, or a git revision and a profile: main:demo.")],
    b: Annotated[str, typer.Argument(help="The same, to be compared with it.")],
    json_output: Json = False,
) -> None:
    """Say which numbers moved from one state of the results to another, and which inputs explain it."""
    from cmcgns.pipeline.compare import as_text, load
    from cmcgns.pipeline.compare import compare as examine

    document = examine(load(a), load(b))
    say_json(document) if json_output else say(as_text(document))


@app.command(epilog=example("verify --profile demo"))
def verify(profile: Profile = "demo", json_output: Json = False) -> None:
    """Hash every output of a profile anew and hold it against the ledger; status 1 if one is not what a run wrote."""
    from cmcgns.pipeline.ledger import read
    from cmcgns.pipeline.ledger import verify as check

    with progress("outputs") as tick:
        found = check(profile, progress=tick)
    if json_output:
        say_json({"outputs": len(read(profile)), **found})
    else:
        for what, files in found.items():
            for file in files:
                say(f"{what}: {file}")
        counts = ", ".join(f"{len(files)} {what}" for what, files in found.items())
        say(f"{len(read(profile))} outputs: {counts}")
    if found["changed"] or found["missing"] or found["foreign"]:
        raise typer.Exit(1)


@app.command(epilog=example("table 1 --profile demo"))
def table(
    name: Annotated[Literal[TABLE_NAMES], typer.Argument(help="One of the paper's tables, or one of ours.")],
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Collect finished runs into a table."""
    from cmcgns.reporting.collect import write

    write(name, Paths(profile), settings_of(settings, profile, "table", name=name))


@app.command(epilog=example("summary --profile demo"))
def summary(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Write the numbers of all tables as one JSON document, for `dvc metrics`."""
    from cmcgns.reporting.summary import write_summary

    paths = Paths(profile)
    tables = settings_of(settings, profile, "summary")["tables"]
    write_summary([Path(table) for table in tables], Path(paths.audit), Path(paths.summary))
    say(paths.summary)


@app.command(epilog=example("report --profile demo"))
def report(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Write the report page."""
    from cmcgns.reporting.page import write_page

    write_page(Paths(profile), **settings_of(settings, profile, "report"))
