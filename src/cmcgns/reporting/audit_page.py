"""The audit's page: a verdict for each source and scheme, every finding and fact, and what the splits look like."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from cmcgns.audit.balance import targets
from cmcgns.audit.checks import PARTS
from cmcgns.audit.findings import SEVERITIES
from cmcgns.files import read_json, write_text
from cmcgns.parquet import read_parquet
from cmcgns.sources.csvs import among
from cmcgns.splits.schemes import SCHEMES
from cmcgns.splits.subsets import take

# number of a check -> its words, and what it asks for (data specification 11)
CHECKS = {
    "A1": ("Image in two splits", "No image may be in two splits of one task."),
    "A2": ("Patient in two splits", "No patient, or other group, may have images in two splits of one task."),
    "A3": ("Mask cut in pieces", "A split that has an image has all of its masks."),
    "A4": ("Counts", "The label files have the published counts, and the splits the sizes that follow from them."),
    "A5": ("Class balance", "But for chance, a class, view or origin is as frequent in every split as in training."),
    "A6": ("Label vocabulary", "The label files have no words but the published ones."),
    "A7": ("Nested subsets", "The 1 % are among the 10 %, these among the 100 %, and a seed gives its subsets again."),
    "A8": ("Overlap with pre-training", "No test image, nor its patient, is among the images of the pre-training."),
    "A9": ("Rows and files", "Every label row has its image file, and every image file its label row."),
    "A10": ("Trivial baselines", "A result must beat what needs no image, such as prevalence or the view alone."),
    "A11": ("Test part used early", "The publisher's test part is neither trained on nor used to select a model."),
    "A12": ("Genuine files", "The label files are the published ones to the byte."),
    "A13": ("Film under two names", "No film is in two splits under different names, judged by its pixels."),
    "A14": ("Runs that repeat", "Two seeds do not give the same metric to the last digit; asked of runs: runs.json."),
    "A15": ("Dead schedule", "A learning rate changes as its schedule says; asked of runs: runs.json."),
}  # fmt: skip
BASELINES = "A10-trivial-baseline"
FRACTIONS = {"1 %": 0.01, "10 %": 0.1, "100 %": 1.0}
STYLE = {"svg.hashsalt": "cmcgns", "font.size": 8}  # the same picture, the same bytes
# Okabe and Ito's colours, which colour-blind readers tell apart
COLOURS = dict(zip(PARTS, ("#0072B2", "#E69F00", "#009E73"), strict=True))


class Verdict(NamedTuple):
    """What the findings of one source under one scheme come to.

    Args:
        word: critical, not drawn, accepted, warnings or clean.
        counts: how many findings of each kind, in words; empty when clean.
        reasons: why the accepted ones may stand.
    """

    word: str
    counts: str
    reasons: list[str]


def write_audit_page(
    *,
    scheme: str,
    sources: Sequence[str],
    seeds: Sequence[int],
    audit: Path,
    gate: Path,
    split: Sequence[Path],
    index: Sequence[Path],
    ranks: Sequence[Path] = (),
    out: Path,
) -> dict[tuple[str, str], Verdict]:
    """Write the page: one HTML file that needs no network and shows no id but hashed ones.

    Args:
        scheme: the profile's.
        audit: `audit.json` of `audit.profile.audit_profile`.
        gate: what was accepted under `scheme`.
        split, index: one a source, in the order of `sources`; the splits of `scheme`.
        ranks: subsets under `scheme`; of every source but mimic_cxr, one a seed.

    Returns:
        (source, scheme) -> its verdict.
    """
    document = read_json(audit)
    facts = document["facts"]
    schemes = [scheme, *(other for other in SCHEMES if other != scheme)]
    accepted = read_json(gate)["accepted"]
    findings = worst_first(with_reasons(document["findings"], accepted, scheme), schemes)
    open_checks = [fact for fact in facts if _is_unchecked(fact)]
    verdicts, unchecked = {}, {}
    for source in sources:
        for which in schemes:
            about = {"source": source, "scheme": which}
            missing = [fact for fact in open_checks if _applies(fact, **about)]
            drawn = not any(fact["check"] == "A1-image-overlap" for fact in missing)
            verdicts[source, which] = verdict([f for f in findings if _applies(f, **about)], drawn=drawn)
            unchecked[source, which] = len(missing)
    subset_keys = [(source, seed) for source in sources if source != "mimic_cxr" for seed in seeds]
    subsets = dict(zip(subset_keys, ranks, strict=True))
    with rc_context(STYLE):
        described = []
        for source, rows, table in zip(sources, split, index, strict=True):
            ranked = {seed: read_parquet(file) for (of, seed), file in subsets.items() if of == source}
            described.append(describe_source(source, read_parquet(rows), read_parquet(table), ranked))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cmcgns.reporting"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("audit.html.j2").render(
        scheme=scheme,
        schemes=schemes,
        names=sources,
        verdicts=verdicts,
        unchecked=unchecked,
        findings=findings,
        baselines={which: _baselines(facts, which) for which in schemes},
        open_checks=open_checks,
        further=[
            fact | {"numbers": _flat(fact["values"])}
            for fact in facts
            if not _is_unchecked(fact) and fact["check"] != BASELINES
        ],
        sources=described,
        checks=CHECKS,
        number=_number,
        words=_words,
        share=_share,
    )
    write_text(out, page)
    return verdicts


def with_reasons(
    findings: Sequence[Mapping[str, Any]], accepted: Sequence[Mapping[str, Any]], scheme: str
) -> list[dict[str, Any]]:
    """The findings, each with the `reason` it was accepted for by the gate of `scheme`, or an empty one."""
    reasons = {(note["check"], note["source"]): note["reason"] for note in accepted}
    return [
        dict(found)
        | {
            "reason": reasons.get((found["check"], found["source"]), "")
            if found["scheme"] in (scheme, "") and found["severity"] == "critical"
            else ""
        }
        for found in findings
    ]


def worst_first(findings: Sequence[dict[str, Any]], schemes: Sequence[str]) -> list[dict[str, Any]]:
    """By severity, the accepted after the others, then by scheme as in `schemes`, then the largest share first."""
    order = ["", *schemes]
    return sorted(
        findings,
        key=lambda f: (
            SEVERITIES.index(f["severity"]),
            bool(f["reason"]),
            order.index(f["scheme"]),
            -f["count"] / max(1, f["total"]),
        ),
    )


def verdict(findings: Sequence[Mapping[str, Any]], *, drawn: bool = True) -> Verdict:
    """The worst that the findings of one source and scheme say.

    Args:
        findings: `severity`, and the `reason` of `with_reasons`.
        drawn: whether the scheme gave a split at all.
    """
    critical = [f for f in findings if f["severity"] == "critical"]
    standing = sum(not f["reason"] for f in critical)
    warnings = sum(f["severity"] == "warning" for f in findings)
    numbers = {"critical": standing, "accepted": len(critical) - standing, "warnings": warnings}
    word = next((name for name, number in numbers.items() if number), "clean")
    if not drawn and not standing:
        word = "not drawn"
    counts = [
        f"{number:,} {name if number > 1 else name.removesuffix('s')}"
        for name, number in numbers.items()
        if number
    ]
    return Verdict(word, ", ".join(counts), list(dict.fromkeys(f["reason"] for f in critical if f["reason"])))


def group_overlap(rows: pd.DataFrame) -> np.ndarray:
    """(3, 3) for one task: images of the column's split whose group is in the row's, as train, valid, test.

    The diagonal is the size of each split.
    """
    groups = {part: rows.loc[rows["split"] == part, "group_id"] for part in PARTS}
    return np.array([[int(among(groups[b], groups[a]).sum()) for b in PARTS] for a in PARTS])


def class_shares(rows: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """Percent of each class in each split of one task: classes x splits, NaN where a split is empty.

    Args:
        classes: of `audit.balance.targets`.
    """
    ids = {part: rows.loc[rows["split"] == part, "image_id"] for part in PARTS}
    return pd.DataFrame({part: 100 * classes.loc[here].mean() for part, here in ids.items()}, dtype=float)


def nesting(ranks: pd.DataFrame, training: set[str]) -> tuple[list[int], bool]:
    """Sizes of the 1 %, 10 % and 100 % subsets of one task, and of the training part; whether each is inside the next."""
    sets = [*(set(take(ranks, fraction)) for fraction in FRACTIONS.values()), training]
    return [len(s) for s in sets], all(a <= b for a, b in zip(sets, sets[1:], strict=False))


def describe_source(
    source: str, split: pd.DataFrame, index: pd.DataFrame, ranks: Mapping[int, pd.DataFrame]
) -> dict[str, Any]:
    """The plots of one source, each `title, image, alt` and the table of its numbers, `header, rows`; `ranks` by seed."""
    tasks = {str(task): rows for task, rows in split.groupby("task", sort=False)}
    crossing = {task: group_overlap(rows) for task, rows in tasks.items()}
    plots = [
        {
            "title": "Groups in two splits",
            "image": _draw_overlap(crossing),
            "alt": f"For each task of {source}, how many images of a split have their group in another",
            "header": ["Task", "Group in", "Images of", "Count", "Of"],
            "rows": [
                [task, a, b, f"{counts[i, j]:,}", f"{counts[j, j]:,}"]
                for task, counts in crossing.items()
                for i, a in enumerate(PARTS)
                for j, b in enumerate(PARTS)
                if i != j
            ],
            "text": 3,
        }
    ]
    classes = targets(source, index)
    if classes.shape[1]:
        shares = {task: class_shares(rows, classes) for task, rows in tasks.items()}
        plots.append(
            {
                "title": "Class balance",
                "image": _draw_balance(shares),
                "alt": f"For each task of {source}, the share of each class in each split",
                "header": ["Task", "Class", *(f"{part}, %" for part in PARTS)],
                "rows": [
                    [task, name, *("–" if np.isnan(x) else f"{x:.1f}" for x in row)]
                    for task, table in shares.items()
                    for name, row in zip(table.index, table.to_numpy(), strict=True)
                ],
                "text": 2,
            }
        )
    if ranks:
        training = {task: set(r.loc[r["split"] == "train", "image_id"].tolist()) for task, r in tasks.items()}
        nested = {
            (task, seed): nesting(table[table["task"] == task], training[task])
            for task in tasks
            for seed, table in ranks.items()
        }
        plots.append(
            {
                "title": "Nested subsets",
                "image": _draw_nesting(nested),
                "alt": f"For each task and seed of {source}, the sizes of the 1, 10 and 100 per cent subsets",
                "header": ["Task", "Seed", *FRACTIONS, "Training part", "Each inside the next"],
                "rows": [
                    [task, str(seed), *(f"{n:,}" for n in sizes), "yes" if inside else "no"]
                    for (task, seed), (sizes, inside) in nested.items()
                ],
                "text": 1,
            }
        )
    return {"name": source, "plots": plots}


# ---- words ----


def _is_unchecked(fact: Mapping[str, Any]) -> bool:
    """No split to check (A1 without a task), groups that nobody knows (A2), pixels that were not compared (A13)."""
    whole = fact["check"] == "A2-group-overlap" or (
        fact["check"] == "A13-near-duplicate" and not fact["source"]
    )
    return whole or (fact["check"] == "A1-image-overlap" and not fact["task"])


def _applies(entry: Mapping[str, Any], source: str, scheme: str) -> bool:
    """A fault of the label files is one of every scheme, for the gate as well."""
    return entry["source"] == source and entry["scheme"] in (scheme, "")


def _number(check: str) -> str:
    return check.split("-")[0]


def _words(check: str) -> str:
    return CHECKS.get(_number(check), (check,))[0]


def _share(found: Mapping[str, Any]) -> str:
    return f"{found['count']:,} of {found['total']:,} {found['unit']}"


def _baselines(facts: Sequence[Mapping[str, Any]], scheme: str) -> list[list[str]]:
    """Source, task, baseline and percent."""
    return [
        [fact["source"], fact["task"], name, f"{value:.2f}"]
        for fact in facts
        if fact["check"] == BASELINES and fact["scheme"] == scheme
        for name, value in fact["values"].items()
    ]


def _flat(values: Mapping[str, Any], before: str = "") -> list[str]:
    """Numbers of a fact, a line each."""
    lines = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{before}{name}, ")
        else:
            lines.append(f"{before}{name}: {value}")
    return lines


# ---- plots ----


def _draw_overlap(tables: Mapping[str, np.ndarray]) -> str:
    figure = Figure(figsize=(2.3 * len(tables) + 0.3, 2.5), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)
    for axes, (task, counts) in zip(panels.flat, tables.items(), strict=True):
        shares = counts / np.maximum(1, counts.diagonal())
        shares[np.diag_indices(len(PARTS))] = 0  # a split with itself
        shares[shares == 0] = np.nan  # which stays white
        axes.imshow(shares, cmap="Reds", vmin=0, vmax=1)
        for (i, j), count in np.ndenumerate(counts):
            colour = "white" if shares[i, j] > 0.6 else "grey" if i == j else "black"
            axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour)
        axes.set(title=task, xlabel="images of", ylabel="whose group is in")
        axes.set_xticks(range(len(PARTS)), PARTS)
        axes.set_yticks(range(len(PARTS)), PARTS)
    return _svg(figure)


def _draw_balance(tables: Mapping[str, pd.DataFrame]) -> str:
    classes = max(len(table) for table in tables.values())
    figure = Figure(figsize=(3 * len(tables) + 0.3, 1.2 + 0.45 * classes), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False, sharex=True)
    for axes, (task, table) in zip(panels.flat, tables.items(), strict=True):
        for i, part in enumerate(PARTS):
            place = np.arange(len(table)) + 0.25 * (i - 1)
            axes.barh(place, table[part].fillna(0), height=0.22, color=COLOURS[part], label=part)
        axes.set_yticks(range(len(table)), list(table.index))
        axes.invert_yaxis()
        axes.set(title=task, xlabel="% of images")
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS), frameon=False
    )
    return _svg(figure)


def _draw_nesting(nested: Mapping[tuple[str, int], tuple[list[int], bool]]) -> str:
    """Bars over one another, the small subset in front."""
    start = 0.7  # left of one image, on a logarithmic axis
    sizes = [row[:3] for row, _ in nested.values()]
    figure = Figure(figsize=(4.6, 1.1 + 0.22 * len(sizes)), layout="constrained")
    axes = figure.subplots()
    for i, name, shade in ((2, "100 %", "#cfe1f2"), (1, "10 %", "#6aaed6"), (0, "1 %", "#1764ab")):
        axes.barh(range(len(sizes)), [row[i] - start for row in sizes], left=start, color=shade, label=name)
    for y, (row, inside) in enumerate(nested.values()):
        told = " \u2286 ".join(f"{n:,}" for n in row[:3]) if inside else "not nested"
        axes.text(row[2] * 1.05, y, told, va="center")
    axes.set_xscale("log")
    axes.set_xlim(start, 20 * max(row[2] for row in sizes))
    axes.set_yticks(range(len(sizes)), [f"{task}, seed {seed}" for task, seed in nested])
    axes.invert_yaxis()
    axes.set_xlabel("training images")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, reverse=True)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """A figure as the data of an SVG image."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return base64.b64encode(buffer.getvalue()).decode()
