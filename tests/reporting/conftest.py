"""Made-up runs: every file that a report is made from, as the steps would write them, with numbers of no meaning; and the
report's job."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cmcgns.files import canonical, write_json, write_text
from cmcgns.pipeline.plan import Cell, Plan
from cmcgns.reporting.alignment_tables import write_alignment_table
from cmcgns.reporting.compute import write_compute
from cmcgns.reporting.resolution import Row
from cmcgns.reporting.runs import Key, run_keys
from cmcgns.reporting.tables import DATASETS, NUMERALS, arm_title, write_table

FURTHER = {
    "classification": ("AUC Atelectasis", "AUC Cardiomegaly", "AUC Edema"),
    "detection": ("mAP official_filter",),
    "segmentation": ("Dice all-empty floor", "Dice positives only"),
}
SCORES = {
    "retrieval": ("image to report R@1", "image to report R@10"),
    "zero_shot": ("ACC 5x200",),
    "grounding": ("mIoU", "pointing", "pointing: Edema", "pointing: Edema (other film)"),
}


@pytest.fixture(scope="session")
def make_up() -> Callable[[Plan], None]:
    """Write the inputs of a plan's report below the current folder."""
    return write_inputs


@pytest.fixture(scope="session", name="report_job")
def give_report_job() -> Callable[[Plan], dict[str, Any]]:
    """`report_job`."""
    return report_job


def report_job(plan: Plan) -> dict[str, Any]:
    """What `write_page` is called with: its settings as they come out of JSON, and its files as the profile names them."""
    paths, seeds, shown = plan.paths, plan.settings.downstream.seeds, plan.slice("report")
    tables = {name: plan.groups(name) for name in plan.cell_tables()}
    others = [name for name in plan.tables() if name not in tables]
    kinds = [name for name in others if name in plan.settings.alignment.kinds]
    leakage = {
        "groups": plan.groups("leakage"),
        "schemes": [s for s in plan.leakage_schemes() if s != plan.scheme and plan.groups("leakage")],
    }
    figures = [(kind, arm) for kind, arm, *_ in plan.shown_figures()]
    drawn = {"attention": lambda arm: paths.attention(arm, True), "tsne": paths.tsne}
    keys = [(*key, "") for key in run_keys([group for groups in tables.values() for group in groups], seeds)]
    keys += [(*key, scheme) for scheme in leakage["schemes"] for key in run_keys(leakage["groups"], seeds)]
    settings = {
        "profile": plan.settings.profile,
        "tables": tables,
        "others": others,
        "seeds": seeds,
        "arms": {
            arm: {
                "phases": pretraining(plan, arm),
                "weights": plan.final(arm) or plan.image_weights(arm),
                "trunks": {str(seed): paths.trunk(plan.trunk(arm, seed)) for seed in seeds},
            }
            for arm in plan.arms()
        },
        "runs": pretraining_runs(plan),
        "readers": plan.readers(),
        "leakage": leakage,
        "scheme": plan.scheme,
        "figures": figures,
        **{name: shown[name] for name in ("settings", "code", "differences")},
    }
    files = {
        "metrics": [metrics(plan, key, scheme) for *key, scheme in keys],
        "csv": [Path(paths.table(name, "csv")) for name in [*tables, *others]],
        "md": [Path(paths.table(name, "md")) for name in [*tables, *others]],
        "details": [Path(paths.table(name, "details.csv")) for name in [*tables, *kinds]],
        "ranks": Path(paths.table("ranks", "svg")) if "ranks" in others else None,
        "history": phase_files(plan, "history.csv"),
        "compute": phase_files(plan, "compute.json"),
        "alignment": [Path(paths.alignment(kind, arm)) for kind in kinds for arm in plan.readers()],
        "pictures": [Path(f"{drawn[kind](arm)}.png") for kind, arm in figures],
        "numbers": [Path(f"{paths.tsne(arm)}.json") for kind, arm in figures if kind == "tsne"],
        "audit": Path(paths.audit),
        "gate": Path(paths.gate(plan.scheme)),
        "out": Path(paths.report),
    }
    return json.loads(canonical(settings)) | files


def pretraining(plan: Plan, arm: str) -> list[tuple[str, str]]:
    """Phase and run of each phase of an arm."""
    return [(phase, f"{plan.owner(arm, phase)}/{phase}") for phase in plan.phases(arm)]


def pretraining_runs(plan: Plan) -> list[str]:
    """Each run of pre-training once."""
    return list(dict.fromkeys(run for arm in plan.arms() for _, run in pretraining(plan, arm)))


def phase_files(plan: Plan, name: str) -> list[Path]:
    """A file of each run of pre-training."""
    return [Path(plan.paths.phase(*run.split("/")), name) for run in pretraining_runs(plan)]


def metrics(plan: Plan, key: Key, scheme: str = "") -> Path:
    """Of a fine-tuning run; `scheme` if it is not under the profile's own."""
    return Path(plan.paths.cell(*key, scheme), "metrics.json")


