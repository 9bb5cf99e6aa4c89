"""A whole study: run it, look at it, follow its numbers; and the one way to run a step of it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cmcgns.commands.common import Json, Profile, example, say, say_json
from cmcgns.errors import InputError
from cmcgns.progress import progress

app = typer.Typer()


@app.command(epilog=example("reproduce --profile demo --cores 2"))
def reproduce(
    files: Annotated[list[str] | None, typer.Argument(help="Make these files only.")] = None,
    profile: Profile = "demo",
    raw: Annotated[Path | None, typer.Option(help="Where the downloads are.")] = None,
    cores: Annotated[int | None, typer.Option(help="All, if not given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would run.")] = False,
) -> None:
    """Run everything of a profile that is not done yet, and print the tables."""
    from cmcgns.pipeline.reproduce import reproduce as run_all

    raise typer.Exit(run_all(profile, files=files or [], raw=raw, cores=cores, dry_run=dry_run))


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
    from cmcgns.pipeline.status import status as examine
    from cmcgns.pipeline.status import status_text

    document = examine(profile)
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


@app.command(epilog=example("compare demo"))
def compare(
    a: Annotated[
        str,
        typer.Argument(help="A profile, the run before, before:demo, or that of a git revision, main:demo."),
    ] = "demo",
    b: Annotated[
        str,
        typer.Argument(help="The same, to be compared with it. With one name: the run before and this one."),
    ] = "",
    json_output: Json = False,
) -> None:
    """Say which numbers moved from one state of the results to another, and which inputs explain it."""
    from cmcgns.pipeline.compare import BEFORE, as_text, load
    from cmcgns.pipeline.compare import compare as examine

    a, b = (a, b) if b else (a if ":" in a else f"{BEFORE}:{a}", a.rpartition(":")[2])
    document = examine(load(a), load(b))
    say_json(document) if json_output else say(as_text(document))


@app.command(epilog=example("store --check"))
def store(
    check: Annotated[
        bool, typer.Option("--check", help="Hash every file; status 1 if one is damaged.")
    ] = False,
    put: Annotated[
        str, typer.Option(help="Copy the finished jobs of this profile into the shared store.")
    ] = "",
    prune: Annotated[float | None, typer.Option(help="Remove what nobody has used for so many days.")] = None,
) -> None:
    """Say what lies ready to be taken over instead of being computed: moved aside here, and in the store CMCGNS_STORE."""
    from cmcgns.pipeline import history
    from cmcgns.pipeline import store as stores

    if put:
        if not stores.shared():
            raise InputError("there is no shared store", expected="its folder in the variable CMCGNS_STORE")
        whole = [
            e
            for e in history.locals_of(put)
            if history.is_true(e) and all(map(os.path.isfile, history.hashed_files(e)))
        ]
        say(
            f"{sum(stores.publish(entry, say) for entry in whole)} of {len(whole)} jobs put into the store, the others were there"
        )
    wrong = []
    for where, found in stores.stored().items():
        if prune is not None:
            gone = stores.prune(found, prune)
            say(f"{where}: {len(gone)} jobs removed, {sum(one.size for one in gone) / 1e6:,.0f} MB")
            found = [one for one in found if one not in gone]
        place = stores.shared() if where == "store" else stores.ASIDE
        say(f"{where}: {len(found)} jobs, {sum(one.size for one in found) / 1e6:,.0f} MB in {place}")
        wrong += [file for one in found for file in stores.damaged(one)] if check else []
    for file in wrong:
        say(f"damaged: {file}")
    if wrong:
        raise typer.Exit(1)


@app.command(epilog=example("audience results/demo/tables/table1.csv"))
def audience(
    files: Annotated[
        list[str] | None, typer.Argument(help="Files of the profile; all kinds of output, if none.")
    ] = None,
    profile: Profile = "demo",
) -> None:
    """Say who may have a file, or a table of what the rules make, as Markdown."""
    from cmcgns.files import markdown_text
    from cmcgns.pipeline.audience import of_files, table
    from cmcgns.pipeline.graph import graph_of

    if files:
        known = of_files(profile)
        for file in files:
            if file not in known:
                raise InputError("no job has made it", file=file)
            who, sources = known[file]
            say(f"{file}: {who}{' (' + ', '.join(sources) + ')' if sources else ''}")
        return
    jobs = graph_of(profile).jobs
    rows = table([job.content for job in jobs], {job.target: job.rule for job in jobs})
    say(markdown_text([("rule", "output", "shows", "for"), *rows]).rstrip())


@app.command(epilog=example("verify --profile demo"))
def verify(profile: Profile = "demo", json_output: Json = False) -> None:
    """Hash every output of a profile anew and hold it against the ledger; status 1 if one is not what a run wrote."""
    from cmcgns.pipeline.history import read
    from cmcgns.pipeline.history import verify as check

    with progress("outputs") as tick:
        found = check(profile, progress=tick)
    if json_output:
        say_json({"jobs": len(read(profile)), **found})
    else:
        for what, files in found.items():
            for file in files:
                say(f"{what}: {file}")
        counts = ", ".join(f"{len(files)} {what}" for what, files in found.items())
        say(f"{len(read(profile))} jobs: {counts}")
    if found["changed"] or found["missing"] or found["foreign"]:
        raise typer.Exit(1)


@app.command(epilog=example("step job.json"))
def step(
    job: Annotated[str, typer.Argument(help="A JSON document, or a file that holds one.")] = "",
    show: Annotated[str, typer.Option(help="Print the document of the job that makes this file.")] = "",
    profile: Profile = "demo",
) -> None:
    """Run one step: the function, the files and the settings that a document names. The rules of the job graph call this."""
    from cmcgns.pipeline.record import run

    if show:
        from cmcgns.pipeline.graph import document_of

        say(document_of(profile, show))
    elif job:
        run(job if job.lstrip().startswith("{") else _text_of(Path(job)))
    else:
        raise InputError("there is no job to run", expected="a JSON document, a file, or --show FILE")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from None
