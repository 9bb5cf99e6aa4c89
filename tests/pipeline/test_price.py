"""How long a run will take, and how far it is: against a schedule worked out by hand."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from cmcgns.pipeline import history, runs
from cmcgns.pipeline.fingerprint import changes, code_of, keep
from cmcgns.pipeline.graph import Job
from cmcgns.pipeline.judge import Reason, Verdict
from cmcgns.pipeline.price import Price, describe, expected, makespan, seconds_of
from cmcgns.pipeline.state import place
from cmcgns.pipeline.watch import Watch


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".cmcgns").mkdir()
    return tmp_path


def job(name: str, *reads: str, threads: int = 1, gpu: int = 0) -> Job:
    document = {
        "step": "cmcgns.x.y",
        "code": "",
        "inputs": {r: r for r in reads},
        "outputs": {"out": name},
        "gpu": gpu,
    }
    return Job(f"rule_{name}", f"logs/{name}.log", json.dumps(document), threads)


# a, b and c can begin at once; d reads a and b; e reads d; w wants both cores
GRAPH = [job("a"), job("b"), job("c"), job("d", "a", "b"), job("e", "d"), job("w", "e", threads=2)]
SECONDS = {"a": 2.0, "b": 3.0, "c": 4.0, "d": 1.0, "e": 5.0, "w": 1.0}


@pytest.mark.parametrize(
    ("cores", "whole"),
    [
        (1, 16.0),
        # a 0-2, b 0-3, c 2-6, d 3-4, e 4-9, w 9-10
        (2, 10.0),
        (8, 10.0),
    ],
)
def test_the_schedule_is_that_of_so_many_cores(cores, whole):
    assert makespan(GRAPH, SECONDS, cores) == whole


def test_gpus_limit_those_that_want_one_and_are_not_missed_where_there_is_none():
    trainings = [job(name, gpu=1) for name in "abc"]
    assert makespan(trainings, SECONDS, cores=8, gpus=1) == 9.0
    assert makespan(trainings, SECONDS, cores=8, gpus=2) == 6.0  # a and b; c when a has ended
    assert makespan(trainings, SECONDS, cores=8, gpus=0) == 4.0


def test_a_job_takes_as_long_as_those_most_like_it_and_in_proportion_to_its_epochs():
    def entry(name: str, seconds: float, **settings) -> None:
        made = {
            "step": "cmcgns.x.y",
            "code": "",
            "identity": "",
            "made": {},
            "started": 0.0,
            "seconds": seconds,
        }
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
        digest = hashlib.sha256(name.encode()).hexdigest()
        history.note(made | {"settings": settings, "inputs": {}, "outputs": {"out": [[name, digest]]}})

    entry("results/p/a", 2.0, fraction=1, head={"max_epochs": 4})
    entry("results/p/b", 8.0, fraction=100, head={"max_epochs": 4})
    entry("results/p/c", 10.0, fraction=100, head={"max_epochs": 4})
    history.pack("p")
    new = [
        Job(
            "r",
            "log",
            json.dumps({"step": "cmcgns.x.y", "code": "", "settings": settings, "outputs": {"out": name}}),
            1,
        )
        for name, settings in {
            "results/p/a": {"fraction": 1, "head": {"max_epochs": 6}},
            "results/q/b": {"fraction": 100, "head": {"max_epochs": 4}},
            "results/q/c": {"fraction": 100, "head": {"max_epochs": 8}},
        }.items()
    ]
    assert seconds_of("q", new) == {"results/p/a": 3.0, "results/q/b": 9.0, "results/q/c": 18.0}
    other = Job(
        "r", "log", json.dumps({"step": "cmcgns.x.z", "code": "", "outputs": {"out": "results/q/d"}}), 1
    )
    assert seconds_of("q", [other]) == {}


def price(**changed) -> Price:
    about = {
        "certain": GRAPH[:3],
        "possible": GRAPH[3:],
        "taken": [],
        "kept": 7,
        "seconds": SECONDS,
        "settings": [],
    }
    reasons = {name: [Reason("after", "rule_a")] for name in SECONDS} | {"a": [Reason("code", "cmcgns.x.y")]}
    return Price(**(about | {"reasons": reasons} | changed))


def test_what_earlier_runs_took_beside_their_jobs_is_added():
    runs.keep("p", {"start": 20.0, "each": 0.5})
    assert expected(price(), 2) == (20 + 3 * 0.5 + 6, 20 + 6 * 0.5 + 10)
    assert expected(price(certain=[], possible=[]), 2) == (0, 0)


def test_it_fits_a_screen_and_says_what_is_not_known():
    many = [job(f"j{n}") for n in range(60)]
    reasons = {one.target: [Reason("setting", f"leaf{n}", n, n + 1)] for n, one in enumerate(many)}
    told = describe(price(certain=many, possible=[], reasons=reasons), Verdict({}, [], [], {}, set()), 2)
    assert len(told.splitlines()) <= 40 and "and 48 more" in told and "setting leaf0: 0 -> 1  (1 job)" in told
    assert "45 other rules" in told and "nothing like it has run here" in told
    told = describe(
        price(seconds={"a": 2.0, "d": 1.0, "e": 5.0, "w": 1.0}), Verdict({}, [], [], {}, set()), 2
    )
    assert (
        "and 2 jobs that have not run here yet: rule_b, rule_c" in told and "7 jobs stay as they are" in told
    )


def test_a_run_knows_how_much_of_it_is_left():
    watch = Watch(GRAPH, SECONDS, whole=20.0)
    done, total, left = watch.look()
    assert (done, total) == (0, 6) and 19 < left <= 20
    for name in ("a", "b", "c"):
        path = place("jobs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        os.utime(path, (time.time() + 1, time.time() + 1))
    done, total, left = watch.look()
    assert (done, total) == (3, 6) and left < 1  # so fast was it
    assert Watch(GRAPH).look() == (3, 6, pytest.approx(0, abs=1))


def test_a_code_that_was_kept_names_what_has_changed_in_it(here, monkeypatch):
    """Functions, methods and data files, by comparing what was written down with what is there."""
    step = "cmcgns.evaluation.probe.fit_probe"
    code = code_of(step, ["reporting/paper_tables.csv"])
    assert changes(code, step) == []  # it is not known
    keep(code, step, ["reporting/paper_tables.csv"])
    assert changes(code, step, ["reporting/paper_tables.csv"]) == []
    kept = here / ".cmcgns/code" / f"{code}.json"
    parts = json.loads(kept.read_text())
    assert {
        "cmcgns.evaluation.fit.fit",
        "reporting/paper_tables.csv",
        "cmcgns.errors",
        "cmcgns.errors.InputError.__init__",
    } <= set(parts)
    parts["cmcgns.evaluation.fit.fit"] = "another"
    del parts["cmcgns.errors.InputError.__init__"]
    parts["cmcgns.evaluation.fit.gone"] = "x"
    kept.write_text(json.dumps(parts))
    assert changes(code, step, ["reporting/paper_tables.csv"]) == [
        "cmcgns.errors.InputError.__init__", "cmcgns.evaluation.fit.fit", "cmcgns.evaluation.fit.gone"
    ]  # fmt: skip
