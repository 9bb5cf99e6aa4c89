"""The report: one self-contained HTML page with all tables, plots and figures, and the history of every number."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from cmcgns.files import read_json, write_text
from cmcgns.methods import METHODS
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.page_curves import efficiency_plots, head_plots, loss_plot
from cmcgns.reporting.page_history import PRIMARY, read_alignment, read_cells, read_phases
from cmcgns.reporting.page_plots import sample
from cmcgns.reporting.page_tables import (
    Known,
    count_verdicts,
    explain_alignment,
    explain_cell,
    family,
    further,
    grid,
    notes,
    plain,
    read_lines,
    settings_table,
)
from cmcgns.reporting.resolution import read_rows, resolution
from cmcgns.reporting.tables import NUMERALS, TITLES, Cell, arm_title, read_csv

ALIGNMENT = ("retrieval", "zero_shot", "grounding")
FIGURES = {"attention": "Where a sentence looks in a radiograph", "tsne": "Features of CheXpert in the plane"}
PIXELS, FEW = 700, 16  # width of a figure; half of it where there are more figures than a few
SEVERITIES = ("critical", "warning", "info")


def write_page(
    paths: Paths,
    *,
    tables: Mapping[str, Sequence[tuple[str, str, int]]],
    others: Sequence[str],
    seeds: list[int],
    arms: Mapping[str, Mapping[str, Any]],
    leakage: Mapping[str, Any],
    scheme: str,
    settings: Mapping[str, Any],
    code: Mapping[str, str],
    figures: Sequence[Sequence[str]],
    differences: Sequence[Sequence[Any]],
) -> None:
    """Write `report/index.html`; the same files and settings give the same bytes.

    Args:
        tables: name -> (arm, pair, fraction) of its runs, of the tables in the paper's form.
        others: names of the other tables.
        arms: arm -> `phases`, pairs of name and folder, and `weights`, what its image encoder is taken from.
        leakage: `groups` and `schemes` of the table of leakage.
        scheme: the profile's split scheme.
        settings: what each kind of run could read, by the names that `page_history` gives.
        code: step -> fingerprint.
        figures: (kind, arm, file without ending).
        differences: (leaf of params.yaml, the paper's value, the profile's).
    """
    groups = list(dict.fromkeys(tuple(group) for table in tables.values() for group in table))
    common = {"arms": arms, "code": code}
    views = "features" in settings
    runs = read_cells(paths, groups, seeds, views=views, **common)
    for other in leakage["schemes"]:
        if other != scheme:
            runs |= read_cells(paths, leakage["groups"], seeds, views=views, scheme=other, **common)
    for kind in others:
        if kind in ALIGNMENT:
            runs |= read_alignment(paths, kind, **common)
    known = Known(paths, arms, scheme, runs, [])
    resolvable = (
        resolution(read_rows(Path(paths.table("comparisons", "csv")))) if "comparisons" in others else {}
    )
    sections = [
        *(_cell_section(name, known, resolvable.get(NUMERALS[name] or name, "")) for name in tables),
        *(
            _alignment_section(name, known) if name in ALIGNMENT else _plain_section(name, known)
            for name in others
        ),
    ]
    phases = read_phases(arms, code)
    methods = {arm: style for style, arm in enumerate(dict.fromkeys(arm for arm, _, _ in groups))}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cmcgns.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        profile=paths.profile,
        sections=sections,
        families=list(dict.fromkeys(method.family for method in METHODS.values())),
        datasets=list(dict.fromkeys(name for section in sections for name in section["table"]["datasets"])),
        legend=[
            {
                "title": arm_title(arm),
                "family": family(arm_title(arm), arms),
                "sample": Markup(sample(style)),
            }
            for arm, style in methods.items()
        ],
        loss_legend=[
            {"title": name, "sample": Markup(sample(i))} for i, name in enumerate(("training", "validation"))
        ],
        efficiency=efficiency_plots(groups, runs, methods),
        losses=[
            {"title": facts["title"], "svg": loss_plot(Path(facts["folder"]) / "history.csv", facts["title"])}
            for facts in phases.values()
        ],
        heads=head_plots(groups, runs, methods),
        figures=_figures(figures),
        ranks=_ranks(Path(paths.table("ranks", "svg"))) if "ranks" in others else "",
        audit=_audit(Path(paths.audit), Path(paths.gate(scheme)), scheme),
        differences=settings_table(differences, paths.profile),
        data={
            "profile": paths.profile,
            "numbers": known.numbers,
            "runs": runs,
            "phases": phases,
            "settings": settings,
        },
    )
    write_text(paths.report, page)


# ---- tables ----


def _cell_section(name: str, known: Known, resolvable: str) -> dict[str, Any]:
    """`resolvable`: what this table's numbers of seeds and test patients can tell apart at all (`resolution`)."""
    cells = read_csv(Path(known.paths.table(name, "csv")))
    more = read_csv(Path(known.paths.table(name, "details.csv")))
    counts = count_verdicts(cells)
    sentences = [f"Of the paper's cells: {counts}."] if counts else []
    if resolvable:
        sentences.append(
            f"Between two methods, differences below these points cannot be told apart here: {resolvable}."
        )
    return {
        "title": TITLES[name],
        "table": grid(name, cells, known, lambda cell: explain_cell(name, cell, known, PRIMARY)),
        "further": further(name, more, known, lambda cell: explain_cell(name, cell, known, cell.metric))
        if more
        else None,
        "notes": sentences + notes(Path(known.paths.table(name, "md"))),
    }


