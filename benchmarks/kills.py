"""A study of profile `ci` that is killed at random moments, beside one that is left alone: same bytes, nothing done twice, nobody left.

    python benchmarks/kills.py FOLDER [--kills 12] [--seed 0]

FOLDER gets two clones of this repository (its last commit), which share this environment. Half of the kills hit every process of
a run at once, half its first process only. Then the run is stopped by SIGTERM and by Ctrl-C, called while another one goes on,
and left to end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parents[1]
# Files that hold how long something took.
SECONDS = ("compute.json", "ledger.jsonl", "compute.csv", "compute.md", "report/index.html")


class Study:
    """A clone, and the runs in it."""

    def __init__(self, folder: Path):
        self.folder, self.tmp = folder / "study", folder / "tmp"
        subprocess.run(["git", "clone", "--quiet", HERE, self.folder], check=True)
        self.tmp.mkdir()

    def start(self, *command: str) -> subprocess.Popen:
        words = [sys.executable, "-m", *(command or ("cmcgns", "reproduce", "--profile", "ci"))]
        environment = os.environ | {"PYTHONPATH": str(self.folder / "src"), "TMPDIR": str(self.tmp)}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with (self.folder.parent / "log").open("a") as log:
            return subprocess.Popen(
                words, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def processes(self) -> list[psutil.Process]:
        """Whoever works in the clone."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    Path(process.cwd()).is_relative_to(self.folder)
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def jobs(self) -> dict[str, float]:
        """Of each finished job, when it began."""
        entries = [
            json.loads(p.read_text())
            for p in (self.folder / ".cmcgns/jobs").rglob("*")
            if p.is_file() and p.suffix != ".tmp"
        ]
        return {json.dumps(entry["outputs"]): entry["started"] for entry in entries}

    def hashes(self) -> dict[str, str]:
        files = [
            p for top in ("data", "results") for p in (self.folder / top / "ci").rglob("*") if p.is_file()
        ]
        return {
            str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files
            if not str(p).endswith(SECONDS)
        }


def all_gone(study: Study, seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while study.processes() and time.monotonic() < until:
        time.sleep(0.1)
    return not study.processes()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, began, wrong = random.Random(asked.seed), time.time(), []
    for name in ("alone", "killed"):
        (asked.folder / name).mkdir(parents=True)
    alone, killed = Study(asked.folder / "alone"), Study(asked.folder / "killed")
    assert alone.start().wait() == 0, f"see {asked.folder}/alone/log"
    whole = time.time() - began
    print(f"left alone: {whole:.0f} s, {len(alone.jobs())} jobs", flush=True)
    seen: dict[str, float] = {}

    def check(what: str) -> None:
        jobs = killed.jobs()
        again = [target for target, started in seen.items() if jobs.get(target) != started]
        left = [] if all_gone(killed) else [" ".join(p.cmdline())[:80] for p in killed.processes()]
        folders = len(list(killed.tmp.iterdir()))
        seen.update(jobs)
        print(
            f"{what}: {len(jobs)} jobs done, {len(again)} of them twice, {len(left)} processes left, {folders} in TMPDIR",
            flush=True,
        )
        if again or left or folders > 1:  # what the last one has left is removed by the next start
            wrong.append((what, again, left))

    for number in range(asked.kills):
        run, wait = killed.start(), draw.uniform(1, 2 * whole / asked.kills + 10)
        time.sleep(wait)
        if number % 2:
            run.kill()
        else:
            for process in killed.processes():
                process.kill()
        run.wait()
        check(f"kill {number + 1} ({'first process' if number % 2 else 'all'}) after {wait:.1f} s")
    for number in (signal.SIGTERM, signal.SIGINT):
        run = killed.start()
        time.sleep(draw.uniform(6, 12))
        (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)  # a terminal sends Ctrl-C to all
        code = run.wait()
        check(f"{number.name}: status {code}")
    run = killed.start()
    time.sleep(6)
    codes = [
        killed.start(*other).wait() for other in ((), ("snakemake", "--cores", "2", "--config", "profile=ci"))
    ]
    code = run.wait()
    check(f"beside a run: reproduce {codes[0]}, snakemake {codes[1]}; the run itself {code}")
    if code or not all(codes):
        wrong.append(("two runs", codes, code))
    if list(killed.tmp.iterdir()):
        wrong.append(("TMPDIR", list(killed.tmp.iterdir())))
    one, other = alone.hashes(), killed.hashes()
    different = sorted(file for file in one.keys() | other.keys() if one.get(file) != other.get(file))
    print(f"{len(one)} files: {len(different)} different", *different[:10], sep="\n  ")
    print(*wrong, sep="\n")
    return bool(wrong or different)


if __name__ == "__main__":
    sys.exit(main())
