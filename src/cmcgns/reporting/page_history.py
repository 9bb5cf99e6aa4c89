"""Where the report's numbers come from: what the runs wrote, once each, for the page to show on a click."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmcgns.files import read_json
from cmcgns.reporting.runs import Key
from cmcgns.reporting.tables import arm_title

PRIMARY = "primary"  # the metric of the tables; the others go by their names
COUNTS = ("n_train", "n_valid", "n_test")


def read_cells(
    files: Mapping[tuple[str, Key], Path],
    *,
    arms: Mapping[str, Mapping[str, Any]],
    code: Mapping[str, str],
    views: bool,
) -> dict[str, dict[str, Any]]:
    """The fine-tuning runs by `cell_key`.

    Args:
        files: `metrics.json` of each run by the scheme it is under, empty for the profile's own, and its key.
        arms: as `page.write_page` is given them.
        code: step -> fingerprint.
        views: whether linear probes read stored features, whose settings then count, too.

    Returns:
        For each group its title, `seeds` with scores in per cent, `files` to make again, and names of settings and phases.
    """
    found: dict[str, dict[str, Any]] = {}
    for (scheme, (arm, pair, fraction, seed)), file in files.items():
        task = pair.partition("-")[0]
        stored = ["features"] if views and task == "classification" else []
        cell = found.setdefault(
            cell_key(arm, pair, fraction, scheme),
            {
                "title": f"{arm_title(arm)}, {pair}, {fraction} %" + (f", scheme {scheme}" if scheme else ""),
                "seeds": [],
                "files": [],
                "settings": [f"{pair}-{fraction}", *stored],
                "code": code.get(task, ""),
                **_origin(arms[arm]),
            },
        )
        cell["seeds"].append(_run(seed, file, arms[arm]["trunks"][str(seed)]))
        cell["files"].append(str(file))
    return found


def read_alignment(
    files: Mapping[tuple[str, str], Path], *, arms: Mapping[str, Mapping[str, Any]], code: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The scores of (kind, arm), in per cent, by `alignment_key`; a seed is a draw of the evaluated sample."""
    found = {}
    for (kind, arm), file in files.items():
        document = read_json(file)
        found[alignment_key(kind, arm)] = {
            "title": f"{arm_title(arm)}, {kind.replace('_', ' ')}",
            "seeds": [
                {"seed": int(seed), "file": str(file), "values": _percent(scores)}
                for seed, scores in sorted(document["seeds"].items(), key=lambda item: int(item[0]))
            ],
            "files": [str(file)],
            "n": document["n"],
            "settings": [kind],
            "code": code.get(f"align/{arm.split('-')[0]}", ""),
            **_origin(arms[arm]),
        }
    return found


def read_phases(
    files: Mapping[str, Sequence[Path]], *, arms: Mapping[str, Mapping[str, Any]], code: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Every run of pre-training once, by its name: file of losses, code and what it cost.

    Args:
        files: run -> `history.csv`, `compute.json`.
    """
    found: dict[str, dict[str, Any]] = {}
    for arm, facts in arms.items():
        for phase, run in facts["phases"]:
            found.setdefault(
                run,
                {
                    "title": f"{arm_title(arm)}, {phase}",
                    "file": str(files[run][0]),
                    "code": code.get(f"pretrain/{arm.split('-')[0]}", ""),
                    "cost": read_json(files[run][1]),
                },
            )
    return found


def cell_key(arm: str, pair: str, fraction: int, scheme: str = "") -> str:
    """Names the runs of a cell; as their folders do."""
    return "/".join(filter(None, ["leakage" if scheme else "finetune", scheme, arm, pair, str(fraction)]))


def alignment_key(kind: str, arm: str) -> str:
    return f"alignment/{kind}/{arm}"


def _run(seed: int, file: Path, trunk: str) -> dict[str, Any]:
    document = read_json(file)
    run = {
        "seed": seed,
        "file": str(file),
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


def _origin(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"phases": [run for _, run in facts["phases"]], "weights": facts["weights"]}
