"""`cmcgns audit labels` and `cmcgns audit table`: both end with status 1 if there is a critical finding."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmcgns.errors import InputError
from cmcgns.hidden_ids import read_key, write_key
from cmcgns.progress import progress

if TYPE_CHECKING:  # the command line starts without pandas
    from cmcgns.audit.findings import Fact, Finding

audit_app = typer.Typer(no_args_is_help=True, help="Find and count the leaks of splits.")
Out = Annotated[Path | None, typer.Option(help="Write findings and facts as JSON.")]
Key = Annotated[
    Path | None,
    typer.Option(
        help="Show examples of ids, hashed with the secret in this file, which is made if it is not there."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print them as JSON.")]


@audit_app.command("labels", epilog="Example: cmcgns audit labels downloads --scheme audited")
def labels(
    folder: Annotated[
        Path, typer.Argument(help="Holds rsna/, siim/, covidx/, chexpert/, object-CXR/, mimic/ or some.")
    ],
    scheme: Annotated[
        list[str] | None, typer.Option(help="official, paper or audited; all, if not given.")
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            help="SOURCE=FILE, patients of a source's images: a CSV with image, group, or the NIH map."
        ),
    ] = None,
    key: Key = None,
    out: Out = None,
    json_output: Json = False,
) -> None:
    """Audit the splits of label files as published; no image is needed."""
    from cmcgns.audit.labels import audit_labels
    from cmcgns.splits.schemes import SCHEMES

    if not folder.is_dir():
        raise InputError("the folder of label files does not exist", file=folder)
    _finish(*audit_labels(folder, tuple(scheme or SCHEMES), _maps(groups or []), _key(key)), out, json_output)


@audit_app.command("table", epilog="Example: cmcgns audit table split.csv --id image --group patient")
def table(
    file: Annotated[Path, typer.Argument(help="A CSV file, one row an image.")],
    image: Annotated[
        str, typer.Option("--id", help="Column of image ids (paths below --image-root).")
    ] = "id",
    split: Annotated[str, typer.Option(help="Column of splits.")] = "split",
    group: Annotated[str | None, typer.Option(help="Column of patients.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of classes.")] = None,
    image_root: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    key: Key = None,
    out: Out = None,
    json_output: Json = False,
) -> None:
    """Audit anybody's own split."""
    from cmcgns.audit.table import audit_table

    if not file.is_file():
        raise InputError("the table does not exist", file=file)
    columns = {"image": image, "split": split, "group": group, "label": label}
    with progress("images") as tick:
        found = audit_table(file, **columns, image_root=image_root, key=_key(key), progress=tick)
    _finish(*found, out, json_output)


def render(findings: Sequence[Finding], facts: Sequence[Fact]) -> str:
    """One line a finding, the worst first, then what could not be checked."""
    from cmcgns.audit.findings import SEVERITIES

    ordered = sorted(findings, key=lambda found: SEVERITIES.index(found.severity))
    rows = [("severity", "check", "source", "scheme", "task", "between", "count", "of", "unit", "")]
    rows += [
        (f.severity, f.check, f.source, f.scheme, f.task, " > ".join(p for p in (f.split_a, f.split_b) if p),
         f"{f.count:,}", f"{f.total:,}", f.unit, f.detail)
        for f in ordered
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(9)]
    right = (6, 7)
    lines = [
        "  ".join(
            [
                *(
                    text.rjust(w) if i in right else text.ljust(w)
                    for i, (text, w) in enumerate(zip(row, widths, strict=False))
                ),
                row[9],
            ]
        ).rstrip()
        for row in (rows if findings else [])
    ]
    notes = [fact for fact in facts if not fact.values]
    lines += [
        f"note: {': '.join(filter(None, [f'{fact.source} {fact.scheme}'.strip(), fact.statement]))}"
        for fact in notes
    ]
    counts = ", ".join(f"{sum(f.severity == s for f in findings)} {s}" for s in SEVERITIES[:2])
    return "\n".join([*lines, f"{len(findings)} findings: {counts}"])


def _key(file: Path | None) -> str:
    if file is None:
        return ""
    if not file.exists():
        write_key(random=True, out=file)
    return read_key(file)


def _maps(texts: Sequence[str]) -> dict[str, Path]:
    maps = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not Path(path).is_file():
            raise InputError(
                f"--groups {text}: no such file", expected="SOURCE=FILE, for example rsna=map.csv"
            )
        maps[name] = Path(path)
    return maps


def _finish(findings: Sequence[Finding], facts: Sequence[Fact], out: Path | None, json_output: bool) -> None:
    from cmcgns.audit.findings import to_document, write_audit

    document = json.dumps(to_document(findings, facts), indent=1) if json_output else ""
    print(document or render(findings, facts), flush=True)
    if out is not None:
        write_audit(out, findings, facts)
    if any(found.severity == "critical" for found in findings):
        raise typer.Exit(1)
