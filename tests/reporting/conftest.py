"""Made-up runs: every file that a report is made from, as the steps would write them, with numbers of no meaning."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmcgns.files import write_json, write_text
from cmcgns.pipeline.plan import Cell, Plan
from cmcgns.reporting.collect import write
from cmcgns.reporting.resolution import Row
from cmcgns.reporting.tables import DATASETS, NUMERALS, arm_title

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


def write_inputs(plan: Plan) -> None:
    rng = random.Random(0)
    for cell in plan.cells():
        write_json(f"{plan.cell_folder(cell)}/metrics.json", run(cell, rng))
    for folder in sorted({plan.phase(arm, phase) for arm in plan.arms() for phase in plan.phases(arm)}):
        lines = [f"{epoch},{9 / epoch:.3f},{10 / epoch:.3f}" for epoch in range(1, 11)]
        write_text(f"{folder}/history.csv", "\n".join(["epoch,train_loss,valid_loss", *lines, ""]))
        write_json(f"{folder}/compute.json", COST)
    for kind in plan.settings.alignment.kinds:
        for arm in plan.readers():
            seeds = {str(seed): {name: rng.random() for name in SCORES[kind]} for seed in range(5)}
            chance = {"random order": {name: 0.1 for name in SCORES[kind]}}
            document = {"kind": kind, "arm": arm, "seeds": seeds, "chance": chance, "n": {"pairs": 192}}
            write_json(plan.paths.alignment(kind, arm), document | {"reason": ""})
    for kind, _, file in plan.shown_figures():
        write_picture(Path(f"{file}.png"), hard=kind == "attention")
        if kind == "tsne":
            write_json(f"{file}.json", {"silhouette": 0.25, "knn_accuracy": None})
    write_json(plan.paths.audit, AUDIT)
    write_json(plan.paths.gate(plan.scheme), {"accepted": ACCEPTED})
    for name in plan.tables():
        if name in (*plan.cell_tables(), *plan.settings.alignment.kinds, "compute"):
            write(name, plan.paths, plan.slice("table", name=name))
        else:
            lines = further_table(name, plan, rng)
            text = "".join(",".join(line) + "\n" for line in lines)
            write_text(plan.paths.table(name, "csv"), text)
            write_text(plan.paths.table(name, "md"), f"A sentence about {name}.\n\n| a |\n|---|\n")
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
