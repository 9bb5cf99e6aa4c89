"""Retrieval, zero-shot classification and grounding of all methods -> one table each, with the level of chance."""

import re
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import read_json, write_text
from cmcgns.reporting.tables import Cell, arm_title, summary, to_csv, to_latex, to_markdown


def write_alignment_table(
    *, name: str, arms: list[str], metrics: list[Path], csv: Path, details: Path, md: Path, tex: Path
) -> None:
    """Write the table three times, and the scores of single findings (`metric: finding`) as `details`.

    Args:
        name: the kind, "retrieval", "zero_shot" or "grounding".
        metrics: for each of `arms` its `metrics.json` of `evaluation.alignment`.
    """
    found = dict(zip(arms, map(read_json, metrics), strict=True))
    for document, file in zip(found.values(), metrics, strict=True):
        if document["kind"] != name:
            raise InputError(f"these are scores of {document['kind']}", file=file, expected=name)
    scored = {arm: document for arm, document in found.items() if document["seeds"]}
    every = alignment_cells(name, scored)
    cells = [cell for cell in every if ": " not in cell.metric]
    write_text(csv, to_csv(cells))
    write_text(details, to_csv([cell for cell in every if ": " in cell.metric]))
    if not scored:
        why = found[arms[0]]["reason"]
        write_text(md, f"Not measured: {why}.\n")
        write_text(tex, f"% not measured: {why}\n")
        return
    write_text(md, to_markdown(cells) + f"\n{_note(next(iter(scored.values())))}\n")
    write_text(tex, to_latex(cells))


def alignment_cells(kind: str, documents: dict[str, dict[str, Any]]) -> list[Cell]:
    """A cell for every arm and metric, then one for every way of guessing (`n_runs` 0), in per cent."""
    cells = []
    for arm, document in documents.items():
        for metric in _metrics(document):
            values = [scores[metric] for scores in document["seeds"].values()]
            cells.append(_cell(kind, metric, arm_title(arm), *summary(values)))
    for document in list(documents.values())[:1]:  # guessing is the same for all
        for name, scores in document["chance"].items():
            for metric in filter(scores.__contains__, _metrics(document)):
                cells.append(_cell(kind, metric, f"Chance ({name})", 0, 100 * scores[metric], None))
    return cells


def _cell(kind: str, metric: str, method: str, n_runs: int, mean: float | None, std: float | None) -> Cell:
    return Cell(kind, "", kind, metric, method, "", n_runs, mean, std, None, None)


def _metrics(document: dict[str, Any]) -> list[str]:
    """The metrics of a document in reading order: R@10 comes after R@5."""
    names = {name for scores in document["seeds"].values() for name in scores}
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def _note(document: dict[str, Any]) -> str:
    """What was evaluated, and what the spread is."""
    sizes = ", ".join(f"{count} {name}" for name, count in document["n"].items())
    draws = len(document["seeds"])
    return f"{sizes}. Mean ± standard deviation over {draws} draws of the evaluation sample from one pre-training."
