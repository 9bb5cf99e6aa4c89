"""Every job of a profile: what the rules of the Snakefile come to, without asking Snakemake, which takes many seconds.

A test holds this list against Snakemake's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cmcgns.pipeline.plan import Plan


class Job(NamedTuple):
    """One job: the rule's name, the files it makes, and where it writes what it says."""

    rule: str
    outputs: tuple[str, ...]
    log: str


def jobs(plan: Plan) -> list[Job]:
    """All jobs of a profile, in the order in which they can run; a file that several need is made once."""
    logs = f"logs/{plan.settings.profile}"
    found = [*_data(plan), *_training(plan), *_downstream(plan), *_beyond(plan), *_tables(plan)]
    return [Job(rule, tuple(outputs), f"{logs}/{log}.log") for rule, outputs, log in found]


_Found = Iterator[tuple[str, list[str], str]]  # rule, outputs, the log's name


def _schemes(plan: Plan) -> list[str]:
    """The profile's own scheme, then those of the table of leakage."""
    return list(dict.fromkeys([plan.scheme, *(cell.other_scheme or plan.scheme for cell in plan.cells())]))


def _data(plan: Plan) -> _Found:
    p, sources, seeds = plan.paths, plan.sources(), plan.settings.downstream.seeds
    others = {(c.source, c.other_scheme, c.seed) for c in plan.cells() if c.other_scheme}
    splits = dict.fromkeys(
        [(source, plan.scheme) for source in sources] + sorted({(s, scheme) for s, scheme, _ in others})
    )
    ranks = [(s, plan.scheme, seed) for s in sources if s != "mimic_cxr" for seed in seeds] + sorted(others)
    if plan.settings.synthetic:
        yield "synthesize", [p.truth], "synthesize"
    if "mimic_cxr" in sources:
        yield "extract_reports", [p.reports], "reports"
    for source in sources:
        yield "index", [p.index(source), p.unmatched(source)], f"index/{source}"
        yield "images", [p.store(source), p.store_table(source)], f"images/{source}"
    for source, scheme in splits:
        yield "split", [p.split(source, scheme)], f"split/{source}-{scheme}"
    for source, scheme, seed in ranks:
        yield "subset", [p.ranks(source, scheme, seed)], f"subset/{source}-{scheme}-seed{seed}"
    if plan.readers():
        yield "tokenize", [p.tokens, p.tokenizer], "tokenize"
    yield "audit", [p.audit], "audit"
    for scheme in _schemes(plan):
        yield "gate", [p.gate(scheme)], f"gate-{scheme}"


def _training(plan: Plan) -> _Found:
    p = plan.paths
    if any(p.shape_weights in plan.weight_files(arm) for arm in plan.arms()):
        yield "shape_weights", [p.shape_weights], "shape_weights"
    for arm in plan.arms():
        for phase in plan.phases(arm):
            if plan.owner(arm, phase) == arm:
                files = ("best.safetensors", "last.safetensors", "history.csv", "compute.json")
                outputs = [f"{p.phase(arm, phase)}/{file}" for file in files]
                yield "pretrain", outputs, f"pretrain/{arm}/{phase}"


def _downstream(plan: Plan) -> _Found:
    p, d = plan.paths, plan.settings.downstream
    cells = list(plan.cells())
    shown = (
        [plan.trunk(arm, d.seeds[0]) for arm in plan.arms()] if "tsne" in plan.settings.figures.kinds else []
    )
    for trunk in dict.fromkeys([*(plan.trunk(cell.arm, cell.seed) for cell in cells), *shown]):
        yield "export_trunk", [p.trunk(trunk)], f"export/{trunk}"
    probed = [(plan.trunk(c.arm, c.seed), c.source) for c in cells if c.task == "classification"]
    needed = [*(probed if d.classification.views else []), *((trunk, "chexpert") for trunk in shown)]
    for trunk, source in dict.fromkeys(needed):
        yield "features", [p.features(trunk, source)], f"features/{trunk}-{source}"
    for cell in cells:
        rule = f"finetune_{cell.task}" + (f"_{cell.other_scheme}" if cell.other_scheme else "")
        folder = plan.cell_folder(cell)
        under = f"leakage/{cell.other_scheme}" if cell.other_scheme else "finetune"
        log = f"{under}/{cell.arm}/{cell.pair}/{cell.fraction}/seed-{cell.seed}"
        yield rule, [f"{folder}/predictions.parquet", f"{folder}/metrics.json"], log


def _beyond(plan: Plan) -> _Found:
    p, s = plan.paths, plan.settings
    for kind in s.alignment.kinds:
        for arm in plan.readers():
            yield "align", [p.alignment(kind, arm)], f"align/{kind}/{arm}"
    for arm in plan.readers() if "attention" in s.figures.kinds else []:
        stem = p.attention(arm, bool(s.synthetic))
        yield "attention", [f"{stem}.png", f"{stem}.pdf"], f"figures/attention-{arm}"
    for arm in plan.arms() if "tsne" in s.figures.kinds else []:
        yield "tsne", [f"{p.tsne(arm)}.{ending}" for ending in ("png", "pdf", "json")], f"figures/tsne-{arm}"


def _tables(plan: Plan) -> _Found:
    p = plan.paths
    yield "audit_runs", [p.audit_runs], "audit_runs"
    yield "audit_page", [p.audit_page], "audit-page"
    for name in plan.tables():
        yield f"table_{name}", plan.table_files(name), f"tables/{name}"
    yield "summary", [p.summary], "tables/metrics"
    yield "report", [p.report], "report"
