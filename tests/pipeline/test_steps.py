"""Every step of profile `ci`, alone in a folder with what its rule hands over: it needs all of it, reads all of it, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from pyarrow import parquet

from cmcgns.files import canonical
from cmcgns.pipeline.engine import look
from cmcgns.pipeline.graph import Job, graph_of
from cmcgns.pipeline.history import files_of

ROOT = Path(__file__).parents[2]
MEASURED = "compute.json"  # seconds and memory, the only output that is another one each time
UNREAD = {
    "world",  # a synthetic world's manifest stands for its raw files
    "tsne_figure features",  # the profile has too few images of each class to draw them
}
# Another value of each setting of each step, which must change an output or be refused, as nonsense is at once by a step that
# looks at it: by every job of the step,
REACHES: dict[str, dict[str, Any]] = {
    "synthesize_world": dict.fromkeys(["seed", "conspicuity", "image_long_side", "sizes"], "nonsense"),
    "write_key": {"random": True},
    "extract_reports": {"min_sentence_tokens": 5, "min_report_tokens": 50, "deid": "nonsense", "misspellings": "nonsense"},
    "build_index": {"name": "siim", "max_bad_fraction": -1},
    "store_source": {"size": 128, "source": "siim", "max_bad_fraction": -1},
    "write_split": {"scheme": "official", "source": "siim", "options": {"nonsense": 1}},
    "write_ranks": {"seed": 7},
    "tokenize_reports": {"max_tokens": 8, "encoder": {}},
    "audit_profile": {"near_duplicates": False, "scheme": "paper", "seeds": [0], "sources": []},
    "pass_gate": {"scheme": "none"},
    "pretrain": {
        "phase": "stage9", "encoders": {}, "objective": {}, "training": {}, "class": "clip.CLIP", "augmentation": "nonsense",
        "images": {}, "pretraining": {},
    },
    "export_trunk": {},
    "write_features": {"seed": 7, "resize": "direct224", "augmentation": "moco2"} | dict.fromkeys(["size", "views", "arch"], "nonsense"),
    "finetune": {"seed": 7, "head": {}, "fraction": 50},
    "align": {"kind": "none", "arm": "x", "seeds": [7], "settings": {}, "objective": "moco.MoCo"},
    "attention_figure": {"objective": "moco.MoCo", "settings": {}, "title": "x"},
    "tsne_figure": {"title": "x"},
    "write_table": {"name": "4", "groups": [], "seeds": [0]},
    "write_alignment_table": {"name": "none", "arms": []},
    "write_compute": {"runs": [], "phases": []},
    "write_leakage": {"cells": [], "schemes": ["paper"], "seeds": [7]},
    "write_comparisons": {"tables": {}, "seeds": [0]},
    "write_ranks_table": {"cells": [], "seeds": [0]},
    "write_claims": {"cells": [], "seeds": [0], "grounding_arms": []},
    "write_summary": {},
    "write_page": {
        "profile": "x", "arms": {}, "code": {}, "differences": [["a", 1, 2]], "figures": [], "others": [], "runs": [],
        "leakage": {"groups": [], "schemes": []}, "scheme": "paper", "seeds": [0], "settings": {}, "tables": {}, "readers": [],
    },
    "audit_runs": {"groups": [], "heads": {}, "phases": [], "seeds": [0]},
    "write_audit_page": {"scheme": "paper", "sources": [], "seeds": []},
}  # fmt: skip
# by some of its jobs, as it concerns one source, task or kind of encoder,
REACHES_SOME: dict[str, dict[str, Any]] = {
    "build_index": {"version": "nonsense", "polygon_box": "nonsense"},
    "audit_profile": {"siim_subset_of": "all"},
    "write_split": {"seed": 7},  # not of those that are published
    "write_ranks": {"siim_subset_of": "all"},
    "pass_gate": {"measured": False},
    "export_trunk": {"seed": 7, "arch": "resnet18", "initial": "nonsense"},
    "finetune": {"arch": "resnet18", "bootstrap": 7, "size": 32, "source": "nonsense", "precision": "nonsense"},
}  # fmt: skip
# by none in this profile.
SILENT = {
    "write_features threads",  # last digits, which so few images need not show
    "finetune threads",
    "finetune resize",  # probes read stored features, other heads whole images
    "write_ranks source",  # stands in the metadata of the table, which do not count
    "pass_gate accept",  # nothing has to be accepted
    "tsne_figure seed",  # there are too few images to draw from
}


class Study(NamedTuple):
    """A finished profile `ci`: where, and its jobs."""

    root: Path
    jobs: list[Job]


@pytest.fixture(scope="module")
def ci(stand_in: ModuleType, tmp_path_factory) -> Study:
    """That of the repository if it is finished and of this code; else it is run in a copy, for some minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        if not look("ci")[0]:
            return Study(ROOT, graph_of("ci").jobs)
        root = tmp_path_factory.mktemp("ci") / "project"
        stand_in.copy_project(root)
        patch.chdir(root)
        environment = os.environ | {"PYTHONPATH": str(root / "src")}
        command = (sys.executable, "-m", "cmcgns", "reproduce", "--profile", "ci")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return Study(root, graph_of("ci").jobs)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """A fork server, so that a step costs what it does and not the import of torch."""
    address = str(tmp_path_factory.mktemp("server") / "s")
    command = [sys.executable, "-m", "cmcgns.pipeline.fork_server", address]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        while not os.path.exists(address):
            assert process.poll() is None
        yield address
        process.stdin.close()


