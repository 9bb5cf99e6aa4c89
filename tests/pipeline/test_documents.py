"""What each rule hands to its step, stated a second time and by hand: a file or a setting that is left out fails here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmcgns.methods import METHODS
from cmcgns.pipeline.graph import Graph, Job, graph_of
from cmcgns.pipeline.plan import Plan
from cmcgns.step import expand, squeeze

ROOT = Path(__file__).parents[2]
PROFILES = ("ci", "paper", "grounding")
FILMS = ("rsna", "covidx", "siim", "object_cxr")  # compared by their pixels under scheme audited
STORE = {"store", "store_table"}
ENCODED = {"weights", "tokens", "tokenizer", "tokenizer_config"}
TRUTH = {"findings", "sentences", "images"}


@pytest.fixture(scope="module", params=PROFILES)
def study(request, tmp_path_factory) -> Iterator[tuple[Plan, Graph]]:
    """A profile's plan and Snakemake's jobs; no data set is there."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("Snakefile", "params.yaml", "workflow", "profiles", "src"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Plan.load(request.param), graph_of(request.param)


def of(graph: Graph, rule: str) -> list[tuple[Job, dict[str, str]]]:
    """The jobs of a rule, each with the parts of its first output's name."""
    patterns = {
        "index": r"index/(?P<source>\w+)\.parquet",
        "images": r"images/(?P<source>\w+)\.npy",
        "split": r"splits/(?P<source>\w+)/(?P<scheme>\w+)\.parquet",
        "subset": r"splits/(?P<source>\w+)/(?P<scheme>\w+)-seed(?P<seed>\d+)\.parquet",
        "pretrain": r"pretrain/(?P<arm>[^/]+)/(?P<phase>\w+)/best",
        "export_trunk": r"pretrain/(?P<trunk>[^/]+)/trunk",
        "features": r"features/(?P<trunk>[^/]+)/(?P<source>\w+)\.npy",
        "finetune": r"(?P<under>finetune|leakage/\w+)/(?P<arm>[^/]+)/(?P<task>\w+)-(?P<source>\w+)/(?P<fraction>\d+)/seed-(?P<seed>\d+)/",
        "align": r"alignment/(?P<kind>\w+)/(?P<arm>[^/]+)/",
        "gate": r"gate-(?P<scheme>\w+)\.json",
        "attention": r"attention-(?P<arm>.+)\.",
        "tsne": r"tsne-(?P<arm>.+)\.",
    }
    found = []
    for job in graph.jobs:
        if job.rule.split("_")[0] == rule or job.rule == rule:
            found.append((job, re.search(patterns[rule], job.target).groupdict()))
    return found


def names(job: Job) -> set[str]:
    return set(job.content["inputs"])


def one(job: Job, name: str) -> str:
    """A single file among its inputs, or what must be there."""
    value = (job.content["inputs"] | job.content["requires"])[name]
    return value if isinstance(value, str) else value[0]


def test_raw_files_become_tables_pixels_and_splits(study):
    plan, graph = study
    world = {"world"} if plan.settings.synthetic else set()
    for job, w in of(graph, "index"):
        assert names(job) == world and job.content["settings"]["name"] == w["source"]
        assert job.content["folders"] == {"raw": plan.paths.raw}
        assert f"cmcgns.sources.{w['source']}" in job.content["also"]
    for job, w in of(graph, "images"):
        assert names(job) == {"index", *world} and job.content["settings"]["source"] == w["source"]
        assert one(job, "index") == f"{plan.paths.data}/index/{w['source']}.parquet"
    for job, w in of(graph, "split"):
        mimic = w["source"] == "mimic_cxr"
        films = w["source"] in FILMS and w["scheme"] == "audited"
        wanted = (
            {"index", "store_table"} | ({"store"} if films else set()) | ({"reports"} if mimic else set())
        )
        assert names(job) == wanted, job.target
        assert {k: job.content["settings"][k] for k in w} == w
        assert all(w["source"] in one(job, name) for name in wanted)
    for job, w in of(graph, "subset"):
        assert names(job) == {"index", "split"} and w["scheme"] in one(job, "split")
        assert job.content["settings"]["seed"] == int(w["seed"])
        assert job.content["settings"]["source"] == w["source"] in one(job, "split")


def test_a_phase_starts_from_the_one_before_and_waits_for_the_gate(study):
    plan, graph = study
    for job, w in of(graph, "pretrain"):
        method = METHODS[w["arm"].split("-")[0]]
        wanted = {*STORE, "index", "split"} | ({"tokens"} if method.text else set())
        before = method.phases.index(w["phase"])
        wanted |= {"start"} if before else set()
        assert names(job) - {"encoder"} == wanted, job.target
        if before:
            assert f"/{method.phases[before - 1]}/" in one(job, "start")
            assert one(job, "start").split("/")[3].split("-")[0] == w["arm"].split("-")[0]
        assert list(job.content["requires"]) == ["gate"] and plan.scheme in one(job, "gate")
        assert job.content["settings"]["phase"] == w["phase"] and job.content["also"]


def test_an_encoder_is_taken_from_the_last_phase_or_drawn_from_its_seed(study):
    plan, graph = study
    for job, w in of(graph, "export_trunk"):
        arm, _, seed = w["trunk"].partition("-seed")
        phases = plan.phases(arm)
        assert names(job) - {"start"} == ({"weights"} if phases else set())
        assert job.content["settings"]["seed"] == int(seed or 0)
        if phases:
            assert f"/{phases[-1]}/" in one(job, "weights")


