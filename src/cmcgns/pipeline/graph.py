"""The jobs of a study as Snakemake sees them: asked of Snakemake itself, whose rules are the only list of files."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from cmcgns.errors import InputError
from cmcgns.files import canonical, read_json, sha256_file, write_json
from cmcgns.pipeline.fingerprint import whole_package
from cmcgns.pipeline.history import files_of, target_of
from cmcgns.pipeline.state import place, prepare
from cmcgns.step import load

TOKEN = "CMCGNS_RUN"  # noqa: S105 - the variable that tells a Snakemake process what it was started for
LOOK, LIST = "look", "list"  # its values where nothing is to run, and where the jobs are to be listed
MARK = "cmcgns jobs: "


class Job:
    """One job of the graph: its rule, its log, its document (`cmcgns.step.load`), and how many CPU cores it asks for."""

    def __init__(self, rule: str, log: str, document: str, threads: int):
        self.rule, self.log, self.document, self.threads = rule, log, document, threads

    @cached_property
    def content(self) -> dict[str, Any]:
        return load(self.document)

    @cached_property
    def target(self) -> str:
        return target_of(self.content)

    @cached_property
    def outputs(self) -> list[str]:
        return files_of(self.content["outputs"])

    @cached_property
    def inputs(self) -> list[str]:
        """What it reads, and what must be there."""
        return [*files_of(self.content["inputs"]), *files_of(self.content["requires"])]

    @property
    def step(self) -> str:
        return self.content["step"]


class Graph(NamedTuple):
    """The jobs that some files come from, whatever is done of them, and these files."""

    jobs: list[Job]
    wanted: list[str]


def graph_of(profile: str, targets: Sequence[str] = (), *, remember: bool = True) -> Graph:
    """The graph of the targets, by default of all of a profile.

    The answer is remembered for as long as nothing changes that the graph is made from.

    Args:
        targets: files or rules.
        remember: write down what was not known yet.

    Raises:
        InputError: with Snakemake's words.
    """
    known = place("graph", f"{profile} {' '.join(targets)}")
    key = _key(profile, targets)
    try:
        found = read_json(known)
    except InputError:
        found = {}
    if not isinstance(found, dict) or found.get("key") != key:
        found = _ask(["--config", f"profile={profile}", *(["--", *targets] if targets else [])]) | {
            "key": key
        }
        if remember:
            prepare()
            write_json(known, found)
    jobs = [Job(*job) for job in found["jobs"]]
    made = [file for job in jobs if job.rule in targets for file in job.outputs]
    return Graph(jobs, [*found["wanted"], *made, *(t for t in targets if "/" in t)])


def _ask(arguments: Sequence[str]) -> dict[str, Any]:
    """`jobs`: (rule, log, document, threads) of all that Snakemake would run if nothing were done; `wanted`: what rule `all` asks for."""
    command = (sys.executable, "-m", "snakemake", "--dry-run", "--forceall", "--quiet", "host", *arguments)
    done = subprocess.run(
        command, env=os.environ | {TOKEN: LIST}, capture_output=True, text=True, check=False
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not found:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        told = next((line for line in said if line.startswith("cmcgns: ")), "")
        raise InputError(
            told.removeprefix("cmcgns: ") or "\n".join(["Snakemake cannot list the jobs:", *said[-20:]])
        )
    return json.loads(found[-1].removeprefix(MARK))


def collect() -> None:
    """In a Snakemake process: print its jobs when it ends, from what it logs of each."""
    import atexit
    import logging
    import shlex

    from snakemake.logging import logger

    jobs: list[list[str]] = []
    wanted: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not hasattr(record, "rule_name"):
                return
            if record.shellcmd is None:
                wanted.extend(map(str, record.input))
            else:
                words = shlex.split(record.shellcmd)
                job = words[words.index("step") + 1]
                jobs.append([record.rule_name, str(record.log[0]), job, record.threads])

    logger.addHandler(Collector())
    atexit.register(lambda: print(f"\n{MARK}{json.dumps({'jobs': jobs, 'wanted': wanted})}", flush=True))


def _key(profile: str, targets: Sequence[str]) -> str:
    """Changes with whatever the graph is made from: settings, rules, the package, Snakemake."""
    rules = sorted(
        path
        for top in ("Snakefile", "workflow")
        for path in (Path(top), *Path(top).rglob("*"))
        if path.is_file()
    )
    files = {str(path): sha256_file(path) for path in (Path("params.yaml"), *rules)}
    versions = [importlib.metadata.version("snakemake"), sys.version]
    text = canonical([profile, list(targets), files, versions, whole_package()])
    return hashlib.sha256(text.encode()).hexdigest()


def by_output(jobs: Sequence[Job]) -> dict[str, Job]:
    """Which job makes a file."""
    return {file: job for job in jobs for file in job.outputs}


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """A job after those that make its inputs."""
    made_by, named = by_output(jobs), {job.target: job for job in jobs}
    before = {job.target: {made_by[f].target for f in job.inputs if f in made_by} for job in jobs}
    return [named[target] for target in TopologicalSorter(before).static_order()]


def without_origins(some: Sequence[Job], jobs: Sequence[Job]) -> list[Job]:
    """Those of some jobs of a graph that come after none of the others, however far."""
    made_by, named = by_output(jobs), {job.target for job in some}
    after: set[str] = set()
    for job in in_order(jobs):
        origins = {made_by[file].target for file in job.inputs if file in made_by}
        if origins & (named | after):
            after.add(job.target)
    return [job for job in some if job.target not in after]


def document_of(profile: str, file: str) -> str:
    """The document of the job that makes a file, to read, change and run by hand."""
    job = by_output(graph_of(profile).jobs).get(file)
    if job is None:
        raise InputError(f"no job of profile {profile!r} makes it", file=file)
    return json.dumps(job.content, indent=1)