def _alignment_section(kind: str, known: Known) -> dict[str, Any]:
    cells = read_csv(Path(known.paths.table(kind, "csv")))
    more = read_csv(Path(known.paths.table(kind, "details.csv")))

    def explain(cell: Cell) -> int:
        return explain_alignment(kind, cell, known)

    return {
        "title": TITLES[kind],
        "table": grid(kind, cells, known, explain),
        "further": further(kind, more, known, explain) if more else None,
        "notes": notes(Path(known.paths.table(kind, "md"))),
    }


def _plain_section(name: str, known: Known) -> dict[str, Any]:
    return {
        "title": TITLES[name],
        "table": plain(name, read_lines(Path(known.paths.table(name, "csv"))), known),
        "notes": notes(Path(known.paths.table(name, "md"))),
    }


# ---- figures and audit ----


def _figures(figures: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Kinds with their pictures; below a t-SNE the numbers that its separation was measured with."""
    width = PIXELS if len(figures) <= FEW else PIXELS // 2
    kinds: dict[str, list[dict[str, Any]]] = {}
    for kind, arm, file in figures:
        numbers = read_json(f"{file}.json") if kind == "tsne" else {}
        said = ", ".join(
            f"{name.replace('_', ' ')} {number:.3g}" for name, number in numbers.items() if number is not None
        )
        title = arm_title(arm)
        kinds.setdefault(kind, []).append(
            {
                "title": title,
                "family": family(title, [arm]),
                "said": said,
                "image": picture(Path(f"{file}.png"), width),
            }
        )
    return [{"kind": kind, "title": FIGURES[kind], "pictures": found} for kind, found in kinds.items()]


def picture(file: Path, width: int) -> str:
    """A PNG image as base64, no wider than `width` pixels and of 256 colours."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(256).save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _ranks(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()


def _audit(audit: Path, gate: Path, scheme: str) -> dict[str, Any]:
    """How many findings of which severity each source has under a scheme, and those that somebody accepted."""
    document = read_json(audit)
    found = [f for f in document["findings"] if f["scheme"] in (scheme, "")]
    counts = {source: Counter() for source in document["sources"]}
    for finding in found:
        counts.setdefault(finding["source"], Counter())[finding["severity"]] += 1
    return {
        "scheme": scheme,
        "severities": SEVERITIES,
        "counts": [
            [source, *(count[severity] for severity in SEVERITIES)] for source, count in counts.items()
        ],
        "accepted": read_json(gate)["accepted"],
    }