def test_a_run_gets_its_own_seed_fraction_ranks_split_and_encoder(study):
    plan, graph = study
    cached = plan.settings.downstream.classification.views > 0
    jobs = of(graph, "finetune")
    assert {int(w["seed"]) for _, w in jobs} == set(plan.settings.downstream.seeds)
    for job, w in jobs:
        content, scheme = job.content, w["under"].partition("/")[2] or plan.scheme
        encoder = "features" if w["task"] == "classification" and cached else "trunk"
        assert names(job) == {*STORE, "index", "split", "ranks", "key", encoder}, job.target
        assert one(job, "key") == f"{plan.paths.data}/key"
        assert content["step"] == f"cmcgns.evaluation.{w['task']}.finetune"
        settings = content["settings"]
        assert (settings["seed"], settings["fraction"]) == (int(w["seed"]), int(w["fraction"]))
        assert settings["source"] == w["source"]
        assert one(job, "ranks").endswith(f"/{w['source']}/{scheme}-seed{w['seed']}.parquet")
        assert one(job, "split").endswith(f"/{w['source']}/{scheme}.parquet")
        assert one(job, "gate").endswith(f"gate-{scheme}.json")
        trunk = f"random-seed{w['seed']}" if w["arm"] == "random" else w["arm"]
        assert f"/{trunk}/" in one(job, encoder)
        assert settings["head"] == plan.settings.head(f"{w['task']}-{w['source']}", int(w["fraction"]))


def test_alignment_and_figures_read_what_they_show(study):
    plan, graph = study
    synthetic = bool(plan.settings.synthetic)
    for job, w in of(graph, "align"):
        truth = TRUTH if synthetic and w["kind"] == "grounding" else set()
        encoded = {"weights", "tokens"} if w["kind"] == "retrieval" else ENCODED
        assert names(job) == {*encoded, *STORE, "index", "split", *truth}
        source = "chexpert" if w["kind"] == "zero_shot" else "mimic_cxr"
        assert all(source in one(job, name) for name in (*STORE, "index", "split"))
        assert one(job, "weights") == plan.final(w["arm"])
        assert job.content["settings"]["kind"] == w["kind"] and job.content["settings"]["arm"] == w["arm"]
        assert bool(job.content["folders"]) != synthetic
    for job, w in of(graph, "attention"):
        marked = TRUTH if synthetic else {"reports"}
        assert names(job) == {*ENCODED, *STORE, "index", "split", *marked}
        assert one(job, "weights") == plan.final(w["arm"])
    for job, w in of(graph, "tsne"):
        assert names(job) == {"features", "store_table", "index"}
        seed = plan.settings.downstream.seeds[0]
        trunk = f"random-seed{seed}" if w["arm"] == "random" else w["arm"]
        assert f"/{trunk}/chexpert.npy" in one(job, "features")


def test_audits_see_every_source_and_seed(study):
    plan, graph = study
    jobs = {job.rule: job for job in graph.jobs if job.rule in ("audit", "audit_page", "audit_runs", "gate")}
    sources, seeds = plan.sources(), plan.settings.downstream.seeds
    tables = {"index", "split", "unmatched", *STORE}
    assert names(jobs["audit"]) == {*tables, "ranks", "key"}
    for name in tables:
        assert [
            source in file
            for source, file in zip(sources, jobs["audit"].content["inputs"][name], strict=True)
        ]
    ranked = [source for source in sources if source != "mimic_cxr"]
    assert len(jobs["audit"].content["inputs"]["ranks"]) == len(ranked) * len(seeds)
    assert names(jobs["audit_page"]) == {"audit", "gate", "split", "index", "ranks"}
    runs = [w for _, w in of(graph, "finetune") if w["under"] == "finetune"]
    assert len(jobs["audit_runs"].content["inputs"]["metrics"]) == len(runs)
    for job, w in of(graph, "gate"):
        assert names(job) == {"audit"} and job.content["settings"]["scheme"] == w["scheme"]
        assert job.content["settings"]["measured"] == (w["scheme"] != plan.scheme)


def test_tables_are_made_of_all_their_runs(study):
    plan, graph = study
    jobs = {job.rule.removeprefix("table_"): job for job in graph.jobs if job.rule.startswith("table_")}
    assert set(jobs) == set(plan.tables())
    for name, job in jobs.items():
        files = job.content["inputs"].get("metrics") or job.content["inputs"].get("predictions") or []
        assert len(files) == len(set(files))
        if name in plan.cell_tables():
            groups = {tuple(group) for group in job.content["settings"]["groups"]}
            told = {tuple(file.split("/")[3:6]) for file in files}
            assert told == {(arm, pair, str(fraction)) for arm, pair, fraction in groups}
            assert len(files) == len(groups) * len(plan.settings.downstream.seeds)
    summary = next(job for job in graph.jobs if job.rule == "summary")
    assert len(summary.content["inputs"]["tables"]) == sum(
        name in plan.cell_tables() or name in plan.settings.alignment.kinds for name in jobs
    )


def test_a_document_fits_a_command_line(study):
    _, graph = study
    assert max(len(job.document) for job in graph.jobs) < 120_000  # Linux takes 128 KiB in one piece


def test_names_are_squeezed_without_loss():
    files = [
        f"results/p/finetune/{arm}/x/seed-{n}/metrics.json" for arm in ("a", "ab", "b:1") for n in range(12)
    ]
    for case in (files, files[::-1], ["", "a", "a", ""], ["12:x", "12:y"], []):
        assert expand(squeeze(case)) == case
    assert sum(map(len, squeeze(files))) < sum(map(len, files)) / 2