def kinds(jobs: list[Job], sources: bool = True) -> list[Job]:
    """A job of each step and set of files; with `sources`, of data steps one of each source."""
    found = {}
    for job in jobs:
        settings = job.content["settings"]
        source = settings.get("source") or settings.get("name") if "/data/" in f"/{job.target}" else ""
        found.setdefault((job.step, *sorted(job.content["inputs"]), source if sources else ""), job)
    return list(found.values())


Alone = Callable[..., tuple[int, str, dict[str, str]]]


@pytest.fixture
def alone(ci: Study, server: str, tmp_path: Path) -> Alone:
    """Runs a job in an empty folder with its files, of which `change` may spoil some; status, last words and hashes of outputs."""
    number = 0

    def run(job: Job, change: Callable[[Path, dict[str, Any]], None] | None = None, look=digest):
        nonlocal number
        number += 1
        folder, content = tmp_path / str(number), json.loads(job.document)
        folder.mkdir()
        known = (
            folder / ".cmcgns/code.json"
        )  # what the package's files parse to, for half a second less a run
        if (tmp_path / known.name).exists():
            known.parent.mkdir()
            shutil.copy(tmp_path / known.name, known)
        for file in job.inputs:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ci.root / file, folder / file)
        for name in content["folders"].values():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if job.content["step"].endswith("synthesize_world"):
                continue  # writes it
            (folder / name).symlink_to(ci.root / name)
        if change:
            change(folder, content)
        done = subprocess.run(
            (sys.executable, "-m", "cmcgns", "step", canonical(content)), cwd=folder, capture_output=True, text=True,
            env=os.environ | {"CMCGNS_SERVER": server, "PYTHONPATH": str(ROOT / "src")}, check=False,
        )  # fmt: skip
        made = {file: look(folder / file) for file in job.outputs if (folder / file).is_file()}
        if known.exists():
            shutil.copy(known, tmp_path)
        shutil.rmtree(folder)
        return done.returncode, (done.stderr.strip().splitlines() or [""])[-1], made

    return run


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(path: Path) -> str:
    """The hash of a file; of a table without its metadata, where a step says how it was called."""
    if path.suffix != ".parquet":
        return digest(path)
    table = parquet.read_table(path).replace_schema_metadata(None)
    return hashlib.sha256("".join(map(str, table.to_pydict().items())).encode()).hexdigest()


def outcome(found: tuple[int, str, dict[str, str]]) -> tuple[int, dict[str, str]]:
    return found[0], {file: value for file, value in found[2].items() if not file.endswith(MEASURED)}


def test_with_nothing_but_its_files_a_step_writes_the_same_bytes(ci, alone):
    for job in kinds(ci.jobs):
        status, said, made = alone(job)
        assert status == 0, (job.target, said)
        assert set(made) == set(job.outputs)
        for file, value in made.items():
            assert file.endswith(MEASURED) or value == digest(ci.root / file), file


def test_without_one_of_its_files_a_step_fails_and_names_it(ci, alone):
    for job in kinds(ci.jobs, sources=False):
        for kind in ("inputs", "requires"):
            for files in job.content[kind].values():
                victim = files_of({"": files})[-1]
                status, said, made = alone(job, lambda folder, _, victim=victim: (folder / victim).unlink())
                assert status == 1 and not made, (job.target, victim)
                assert said.startswith(f"cmcgns: {victim}: "), said


def test_it_reads_each_of_its_files(ci, alone):
    """Rubbish in the place of a file must not go unnoticed."""
    unnoticed = set()
    for job in kinds(ci.jobs, sources=False):
        expected = (0, {f: digest(ci.root / f) for f in job.outputs if not f.endswith(MEASURED)})
        for name, files in job.content["inputs"].items():
            known = f"{job.step.rpartition('.')[2]} {name}"
            if name in UNREAD or known in UNREAD:
                continue
            victim = files_of({"": files})[-1]
            spoilt = lambda folder, _, victim=victim: (folder / victim).write_text("rubbish")  # noqa: E731
            if outcome(alone(job, spoilt)) == expected:
                unnoticed.add(known)
    assert not unnoticed


def test_its_settings_reach_it(ci, alone):
    """Another value changes an output, or is refused."""
    unnoticed, noticed, told = set(), set(), set()
    for job in kinds(ci.jobs):
        name = job.step.rpartition(".")[2]
        if name == "write_ranks" and ".reporting." in job.step:
            name = "write_ranks_table"
        expected = (0, {f: contents(ci.root / f) for f in job.outputs if not f.endswith(MEASURED)})
        told |= {f"{name} {key}" for key in job.content["settings"]}
        for key, value in (REACHES[name] | REACHES_SOME.get(name, {})).items():
            if key not in job.content["settings"] or job.content["settings"][key] == value:
                continue
            other = lambda _, content, key=key, value=value: content["settings"].update({key: value})  # noqa: E731
            if outcome(alone(job, other, contents)) == expected:
                unnoticed.add((name, key, job.target))
            else:
                noticed.add(f"{name} {key}")
    assert [found for found in unnoticed if found[1] in REACHES[found[0]]] == []
    assert told - SILENT == noticed


def test_a_document_that_names_another_code_is_refused(ci, alone):
    job = next(job for job in ci.jobs if job.rule == "summary")
    status, said, made = alone(job, lambda _, content: content.update(code="0" * 16))
    assert status == 1 and not made and "is not the code that the job was planned with" in said
