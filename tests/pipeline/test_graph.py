"""The real graph and engine with stand-in steps: what runs again, and what DVC, kills and clones do to it."""

from __future__ import annotations

import os
import random
import re
from types import ModuleType

import pytest

from cmcgns.pipeline.reproduce import WAVES

PROFILE = "tiny"
KILLS = 4  # benchmarks/job_graph.py: more, on the graph of the paper
OVERLAY = """
  tiny:
    images: {size: 64}
    encoders:
      image: {arch: resnet10, weights: random}
      text: {name: random, hidden: 64, layers: 1, heads: 2, vocab_size: 256}
    methods: *small_methods
    leakage: *none
    ablation: {pairs: []}
    downstream:
      methods: [random, cm_cgns]
      pairs: [classification-chexpert, segmentation-siim]
      fractions: [10]
      seeds: [0, 1]  # of tiny
      segmentation: {lr: 0.1}
    alignment: {kinds: [retrieval], gallery: 5}
    figures: {kinds: [tsne]}
    synthetic:
      seed: 0
      image_long_side: 64
      conspicuity: 1
      sizes:
        {mimic_studies: 20, chexpert_train: 60, chexpert_valid: 30, rsna: 40, covidx_train: 40, covidx_test: 30,
         siim: 40, object_train: 20, object_dev: 10}
"""
STAGE = f"reproduce@{PROFILE}"
SEGMENTATION = {
    f"finetune segmentation-siim --arm {arm} --fraction 10 --seed {seed}"
    for arm in ("random", "cm_cgns")
    for seed in (0, 1)
}
CHEXPERT = {name.replace("segmentation-siim", "classification-chexpert") for name in SEGMENTATION}
SUMMARIES = {"summary", "report", "table comparisons", "table ranks", "table claims"}  # of all tables


def short(steps: list[str]) -> set[str]:
    """Steps without the options that all of them have."""
    for option in (" --profile tiny", " --scheme audited"):
        steps = [step.replace(option, "") for step in steps]
    return set(steps)


@pytest.fixture(scope="module")
def finished(stand_in: ModuleType, tmp_path_factory):
    """A project whose profile ran once, by DVC, with its outputs pushed to a remote; tests work in clones of it."""
    folder = tmp_path_factory.mktemp("graph")
    project = stand_in.Project(folder, PROFILE, OVERLAY)
    project.edit(
        "dvc.yaml",
        "foreach: [demo, ci, science, grounding, science_gpu]",
        f"foreach: [demo, ci, science, grounding, {PROFILE}]",
    )
    project.edit("dvc.yaml", "metrics:\n", f"metrics:\n  - results/{PROFILE}/tables/metrics.json\n")
    loss = f"results/{PROFILE}/pretrain/cm_cgns/stage1/history.csv"
    project.edit(
        "dvc.yaml", "plots:\n", f"plots:\n  - loss:\n      x: epoch\n      y: {{{loss}: [train_loss]}}\n"
    )
    with (project.root / "Snakefile").open("a") as snakefile:  # the last lines of `onstart`
        snakefile.write("    with open('limiter.log', 'a') as file:\n")
        snakefile.write("        print(workflow.scheduler.job_rate_limiter, gc.isenabled(), file=file)\n")
    project.call("dvc", "remote", "add", "--default", "store", str(folder / "store"))
    project.call("dvc", "repro", STAGE)
    project.commit("the first run")
    project.call("dvc", "push", STAGE)
    return project


@pytest.fixture
def clone(finished, tmp_path):
    """A fresh clone with the results pulled."""
    copy = finished.clone(tmp_path / "clone")
    copy.call("dvc", "pull", STAGE)
    return copy


def test_no_timer_makes_the_scheduler_look_again(finished):
    """With Snakemake's limit of jobs a second each look at the ready jobs asks for another one: it ends in doing nothing else."""
    assert set((finished.root / "limiter.log").read_text().splitlines()) == {"None True"}


def test_every_way_of_calling_ends_in_the_same_state(finished):
    ran = len(finished.ran())
    assert ran == len(set(finished.ran()))
    assert finished.reproduce() == []
    assert "didn't change" in finished.call("dvc", "repro", STAGE).stdout
    assert "Nothing to be done" in finished.call("snakemake", "--config", f"profile={PROFILE}").stderr
    assert finished.call("dvc", "status", STAGE).stdout.strip().endswith("up to date.")
    assert len(finished.ran()) == ran


def test_a_dry_run_says_what_would_run_and_changes_nothing(clone):
    changed, planted = (
        clone.root / f"results/{PROFILE}/tables/{name}" for name in ("table1.csv", "mine.csv")
    )
    for path in (changed, planted):
        path.write_text("by hand")
    said = clone.call("cmcgns", "reproduce", "--profile", PROFILE, "--cores", "2", "--dry-run")
    assert "table1.csv is not what a run has written: to be removed" in said.stdout
    assert re.search(r"^table_1 +1$", said.stdout + said.stderr, re.MULTILINE)
    assert changed.read_text() == planted.read_text() == "by hand"


def test_a_fresh_clone_with_pulled_results_has_nothing_to_run(clone, finished):
    assert clone.reproduce() == []
    assert clone.outputs() == finished.outputs()
    assert clone.call("cmcgns", "verify", "--profile", PROFILE).returncode == 0


def test_in_a_clone_a_leaf_reruns_its_leaves(clone):
    clone.edit("params.yaml", "segmentation: {lr: 0.1}", "segmentation: {lr: 0.2}")
    assert short(clone.reproduce()) == {*SEGMENTATION, "table 3", "audit runs", *SUMMARIES}


