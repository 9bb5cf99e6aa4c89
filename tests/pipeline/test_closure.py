"""After a change exactly those jobs run that a slow walk over the declared files names: 12 settings, 4 edits of code, 4 files.

The walk shares nothing with what decides in earnest. It reads the documents that Snakemake prints before and after the change,
and asks of every job, one after the other: is its document another one (its list of files, its settings, its code), is a file
of its not what it was, or has a file that it reads got other bytes? Outputs' bytes are those on disk.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from cmcgns.step import load

PROFILE = "tiny"
RUN = f"results/{PROFILE}/finetune/cm_cgns/classification-chexpert/10/seed-0/metrics.json"


class Change(NamedTuple):
    """`new` to write in place of `old` in `file`, or what to do to an output; `told`: how the dry run names it."""

    name: str
    file: str
    old: str = ""
    new: str = ""
    spoil: Callable[[Path], Any] | None = None
    told: str = ""


def setting(told: str, old: str, new: str) -> Change:
    return Change(f"{old.strip()} -> {new.strip()}", "params.yaml", old, new, told=f"setting {told}")


def code(file: str) -> Change:
    return Change(
        f"code of {file}",
        f"src/cmcgns/{file}",
        spoil=lambda path: path.write_text(f"{path.read_text()}\nNEW = 1\n\n\ndef new():\n    return 1\n"),
        told=f"code: cmcgns.{file.removesuffix('.py').replace('/', '.')}.new",
    )


# Several at once, where none hides what another does.
CHANGES = [
    [
        setting("downstream.segmentation.lr: 0.1 -> 0.2", "segmentation: {lr: 0.1}", "segmentation: {lr: 0.2}"),
        setting("alignment.gallery: 5 -> 6", "gallery: 5}", "gallery: 6}"),
    ],
    [
        setting("downstream.seeds: [0, 1] -> [0, 1, 2]", "seeds: [0, 1]  # of tiny", "seeds: [0, 1, 2]  # of tiny"),
        setting("figures.kinds: ['tsne'] -> []", "kinds: [tsne]}", "kinds: []}"),
    ],
    [
        setting("downstream.fractions: [10] -> [1, 10]", "fractions: [10]\n      seeds: [0, 1, 2]  # of tiny", "fractions: [1, 10]\n      seeds: [0, 1, 2]  # of tiny"),
        setting("encoders.text.hidden: 64 -> 32", "hidden: 64, layers: 1, heads: 2", "hidden: 32, layers: 1, heads: 2"),
    ],
    [
        setting("reports.min_report_tokens: 3 -> 4", "  min_report_tokens: 3 ", "  min_report_tokens: 4 "),
        setting("splits.chexpert_valid_images: ", "  chexpert_valid_images: ", "  chexpert_valid_images: 1"),
    ],
    [
        setting("downstream.pairs: [", "      methods: [random, cm_cgns]\n      pairs: [classification-chexpert, segmentation-siim]",
            "      methods: [random, cm_cgns]\n      pairs: [classification-chexpert, segmentation-siim, detection-rsna]"),
        setting("pretraining.checkpoint_minutes: ", "  checkpoint_minutes: ", "  checkpoint_minutes: 1"),
    ],
    [
        setting("synthetic.conspicuity: 1.0 -> 2.0", "      conspicuity: 1\n      sizes:\n        {mimic_studies: 20", "      conspicuity: 2\n      sizes:\n        {mimic_studies: 20"),
    ],
    [
        setting("images.size: 64 -> 32", "    images: {size: 64}\n    encoders:\n      image: {arch: resnet10, weights: random}\n      text: {name: random, hidden: 32",
            "    images: {size: 32}\n    encoders:\n      image: {arch: resnet10, weights: random}\n      text: {name: random, hidden: 32"),
    ],
    [
        code("evaluation/probe.py"),
        code("reporting/ranks.py"),
    ],
    [
        code("objectives/cm_cgns.py"),
        code("splits/subsets.py"),
    ],
    [
        Change("a run's metrics by hand", RUN, spoil=lambda path: path.write_text("{}"), told=f"{RUN} is not what a job has written"),
        Change("weights cut in half", f"results/{PROFILE}/pretrain/cm_cgns/stage1/last.safetensors", spoil=lambda p: p.write_bytes(p.read_bytes()[:9]), told="last.safetensors is not what a job has written"),
    ],
    [
        Change("a table that is gone", f"results/{PROFILE}/tables/table1.csv", spoil=Path.unlink, told="tables/table1.csv is not there"),
        Change("features that are gone", f"results/{PROFILE}/features/cm_cgns/chexpert.npy", spoil=Path.unlink),
    ],
]  # fmt: skip


def documents(project) -> dict[str, dict[str, Any]]:
    """Every job that Snakemake knows, by its first output, from the shell commands that it prints."""
    listed = project.call(
        *("snakemake", "--config", f"profile={PROFILE}", "--dry-run", "--forceall", "--printshellcmds", "--quiet", "host"),
        CMCGNS_RUN="look",
    )  # fmt: skip
    jobs = {}
    for line in re.findall(r"(cmcgns step .*) > logs/", listed.stdout + listed.stderr):
        job = load(shlex.split(line)[2])
        jobs[files(job["outputs"])[0]] = job
    return jobs


def files(named: dict[str, Any]) -> list[str]:
    return [
        file
        for name in sorted(named)
        for file in ([named[name]] if isinstance(named[name], str) else named[name])
    ]


def contents(project, jobs: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    found = {file: project.root / file for job in jobs.values() for file in files(job["outputs"])}
    return {file: path.read_bytes() for file, path in found.items() if path.is_file()}


def walk(before, after, old: dict[str, bytes], now: dict[str, bytes], spoilt: set[str]) -> set[str]:
    """The jobs that must have run, from documents and bytes before and after.

    Args:
        spoilt: the outputs that were changed or removed by hand, and that somebody asks for or reads.
    """
    wanted = set()
    for target, job in after.items():
        known = before.get(target)
        same = known and all(known[key] == job[key] for key in ("step", "code", "settings", "inputs"))
        moved = any(old.get(file) != now.get(file) for file in files(job["inputs"]))
        if not same or moved or spoilt & set(files(job["outputs"])):
            wanted.add(target)
    return wanted


def counts(said: str) -> tuple[int, int]:
    """How many jobs a dry run says run for certain, and only if what they read changes."""
    header = next((line for line in said.splitlines() if line.startswith("job ")), "")
    line = next((line for line in said.splitlines() if line.startswith("in all")), "")
    first, second = (
        (header.index(name) + len(name) for name in ("  runs", "runs if what it reads changes"))
        if header
        else (0, 0)
    )
    return int(line[6:first].strip() or 0), int(line[first:second].strip() or 0)


@pytest.fixture(scope="module")
def project(stand_in: ModuleType, tmp_path_factory):
    made = stand_in.Project(tmp_path_factory.mktemp("closure"), PROFILE, stand_in.TINY)
    made.reproduce()
    return made


def test_exactly_the_jobs_run_that_a_slow_walk_names(project):
    before, first = documents(project), len(project.ran())
    assert set(before) == set(project.ran())
    for changes in CHANGES:
        old, spoilt = contents(project, before), set()
        for change in changes:
            if change.spoil:
                change.spoil(project.root / change.file)
                spoilt |= {change.file} if change.file.startswith("results/") else set()
            else:
                project.edit(change.file, change.old, change.new)
        after = documents(project)
        # of what only has to be there again the bytes do not count: it comes out as it was
        kept = {file for file in spoilt if file.endswith(".npy")}
        said = project.call("cmcgns", "reproduce", "--profile", PROFILE, "--dry-run").stdout
        ran = project.reproduce()
        wanted = walk(before, after, old, contents(project, after), spoilt - kept)
        names = [change.name for change in changes]
        assert set(ran) == wanted, (names, set(ran) ^ wanted)
        assert len(ran) == len(wanted)
        assert bool(wanted) == ("Nothing to be done" not in said), names
        assert all(change.told in said for change in changes) and len(said.splitlines()) <= 40, (names, said)
        certain, possible = counts(said)
        assert certain <= len(wanted) <= certain + possible, (names, said)
        before = after
    assert len(project.ran()) > first + 60
    assert json.loads((project.root / RUN).read_text()) != {} and os.path.exists(
        project.root / f"results/{PROFILE}/tables/table1.csv"
    )
