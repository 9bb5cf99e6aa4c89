"""The downloads: what is there, their hashes, and the reports alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cmcgns.commands.common import ForHolders, Json, Profile, example, say, say_counts, say_json
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
    from cmcgns.sources.doctor import examine

    if not raw.is_dir():
        raise InputError("the folder of downloads does not exist", file=raw)
    findings = examine(raw)
    say_json(findings) if json_output else say(
        "\n".join(line for entry in findings for line in _found(entry))
    )
    if any(entry["status"] != "ok" for entry in findings):
        raise typer.Exit(1)


def _found(entry: dict[str, Any]) -> Iterator[str]:
    """What there is of a source: where, which version it looks like, each count beside the published one."""
    version = f", version {entry['version']}" if entry["version"] else ""
    yield f"{entry['source']} ({entry['title']}): {entry['status']}{version}"
    if entry["problem"]:
        yield f"  problem: {entry['problem']}"
    if not entry["root"]:
        yield f"  not found; get it from {entry['where']}"
        return
    yield f"  in {entry['root']}"
    expected = entry["expected"] or {}
    for name, found in (entry["counts"] or {}).items():
        published = expected.get(name)
        verdict = "" if published in (None, found) else f"   published: {published:,}"
        yield f"  {name:<30} {found:>10,}{verdict}"
    if files := entry["images"]:
        yield f"  image files: {files['present']:,} of {files['needed']:,} there, {files['without_row']:,} without a label row"
    for name, genuine in (entry["genuine"] or {}).items():
        yield f"  {name}: {'the published file' if genuine else 'not the published file'}"
    for key in ("missing", "optional"):
        for item in entry[key] or []:
            yield f"  {key}: {item}"


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


@app.command(epilog=example("splits --profile demo --out lists"))
def splits(
    out: Annotated[Path, typer.Option(help="Folder; a CSV a source and scheme.")],
    profile: Profile = "demo",
    for_holders: ForHolders = False,
) -> None:
    """Write the exact lists of images of each split and label fraction: ids, no labels."""
    from cmcgns.pipeline.audience import LEARNT, of_files, require
    from cmcgns.pipeline.plan import Plan
    from cmcgns.splits.lists import write_list

    plan = Plan.load(profile)
    known = of_files(profile)
    for source in plan.sources():
        file = plan.paths.split(source, plan.scheme)
        if file not in known:
            raise InputError(
                "there is no split yet", file=file, remedy=f"cmcgns reproduce --profile {profile}"
            )
        require(file, profile, for_holders, shows=LEARNT)
        seeds = plan.settings.downstream.seeds if source != "mimic_cxr" else []
        ranks = {seed: Path(plan.paths.ranks(source, plan.scheme, seed)) for seed in seeds}
        say(
            f"{write_list(Path(file), ranks, out / f'{source}-{plan.scheme}.csv')} rows: {out}/{source}-{plan.scheme}.csv"
        )


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
