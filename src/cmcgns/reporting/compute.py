"""What each method cost: the ledgers of its pre-training phases as one table."""

from pathlib import Path

from cmcgns.files import csv_text, markdown_text, read_json, write_text
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


def write_compute(
    *, runs: list[str], phases: list[list[str]], compute: list[Path], csv: Path, md: Path
) -> None:
    """Write the table twice, a row an arm.

    Args:
        runs: such as "cm_cgns/stage1".
        phases: (arm, phase, one of `runs`); a run that several arms share counts for each of them.
        compute: for each of `runs` its `compute.json`.
    """
    known = dict(zip(runs, map(read_json, compute), strict=True))
    arms: dict[str, list[dict]] = {}
    for arm, _, run in phases:
        arms.setdefault(arm, []).append(known[run])
    rows = [HEADER, *(_row(arm, ledgers) for arm, ledgers in arms.items())]
    write_text(csv, csv_text(rows))
    write_text(md, markdown_text(rows))


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
