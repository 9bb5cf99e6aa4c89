"""The runs of a profile in this folder: what each ended with, for `compare`, and how long it took, for the next estimate."""

import json
import shutil
import statistics
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from cmcgns.files import read_json, write_json, write_text
from cmcgns.pipeline.history import ledger_path
from cmcgns.pipeline.paths import Paths
from cmcgns.pipeline.state import STATE

MOST = 10  # runs of a profile that are kept, the last ones
LEDGER, NUMBERS, ABOUT = "ledger.jsonl", "metrics.json", "run.json"


def kept(profile: str) -> list[Path]:
    """The folders of the runs that are kept, the last one first."""
    return sorted((STATE / "runs" / profile).glob("*"), reverse=True)


def keep(profile: str, about: dict[str, Any]) -> None:
    """Keep how a run went and, if it has made other results than the one before, these.

    Args:
        about: `settings` of the profile; of a run on this machine `seconds`, `start` (s until the first job began) and `each`
            (s that a job took beyond its own time).
    """
    before = kept(profile)
    folder = STATE / "runs" / profile / datetime.now().strftime("%Y%m%d-%H%M%S.%f")
    write_json(folder / ABOUT, about | {"at": time.time()})
    for name, path in ((LEDGER, ledger_path(profile)), (NUMBERS, Path(Paths(profile).summary))):
        if path.exists():
            write_text(folder / name, path.read_text(encoding="utf-8"))
    for old in before[MOST - 1 :]:
        shutil.rmtree(old)


def before(profile: str) -> Path | None:
    """The last run whose results were others than those that are there now."""
    path = ledger_path(profile)
    now = _made(path) if path.exists() else set()
    whole = (folder for folder in kept(profile) if (folder / LEDGER).exists() and (folder / NUMBERS).exists())
    return next((folder for folder in whole if _made(folder / LEDGER) != now), None)


def _made(ledger: Path) -> set[str]:
    """What a ledger says was made: the files and their hashes, whoever made them and when."""
    lines = map(json.loads, ledger.read_text(encoding="utf-8").splitlines())
    return {json.dumps([entry["identity"], entry["outputs"]]) for entry in lines}


def about_last(profile: str) -> dict[str, Any]:
    """What was noted of the last run."""
    return next((read_json(f / ABOUT) for f in kept(profile) if (f / ABOUT).exists()), {})


def overhead() -> tuple[float, float]:
    """Seconds until the first job of a run begins, and that a job takes beyond its own time; medians of the runs of this folder."""
    noted = [read_json(path) for path in (STATE / "runs").glob(f"*/*/{ABOUT}")]
    starts, each = ([n[key] for n in noted if n.get(key) is not None] for key in ("start", "each"))
    return statistics.median(starts) if starts else 10.0, statistics.median(each) if each else 0.1
