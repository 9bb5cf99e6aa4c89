"""Raw files to tables, pixels, splits and tokens: one command a step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmcgns.commands.common import (
    Json,
    Profile,
    Scheme,
    SettingsText,
    Source,
    example,
    say,
    say_counts,
    say_json,
    settings_of,
)
from cmcgns.errors import InputError
from cmcgns.pipeline.paths import Paths
from cmcgns.progress import progress

app = typer.Typer()
reports_app = typer.Typer(no_args_is_help=True, help="Radiology reports: sections, sentences, filters.")
app.add_typer(reports_app, name="reports")


@app.command(epilog=example("synthesize --profile demo"))
def synthesize(profile: Profile = "demo", settings: SettingsText = None, workers: int = 2) -> None:
    """Write the synthetic world in the six raw layouts, with its truth beside it."""
    from cmcgns.synthetic.synthesize import synthesize as write_world

    paths = Paths(profile)
    values = settings_of(settings, profile, "synthesize")
    if not values:
        raise InputError(f"profile {profile!r} has no synthetic world", file="params.yaml")
    raw, truth = Path(paths.raw), Path(paths.truth).parent
    with progress("synthetic films") as tick:
        counts = write_world(raw, truth, workers=workers, progress=tick, **values)
    say_counts("synthetic world", counts)


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
    settings: SettingsText = None,
) -> None:
    """Cut reports into sections and sentences, and filter them."""
    from cmcgns.reports.extract import extract
    from cmcgns.sources.mimic_cxr import find_reports

    values = settings_of(settings, profile, "reports") if settings or profile else {}
    say_counts("studies", extract(find_reports(reports) or reports, out, **values))


@app.command(epilog=example("index rsna --profile demo"))
def index(source: Source, profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Read a source's label files into its index table, and match rows and files."""
    from cmcgns.sources.index import build_index

    paths = Paths(profile)
    values = settings_of(settings, profile, "index", source=source)
    options = values.pop("options")
    out, unmatched = Path(paths.index(source)), Path(paths.unmatched(source))
    say_counts(source, build_index(source, Path(paths.raw), out, unmatched, **values, **options))


@app.command(epilog=example("images rsna --profile demo --workers 2"))
def images(
    source: Source, profile: Profile = "demo", settings: SettingsText = None, workers: int = 1
) -> None:
    """Decode a source's frontal images once, into its memory-mapped store."""
    from importlib import import_module

    from cmcgns.images.store import build_store

    paths = Paths(profile)
    values = settings_of(settings, profile, "images")
    root = import_module(f"cmcgns.sources.{source}").find(Path(paths.raw))
    index_table, store, table = map(
        Path, (paths.index(source), paths.store(source), paths.store_table(source))
    )
    with progress(f"images of {source}") as tick:
        counts = build_store(index_table, root, store, table, workers=workers, progress=tick, **values)
    say_counts(source, counts)


@app.command(epilog=example("split rsna --scheme audited --profile demo"))
def split(
    source: Source, scheme: Scheme = "audited", profile: Profile = "demo", settings: SettingsText = None
) -> None:
    """Split a source's usable images into train, valid and test."""
    from cmcgns.pipeline.plan import FILM_GROUPS
    from cmcgns.splits.write import write_split

    paths = Paths(profile)
    with progress(f"films of {source}") as tick:
        write_split(
            source,
            scheme,
            index=Path(paths.index(source)),
            store_table=Path(paths.store_table(source)),
            store=Path(paths.store(source)) if source in FILM_GROUPS else None,
            reports=Path(paths.reports) if source == "mimic_cxr" else None,
            out=Path(paths.split(source, scheme)),
            progress=tick,
            **settings_of(settings, profile, "split", source=source),
        )


@app.command(epilog=example("subset rsna --seed 0 --profile demo"))
def subset(
    source: Source,
    seed: int = 0,
    scheme: Scheme = "audited",
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Rank a source's training images for the nested 1 %, 10 % and 100 % subsets of one seed."""
    from cmcgns.splits.write import write_ranks

    paths = Paths(profile)
    write_ranks(
        source,
        index=Path(paths.index(source)),
        split=Path(paths.split(source, scheme)),
        out=Path(paths.ranks(source, scheme, seed)),
        seed=seed,
        **settings_of(settings, profile, "subset", source=source),
    )


@app.command(epilog=example("tokenize --profile demo"))
def tokenize(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Tokenise every kept report once."""
    from cmcgns.reports.tokens import tokenize_reports

    paths = Paths(profile)
    values = settings_of(settings, profile, "tokenize")
    count = tokenize_reports(Path(paths.reports), Path(paths.tokens).parent, **values)
    say(f"{count} reports tokenised")