def write_inputs(plan: Plan) -> None:
    rng = random.Random(0)
    for cell in plan.cells():
        key = (cell.arm, cell.pair, cell.fraction, cell.seed)
        write_json(metrics(plan, key, cell.other_scheme), run(cell, rng))
    for file in phase_files(plan, "history.csv"):
        lines = [f"{epoch},{9 / epoch:.3f},{10 / epoch:.3f}" for epoch in range(1, 11)]
        write_text(file, "\n".join(["epoch,train_loss,valid_loss", *lines, ""]))
        write_json(file.with_name("compute.json"), COST)
    for kind in plan.settings.alignment.kinds:
        for arm in plan.readers():
            seeds = {str(seed): {name: rng.random() for name in SCORES[kind]} for seed in range(5)}
            chance = {"random order": {name: 0.1 for name in SCORES[kind]}}
            document = {"kind": kind, "arm": arm, "seeds": seeds, "chance": chance, "n": {"pairs": 192}}
            write_json(plan.paths.alignment(kind, arm), document | {"reason": ""})
    job = report_job(plan)
    for (kind, _), file in zip(job["figures"], job["pictures"], strict=True):
        write_picture(file, hard=kind == "attention")
    for file in job["numbers"]:
        write_json(file, {"silhouette": 0.25, "knn_accuracy": None})
    write_json(plan.paths.audit, AUDIT)
    write_json(plan.paths.gate(plan.scheme), {"accepted": ACCEPTED})
    for name in plan.tables():
        out = {ending: Path(plan.paths.table(name, ending)) for ending in ("csv", "md")}
        more = {
            "details": Path(plan.paths.table(name, "details.csv")),
            "tex": Path(plan.paths.table(name, "tex")),
        }
        if name in plan.cell_tables():
            groups, seeds = plan.groups(name), plan.settings.downstream.seeds
            files = [metrics(plan, key) for key in run_keys(groups, seeds)]
            gate = Path(plan.paths.gate(plan.scheme))
            write_table(name=name, groups=groups, seeds=seeds, metrics=files, gate=gate, **out, **more)
        elif name in plan.settings.alignment.kinds:
            files = [Path(plan.paths.alignment(name, arm)) for arm in plan.readers()]
            write_alignment_table(name=name, arms=plan.readers(), metrics=files, **out, **more)
        elif name == "compute":
            phases = [[arm, *names] for arm in plan.arms() for names in pretraining(plan, arm)]
            runs = pretraining_runs(plan)
            write_compute(runs=runs, phases=phases, compute=phase_files(plan, "compute.json"), **out)
        else:
            lines = further_table(name, plan, rng)
            text = "".join(",".join(line) + "\n" for line in lines)
            write_text(out["csv"], text)
            write_text(out["md"], f"A sentence about {name}.\n\n| a |\n|---|\n")
            if name == "ranks":
                svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"/>'
                write_text(plan.paths.table(name, "svg"), svg)


def run(cell: Cell, rng: random.Random) -> dict:
    history = [{"epoch": i, "train_loss": 1 / (i + 1), "valid_loss": 2 / (i + 1)} for i in range(20)]
    interval = {"interval": {"low": 0.4, "high": 0.8}} if cell.task == "classification" else {}
    return interval | {
        "metric": "x",
        "primary": rng.random(),
        "further": {name: rng.random() for name in FURTHER[cell.task]},
        "history": history,
        "n_train": 12 * cell.fraction,
        "n_valid": 30,
        "n_test": 40,
        "split_sha256": "ab" * 32,
    }


def further_table(name: str, plan: Plan, rng: random.Random) -> list[list[str]]:
    """Rows with the columns of the real tables, as many of them."""

    def number(digits: int = 2) -> str:
        return f"{rng.random():.{digits}f}"

    if name == "claims":
        header = ["claim", "task", "difference of", "mean", "each", "verdict"]
        return [header, ["C1", "classification", "CM-CGNS - others", "+8.66", "+8.39 +6.95", "<holds>"]]
    if name == "ranks":
        return [
            ["over", "method", "mean_rank"],
            *(["cells", arm_title(arm), number()] for arm in plan.arms()),
        ]
    if name == "leakage":
        header = ["dataset", "task", "method", "fraction", "scheme", "n_test", "mean"]
        rows = [
            [DATASETS[pair.partition("-")[2]], pair.partition("-")[0], arm_title(arm), f"{fraction}%", scheme, "40", number()]
            for arm, pair, fraction in plan.groups(name)
            for scheme in plan.leakage_schemes()
        ]  # fmt: skip
        return [header, *rows]
    rows = [
        (NUMERALS[table] or table, DATASETS[pair.partition("-")[2]], f"{fraction}%", arm_title(arm), "CM-CGNS",
         number(), "", "", number(4), number(4), number(), "40", "3")
        for table in plan.cell_tables()
        for arm, pair, fraction in plan.groups(table)
        if arm != "cm_cgns"
    ]  # fmt: skip
    return [[*Row._fields], *map(list, rows)]


def write_picture(file: Path, hard: bool) -> None:
    """As large, and as hard to compress, as a grid of films; else a plain one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((400, 600, 3), 255, np.uint8)
    if hard:
        pixels = np.random.default_rng(0).integers(0, 255, (600, 1380, 3), np.uint8)
    Image.fromarray(pixels).save(file, compress_level=1)


COST = {
    "device": "CPU x86_64, 2 thread(s)",
    "devices": 1,
    "image_passes_with_gradient": 4096,
    "image_passes_without_gradient": 0,
    "pairs": 4096,
    "pairs_per_second": [48.5],
    "peak_memory_mib": 1216.1,
    "peak_memory_of": "one process, resident",
    "seconds": 73.1,
    "updates": 64,
    "validation_seconds": 0.7,
}
ACCEPTED = [
    {
        "check": "A2-group-overlap",
        "source": "rsna",
        "task": "classification",
        "between": ["train", "test"],
        "count": 3,
        "total": 40,
        "unit": "images",
        "reason": "</script> it is <asked>",
    }
]
AUDIT = {
    "scheme": "audited",
    "sources": ["chexpert", "rsna"],
    "facts": [],
    "findings": [
        {"source": "rsna", "scheme": "audited", "severity": "critical", "check": "A2-group-overlap"},
        {"source": "rsna", "scheme": "official", "severity": "critical", "check": "A1-image-overlap"},
        {"source": "rsna", "scheme": "", "severity": "warning", "check": "A4-counts"},
    ],
}