def test_a_new_seed_adds_its_runs(clone):
    clone.edit("params.yaml", "seeds: [0, 1]  # of tiny", "seeds: [0, 1, 2]")
    runs = {step for step in short(clone.reproduce()) if step.startswith("finetune")}
    assert runs == {
        step.replace("--seed 0", "--seed 2") for step in SEGMENTATION | CHEXPERT if "--seed 0" in step
    }


def test_code_reruns_what_imports_it_and_a_comment_nothing(clone):
    page = clone.root / "src/cmcgns/reporting/page.py"
    text = page.read_text()
    page.write_text(f"# a comment\n{text}")
    assert clone.reproduce() == []
    page.write_text(f"{text}\nNEW = 1\n")
    assert short(clone.reproduce()) == {"report"}


def test_steps_that_give_the_same_bytes_rerun_nothing_after_them(clone):
    clone.edit("params.yaml", "  min_report_tokens: 3 ", "  min_report_tokens: 4 ")
    assert {step.partition(" data/")[0] for step in short(clone.reproduce())} - {"report"} == {
        "reports extract"
    }
    export = clone.root / "src/cmcgns/training/export.py"
    export.write_text(f"{export.read_text()}\nNEW = 1\n")
    assert {step.partition(" --")[0] for step in short(clone.reproduce())} - {"report"} == {"export-trunk"}


def test_a_changed_output_is_found_named_and_made_again(clone):
    clone.reproduce()
    victim = clone.root / f"results/{PROFILE}/finetune/cm_cgns/segmentation-siim/10/seed-1/metrics.json"
    before = victim.read_text()
    victim.write_text("{}")
    os.utime(victim, (0, 0))
    done = clone.call("cmcgns", "reproduce", "--profile", PROFILE)
    assert f"{victim.relative_to(clone.root)} is not what a run has written" in done.stdout
    assert victim.read_text() == before
    assert "finetune segmentation-siim --arm cm_cgns --fraction 10 --seed 1" in short(clone.ran())


def test_weights_between_two_phases_are_made_again_and_nothing_after_them(clone):
    victim = clone.root / f"results/{PROFILE}/pretrain/cm_cgns/stage1/last.safetensors"
    before = victim.read_bytes()
    victim.write_bytes(before[:3])
    [ran] = clone.reproduce()
    assert ran.startswith("pretrain cm_cgns stage1 ")
    assert victim.read_bytes() == before
    assert clone.call("cmcgns", "verify", "--profile", PROFILE).returncode == 0


def test_tables_alone_can_be_pulled(finished, tmp_path):
    copy = finished.clone(tmp_path / "tables")
    copy.call("dvc", "pull", f"results/{PROFILE}/tables")
    table = f"results/{PROFILE}/tables/table1.csv"
    assert (copy.root / table).read_text() == (finished.root / table).read_text()
    assert not (copy.root / f"results/{PROFILE}/finetune").exists()


def test_dvc_compares_metrics_parameters_and_plots(clone):
    clone.edit("params.yaml", "gallery: 5}", "gallery: 7}")
    clone.edit("params.yaml", "hidden: 64, layers: 1", "hidden: 32, layers: 1")
    clone.call("dvc", "repro", STAGE)
    assert "gallery" in clone.call("dvc", "params", "diff").stdout
    assert f"results/{PROFILE}/tables/metrics.json" in clone.call("dvc", "metrics", "diff").stdout
    clone.call("dvc", "plots", "diff", "HEAD")
    page = (clone.root / "dvc_plots/index.html").read_text()
    assert "train_loss" in page and '"rev": "HEAD"' in page and '"rev": "workspace"' in page


def test_dvc_experiments_try_a_value_and_keep_it_apart(clone):
    ran = len(clone.ran())
    clone.call(
        "dvc", "exp", "run", "--name", "try", "--set-param", f"profiles.{PROFILE}.alignment.gallery=7", STAGE
    )
    assert short(clone.ran()[ran:]) == {
        "align retrieval cm_cgns --weights results/tiny/pretrain/cm_cgns/stage2/best.safetensors --truth data/tiny/truth",
        "table retrieval",
        "summary",
        "report",
    }
    assert "try" in clone.call("dvc", "exp", "show", "--csv").stdout
    assert "gallery" in clone.call("dvc", "exp", "diff", "HEAD", "try").stdout


def test_a_run_killed_anywhere_ends_as_if_it_had_not_been(stand_in: ModuleType, tmp_path, finished):
    project = stand_in.Project(tmp_path, PROFILE, OVERLAY)
    rng, seconds = random.Random(0), {"STAND_IN_SECONDS": "0.1"}
    for _ in range(KILLS):
        project.kill_when(len(project.ran()) + rng.randint(0, 20), rng, **seconds)
    project.reproduce(**seconds)
    assert project.repeated() <= KILLS * 2  # two cores: at most the running jobs of each kill
    assert project.outputs() == finished.outputs()


def test_the_waves_are_rules_in_the_order_of_the_graph(finished):
    """A rule before its wave would run in an earlier one, and take what depends on it along."""
    listed = finished.call("snakemake", "--config", f"profile={PROFILE}", "--rulegraph").stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', listed))
    after = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", listed)}
    wave = {name: number for number, rules in enumerate(WAVES) for name in rules}
    assert {"index", "images", "pretrain", "features"} <= {name for pair in after for name in pair}
    assert all(wave[a] <= wave[b] for a, b in after if a in wave and b in wave)
    assert not any(a not in wave and b in wave for a, b in after)
