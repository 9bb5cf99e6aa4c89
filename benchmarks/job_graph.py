"""What the engine costs on the graph of the whole paper, with stand-in steps, beside a bare Snakemake of the same size.

    python benchmarks/job_graph.py [--folder DIR] [--kills N]

The graph is the real one (Snakefile, rules, histories, the process that forks jobs), its steps write a hash and end
(tests/stand_in.py). Bare Snakemake runs a hand-written file with about as many jobs, `touch` each, whose runs read four files. Times are wall time in one run,
the two in turns; memory is the largest resident set of the scheduler.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from stand_in import Project

PROFILE, TWIN = "paper_size", "paper_twin"
# All methods of the paper and the ablation on 7 tasks, 3 fractions and 5 seeds.
OVERLAY = """
  paper_size:
    encoders: {image: {weights: random}}
    pretraining: {preset: matched, devices: 1}
    leakage: *none
    downstream: {seeds: [0, 1, 2, 3, 4], segmentation: {lr: 0.1}}
    synthetic:
      seed: 0
      image_long_side: 64
      conspicuity: 1
      sizes:
        {mimic_studies: 20, chexpert_train: 60, chexpert_valid: 30, rsna: 40, covidx_train: 40, covidx_test: 30,
         siim: 40, object_train: 20, object_dev: 10}
"""
# A graph of that size as one would write it by hand: what a run reads and writes in earnest, and all of them named in `all`.
BARE = """
ARMS, PAIRS, FRACTIONS, SEEDS = range(13), range(7), (1, 10, 100), range(5)
RUN = "run/{arm}/{pair}/{fraction}/{seed}"

rule all:
    input:
        expand("table/{pair}.csv", pair=PAIRS),
        expand(f"{RUN}/metrics.json", arm=ARMS, pair=PAIRS, fraction=FRACTIONS, seed=SEEDS),

rule images:
    output: "images/{pair}.npy"
    shell: "touch {output}"

rule split:
    output: "split/{pair}.csv"
    shell: "touch {output}"

rule subset:
    input: rules.split.output
    output: "subset/{pair}/{fraction}/{seed}.csv"
    shell: "touch {output}"

rule pretrain:
    output: "pretrain/{arm}/weights.pt"
    log: "logs/pretrain/{arm}.log"
    params: lr=0.1, arm="{arm}"
    shell: "touch {output}"

rule finetune:
    input: rules.pretrain.output, rules.images.output, rules.split.output, rules.subset.output
    output: f"{RUN}/predictions.csv", f"{RUN}/metrics.json"
    log: f"logs/{RUN}.log"
    params: settings=lambda wc: {"lr": 0.1, "pair": wc.pair}, fraction="{fraction}", seed="{seed}"
    shell: "touch {output}"

