"""Where the report's numbers come from: what the runs wrote, once each, for the page to show on a click."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cmcgns.files import read_json
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.tables import arm_title

PRIMARY = "primary"  # the metric of the tables; the others go by their names
COUNTS = ("n_train", "n_valid", "n_test")


def read_cells(
    paths: Paths,
    groups: Iterable[tuple[str, str, int]],
    seeds: list[int],
    *,
    arms: Mapping[str, Mapping[str, Any]],
    code: Mapping[str, str],
    views: bool,
    scheme: str = "",
) -> dict[str, dict[str, Any]]:
    """The fine-tuning runs of the groups by `cell_key`; a group of which no seed has run is left out.

    Args:
        groups: (arm, pair, fraction).
        arms: arm -> `phases`, pairs of name and folder, and `weights`, what its trunk is taken from.
        code: step -> fingerprint.
        views: whether linear probes read stored features, whose settings then count, too.
        scheme: of runs under another than the profile's split scheme.

    Returns:
        For each group its title, `seeds` with scores in per cent, `files` to make again, and names of settings and phases.
    """
    found = {}
    for arm, pair, fraction in groups:
        runs = []
        for seed in seeds:
            file = f"{paths.cell(arm, pair, fraction, seed, scheme)}/metrics.json"
            if Path(file).is_file():
                runs.append(_run(seed, file, paths.trunk(_trunk(arm, seed))))
        if not runs:
            continue
        task = pair.partition("-")[0]
        stored = ["features"] if views and task == "classification" else []
        found[cell_key(arm, pair, fraction, scheme)] = {
            "title": f"{arm_title(arm)}, {pair}, {fraction} %" + (f", scheme {scheme}" if scheme else ""),
            "seeds": runs,
            "files": [run["file"] for run in runs],
            "settings": [f"{pair}-{fraction}", *stored],
            "code": code.get(task, ""),
            **_origin(arm, arms),
        }
    return found


def read_alignment(
    paths: Paths, kind: str, *, arms: Mapping[str, Mapping[str, Any]], code: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The scores of one kind of alignment, in per cent, by `alignment_key`; a seed is a draw of the evaluated sample."""
    found = {}
    for arm in arms:
        file = paths.alignment(kind, arm)
        if not Path(file).is_file():
            continue
        document = read_json(file)
        found[alignment_key(kind, arm)] = {
            "title": f"{arm_title(arm)}, {kind.replace('_', ' ')}",
            "seeds": [
                {"seed": int(seed), "file": file, "values": _percent(scores)}
                for seed, scores in sorted(document["seeds"].items(), key=lambda item: int(item[0]))
            ],
            "files": [file],
            "n": document["n"],
            "settings": [kind],
            "code": code.get(f"align/{arm.split('-')[0]}", ""),
            **_origin(arm, arms),
        }
    return found


def read_phases(arms: Mapping[str, Mapping[str, Any]], code: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Every pre-training phase once, by `phase_key`: its folder, code and what it cost."""
    found: dict[str, dict[str, Any]] = {}
    for arm, facts in arms.items():
        for phase, folder in facts["phases"]:
            found.setdefault(
                phase_key(folder),
                {
                    "title": f"{arm_title(arm)}, {phase}",
                    "folder": folder,
                    "code": code.get(f"pretrain/{arm.split('-')[0]}", ""),
                    "cost": read_json(Path(folder) / "compute.json"),
                },
            )
    return found


def cell_key(arm: str, pair: str, fraction: int, scheme: str = "") -> str:
    """Names the runs of a cell; as their folders do."""
    return "/".join(filter(None, ["leakage" if scheme else "finetune", scheme, arm, pair, str(fraction)]))


def alignment_key(kind: str, arm: str) -> str:
    return f"alignment/{kind}/{arm}"


def phase_key(folder: str) -> str:
    """`<arm>/<phase>`, of the arm that owns the phase: settings are listed under the same name."""
    return "/".join(folder.split("/")[-2:])


def _run(seed: int, file: str, trunk: str) -> dict[str, Any]:
    document = read_json(file)
    run = {
        "seed": seed,
        "file": file,
        "trunk": trunk,
        "values": _percent({PRIMARY: document["primary"], **document.get("further", {})}),
        "n": [document.get(name) for name in COUNTS],
        "hashes": {name: value for name, value in document.items() if name.endswith("_sha256")},
    }
    if interval := document.get("interval"):
        run["interval"] = [
            round(100 * interval[end], 2) for end in ("low", "high") if interval[end] is not None
        ]
    return run


def _percent(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(100 * value, 4) for name, value in scores.items()}


def _origin(arm: str, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    facts = arms.get(arm, {})
    return {
        "phases": [phase_key(folder) for _, folder in facts.get("phases", ())],
        "weights": facts.get("weights", ""),
    }


def _trunk(arm: str, seed: int) -> str:
    """As `pipeline.plan.Plan.trunk`, which would bring the whole plan into this step's code."""
    return f"random-seed{seed}" if arm == "random" else arm
