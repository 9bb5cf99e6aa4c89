"""The report: one self-contained HTML page with all tables, plots and figures, and the history of every number."""

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
from cmcgns.reporting.runs import Group, run_keys
from cmcgns.reporting.tables import NUMERALS, TITLES, Cell, arm_title, read_csv

ALIGNMENT = ("retrieval", "zero_shot", "grounding")
FIGURES = {"attention": "Where a sentence looks in a radiograph", "tsne": "Features of CheXpert in the plane"}
PIXELS, FEW = 700, 16  # width of a figure; half of it where there are more figures than a few
SEVERITIES = ("critical", "warning", "info")


def write_page(
    *,
    profile: str,
    tables: Mapping[str, Sequence[Group]],
    others: Sequence[str],
    seeds: Sequence[int],
    arms: Mapping[str, Mapping[str, Any]],
    runs: Sequence[str],
    readers: Sequence[str],
    leakage: Mapping[str, Any],
    scheme: str,
    settings: Mapping[str, Any],
    code: Mapping[str, str],
    figures: Sequence[Sequence[str]],
    differences: Sequence[Sequence[Any]],
    metrics: Sequence[Path] = (),
    csv: Sequence[Path] = (),
    md: Sequence[Path] = (),
    details: Sequence[Path] = (),
    ranks: Path | None = None,
    history: Sequence[Path] = (),
    compute: Sequence[Path] = (),
    alignment: Sequence[Path] = (),
    pictures: Sequence[Path] = (),
    numbers: Sequence[Path] = (),
    audit: Path,
    gate: Path,
    out: Path,
) -> None:
    """Write the page; the same files and settings give the same bytes.

    Args:
        tables: name -> (arm, pair, fraction) of its runs, of the tables in the paper's form.
        others: names of the other tables.
        arms: arm -> `phases`, pairs of name and run; `weights`, what its image encoder is taken from; `trunks`, seed -> name
            of the encoder that its runs stand on.
        runs: of pre-training, `<arm that owns it>/<phase>`; the order of the keys of `arms` does not outlive JSON.
        readers: the arms that read reports.
        leakage: `groups` and the `schemes` beside the profile's of the table of leakage.
        scheme: the profile's split scheme.
        settings: what each kind of run could read, by the names that `page_history` gives.
        code: step -> fingerprint.
        figures: (kind, arm).
        differences: (leaf of params.yaml, the paper's value, the profile's).
        metrics: of the runs of `tables`, each once, all seeds of a group together; then, for one scheme of `leakage`
            after another, of the runs of its groups.
        csv, md: of `tables`, then `others`.
        details: of `tables`, then of those of `others` that are of alignment.
        ranks: the plot of mean ranks, if that is one of `others`.
        history, compute: losses and cost of each of `runs`.
        alignment: for each of `others` that is of alignment, the scores of all `readers`.
        pictures: of `figures`.
        numbers: of those of `figures` that are a t-SNE.
    """
    groups = list(dict.fromkeys(tuple(group) for table in tables.values() for group in table))
    keys = [("", key) for key in run_keys(groups, seeds)]
    keys += [(other, key) for other in leakage["schemes"] for key in run_keys(leakage["groups"], seeds)]
    common = {"arms": arms, "code": code}
    cells = read_cells(dict(zip(keys, metrics, strict=True)), views="features" in settings, **common)
    aligned = [kind for kind in others if kind in ALIGNMENT]
    scores = [(kind, arm) for kind in aligned for arm in readers]
    cells |= read_alignment(dict(zip(scores, alignment, strict=True)), **common)
    names = [*tables, *others]
    known = Known(dict(zip(names, csv, strict=True)), arms, scheme, cells, [])
    more = dict(zip([*tables, *aligned], details, strict=True))
    resolvable = resolution(read_rows(known.tables["comparisons"])) if "comparisons" in others else {}
    sections = [
        _section(name, known, file, more.get(name), resolvable) for name, file in zip(names, md, strict=True)
    ]
    phases = read_phases(dict(zip(runs, zip(history, compute, strict=True), strict=True)), **common)
    methods = {arm: style for style, arm in enumerate(dict.fromkeys(arm for arm, _, _ in groups))}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cmcgns.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        profile=profile,
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
        efficiency=efficiency_plots(groups, cells, methods),
        losses=[
            {"title": facts["title"], "svg": loss_plot(Path(facts["file"]), facts["title"])}
            for facts in phases.values()
        ],
        heads=head_plots(groups, cells, methods),
        figures=_figures(figures, pictures, numbers),
        ranks=base64.b64encode(ranks.read_bytes()).decode() if ranks else "",
        audit=_audit(audit, gate, scheme),
        differences=settings_table(differences, profile),
        data={
            "profile": profile,
            "numbers": known.numbers,
            "runs": cells,
            "phases": phases,
            "settings": settings,
        },
    )
    write_text(out, page)


# ---- tables ----


def _section(
    name: str, known: Known, md: Path, details: Path | None, resolvable: Mapping[str, str]
) -> dict[str, Any]:
    """A table with its title and notes.

    Args:
        details: further metrics of the same runs; of tables of the paper's form and of alignment.
        resolvable: numeral or name of a table -> what its seeds and test patients can tell apart at all (`resolution`).
    """
    file, title = known.tables[name], TITLES[name]
    if details is None:
        return {"title": title, "table": plain(name, read_lines(file), known), "notes": notes(md)}

    def explain(cell: Cell, score: str = PRIMARY) -> int:
        if name in ALIGNMENT:
            return explain_alignment(name, cell, known)
        return explain_cell(name, cell, known, score)

    cells, more = read_csv(file), read_csv(details)
    counts, least = count_verdicts(cells), resolvable.get(NUMERALS.get(name) or name)
    said = [f"Of the paper's cells: {counts}."] if counts else []
    if least:
        said.append(
            f"Between two methods, differences below these points cannot be told apart here: {least}."
        )
    return {
        "title": title,
        "table": grid(name, cells, known, explain),
        "further": further(name, more, known, lambda cell: explain(cell, cell.metric)) if more else None,
        "notes": said + notes(md),
    }


# ---- figures and audit ----


def _figures(
    figures: Sequence[Sequence[str]], pictures: Sequence[Path], numbers: Sequence[Path]
) -> list[dict[str, Any]]:
    """Kinds with their pictures; below a t-SNE the numbers that its separation was measured with."""
    width = PIXELS if len(figures) <= FEW else PIXELS // 2
    separations = dict(zip([arm for kind, arm in figures if kind == "tsne"], numbers, strict=True))
    kinds: dict[str, list[dict[str, Any]]] = {}
    for (kind, arm), file in zip(figures, pictures, strict=True):
        measured = read_json(separations[arm]) if kind == "tsne" else {}
        said = ", ".join(
            f"{name.replace('_', ' ')} {number:.3g}"
            for name, number in measured.items()
            if number is not None
        )
        title = arm_title(arm)
        kinds.setdefault(kind, []).append(
            {
                "title": title,
                "family": family(title, [arm]),
                "said": said,
                "image": picture(file, width),
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