rule table:
    input: expand(f"{RUN}/metrics.json", arm=ARMS, fraction=FRACTIONS, seed=SEEDS, allow_missing=True)
    output: "table/{pair}.csv"
    shell: "touch {output}"
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    parser.add_argument("--kills", type=int, default=10, help="how often the scheduler is killed")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="job-graph-"))
    project = Project(folder / "ours", PROFILE, OVERLAY + OVERLAY.replace(PROFILE, TWIN), light=False)
    project.edit("dvc.yaml", "foreach: [demo, ci, science, grounding, science_gpu]", f"foreach: [{PROFILE}]")
    project.call("dvc", "remote", "add", "--default", "store", str(folder / "store"))
    reproduce = ("cmcgns", "reproduce", "--profile", PROFILE, "--cores", "2")
    snakemake = ("snakemake", "--config", f"profile={PROFILE}", "--cores", "2")

    seconds, memory = measure(project.root, project.variables, *reproduce)
    jobs = len(project.ran())
    say(
        f"full run: {jobs} jobs in {seconds:.0f} s, {1000 * seconds / jobs:.0f} ms a job; scheduler {memory:.0f} MiB"
    )

    bare = folder / "bare"
    bare.mkdir(parents=True)
    (bare / "Snakefile").write_text(BARE)
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    alone = (sys.executable, "-m", "snakemake", "--cores", "2", "--scheduler", "greedy")
    asked = (*alone, "--dry-run", "--quiet", "rules")
    listed = subprocess.run(asked, cwd=bare, env=clean, capture_output=True, text=True, check=True).stdout
    number = int(re.findall(r"^total +(\d+)$", listed, re.MULTILINE)[0])
    seconds, memory = measure(bare, clean, *alone)
    say(
        f"bare Snakemake: {number} jobs in {seconds:.0f} s, {1000 * seconds / number:.0f} ms a job; scheduler {memory:.0f} MiB"
    )

    times: dict[str, list[float]] = {}
    project.call("dvc", "repro", f"reproduce@{PROFILE}")
    for _ in range(3):
        for name, where, variables, command in (
            ("bare: dry run", bare, clean, (*alone, "--dry-run", "--quiet")),
            ("ours: dry run", project.root, project.variables, (*snakemake, "--dry-run", "--quiet")),
            ("bare: no-op", bare, clean, (*alone, "--quiet")),
            ("ours: no-op of snakemake", project.root, project.variables, (*snakemake, "--quiet")),
            ("ours: no-op of cmcgns reproduce", project.root, project.variables, reproduce),
            (
                "ours: no-op of dvc repro",
                project.root,
                project.variables,
                ("dvc", "repro", f"reproduce@{PROFILE}"),
            ),
        ):
            times.setdefault(name, []).append(measure(where, variables, *command)[0])
    middle = {name: sorted(found)[1] for name, found in times.items()}
    for name, value in middle.items():
        other = middle["bare: dry run" if "dry run" in name else "bare: no-op"]
        say(f"{name}: {value:.1f} s ({value / other:.2f} of bare), of {[round(t, 1) for t in times[name]]}")

    # all but the report, which names its profile
    files = [
        f"results/{TWIN}/{name}" for name in ("tables/metrics.json", "tables/claims.csv", "audit/runs.json")
    ]
    ran, twin = len(project.ran()), ("cmcgns", "reproduce", *files, "--profile", TWIN, "--cores", "2")
    seconds, _ = measure(project.root, project.variables, *twin)
    again, _ = measure(project.root, project.variables, *twin)
    taken = len((project.root / f"results/{TWIN}/ledger.jsonl").read_text().splitlines())
    say(
        f"a second profile of equal settings: {taken} jobs taken over in {seconds:.1f} s, {len(project.ran()) - ran} ran; "
        f"{1000 * (seconds - again) / taken:.1f} ms a job beyond a no-op of {again:.1f} s"
    )
    assert len(project.ran()) == jobs, "a no-op ran something"

    project.commit("a run")
    project.call("dvc", "push")
    copy = project.clone(folder / "clone")
    copy.call("dvc", "pull", f"reproduce@{PROFILE}")
    say(f"fresh clone, pull, run: {len(copy.reproduce())} jobs")
    copy.edit("params.yaml", "segmentation: {lr: 0.1}", "segmentation: {lr: 0.2}")
    kinds: dict[str, int] = {}
    for target in copy.reproduce():
        kind = "/".join(target.split("/")[2:4]) if "/finetune/" not in target else target.split("/")[4]
        kinds[kind] = kinds.get(kind, 0) + 1
    say(f"learning rate of segmentation changed there: {kinds}")

    if arguments.kills:
        say(kills(project, arguments.kills))
    if not arguments.folder:
        shutil.rmtree(folder)


def kills(project: Project, number: int) -> str:
    """Kill a run from the beginning at random moments, finish it, and compare with the undisturbed one."""
    wanted, total = project.outputs(), len(project.ran())
    for place in ("data", "results", ".snakemake", ".cmcgns", "jobs.log"):
        path = project.root / place / PROFILE if place in ("data", "results") else project.root / place
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    rng = random.Random(0)
    for steps in sorted(rng.randrange(total) for _ in range(number)):
        project.kill_when(steps, rng)
    project.reproduce()
    same = "the same" if project.outputs() == wanted else "OTHER"
    return f"{number} kills of the scheduler in a run of {total} jobs: {same} results, {project.repeated()} jobs made again"


def measure(folder: Path, variables: Mapping[str, str], *command: str) -> tuple[float, float]:
    """Wall seconds of a command, and MiB of the largest process among it and its children."""
    start = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as run:
        errors = run.stderr.read()
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    assert run.returncode == 0, errors.decode()[-3000:]
    return time.monotonic() - start, usage.ru_maxrss / 1024


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
