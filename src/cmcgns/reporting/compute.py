"""What each method cost: the ledgers of its pre-training phases as one table."""

from __future__ import annotations

from pathlib import Path

from cmcgns.files import csv_text, read_json, write_text
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.tables import arm_title

HEADER = [
    "arm",
    "phases",
    "image passes (with gradient)",
    "image passes (without)",
    "updates",
    "device hours",
    "peak MiB",
    "device",
]


def write_compute(paths: Paths, *, phases: list[list[str]]) -> None:
    """Write `tables/compute.csv` and `.md`, a row an arm.

    Args:
        phases: (arm, phase, folder of its weights); a phase that several arms share counts for each of them.
    """
    arms: dict[str, list[dict]] = {}
    for arm, _, folder in phases:
        arms.setdefault(arm, []).append(read_json(Path(folder) / "compute.json"))
    rows = [HEADER, *(_row(arm, ledgers) for arm, ledgers in arms.items())]
    write_text(paths.table("compute", "csv"), csv_text(rows))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    write_text(
        paths.table("compute", "md"), "\n".join([lines[0], "|---" * len(HEADER) + "|", *lines[1:]]) + "\n"
    )


def _row(arm: str, ledgers: list[dict]) -> list[str]:
    hours = sum(entry["seconds"] * entry["devices"] for entry in ledgers) / 3600
    return [
        arm_title(arm),
        str(len(ledgers)),
        str(sum(entry["image_passes_with_gradient"] for entry in ledgers)),
        str(sum(entry["image_passes_without_gradient"] for entry in ledgers)),
        str(sum(entry["updates"] for entry in ledgers)),
        f"{hours:.3f}",
        f"{max(entry['peak_memory_mib'] for entry in ledgers):.0f}",
        " + ".join(dict.fromkeys(entry["device"].replace(",", "") for entry in ledgers)),
    ]
