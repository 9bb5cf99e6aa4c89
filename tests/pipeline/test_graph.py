"""The real graph and engine with stand-in steps: what runs again, and what DVC, switches, kills and clones do to it."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest

PROFILE = "tiny"
KILLS = 3  # benchmarks/job_graph.py: more, on the graph of the paper
STAGE = f"reproduce@{PROFILE}"
RESULTS = f"results/{PROFILE}"


def runs(pair: str, *seeds: int) -> set[str]:
    return {
        f"{RESULTS}/finetune/{arm}/{pair}/10/seed-{seed}/metrics.json"
        for arm in ("random", "cm_cgns")
        for seed in seeds
    }


SEGMENTATION, CHEXPERT = runs("segmentation-siim", 0, 1), runs("classification-chexpert", 0, 1)
SUMMARIES = {
    f"{RESULTS}/{file}"
    for file in (
        *("tables/metrics.json", "report/index.html", "tables/comparisons.csv", "tables/ranks.csv"),
        "tables/claims.csv",
    )
}
OF_SEGMENTATION = {*SEGMENTATION, f"{RESULTS}/tables/table3.csv", f"{RESULTS}/audit/runs.json", *SUMMARIES}
STAGE1 = f"{RESULTS}/pretrain/cm_cgns/stage1"
REPORTS = f"data/{PROFILE}/index/mimic_cxr_reports.parquet"


@pytest.fixture(scope="module")
def finished(stand_in: ModuleType, tmp_path_factory):
    """A project whose profile ran once, by DVC, with its outputs pushed to a remote; tests work in clones of it."""
    folder = tmp_path_factory.mktemp("graph")
    project = stand_in.Project(folder, PROFILE, stand_in.TINY)
    project.edit(
        "dvc.yaml",
        "foreach: [demo, ci, science, grounding, science_gpu]",
        f"foreach: [demo, ci, science, grounding, {PROFILE}]",
    )
    project.edit("dvc.yaml", "metrics:\n", f"metrics:\n  - {RESULTS}/tables/metrics.json\n")
    loss = f"{STAGE1}/history.csv"
    project.edit(
        "dvc.yaml", "plots:\n", f"plots:\n  - loss:\n      x: epoch\n      y: {{{loss}: [train_loss]}}\n"
    )
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


@pytest.fixture(scope="module")
def spare(finished, tmp_path_factory):
    """A clone that several tests may change, each only what it puts right again."""
    copy = finished.clone(tmp_path_factory.mktemp("spare") / "clone")
    copy.call("dvc", "pull", STAGE)
    return copy


def histories(project) -> dict[str, str]:
    """Every entry of the ledger, without whether it was taken over."""
    lines = (project.root / RESULTS / "ledger.jsonl").read_text().splitlines()
    entries = (json.dumps(json.loads(line) | {"adopted": None}, sort_keys=True) for line in lines)
    return {line: line for line in entries}


def dry(project, *command: str) -> str:
    return project.call(*(command or ("cmcgns", "reproduce", "--profile", PROFILE, "--dry-run"))).stdout


def test_every_way_of_calling_ends_in_the_same_state(finished):
    ran = len(finished.ran())
    assert ran == len(set(finished.ran()))
    assert finished.reproduce() == []
    assert "didn't change" in finished.call("dvc", "repro", STAGE).stdout
    assert "Nothing to be done" in finished.call("snakemake", "--config", f"profile={PROFILE}").stdout
    assert finished.call("dvc", "status", STAGE).stdout.strip().endswith("up to date.")
    assert len(finished.ran()) == ran


def test_a_dry_run_says_what_would_run_and_changes_nothing(clone):
    changed, planted = (clone.root / RESULTS / "tables" / name for name in ("table1.csv", "mine.csv"))
    for path in (changed, planted):
        path.write_text("by hand")
    before = state(clone)
    for command in ((), ("snakemake", "--config", f"profile={PROFILE}", "--dry-run")):
        said = dry(clone, *command)
        assert "table1.csv is not what a job has written: to be moved away" in said
        assert re.search(r"^table_1 +1$", said, re.M) and re.search(r"^in all +1$", said, re.M)
    assert state(clone) == before


def state(project) -> dict[str, tuple[int, int]]:
    """Size and time of every file of the study, and of the project's own notes but for what it has looked up."""
    found = {}
    for top in ("data", "results", ".cmcgns", ".snakemake/locks"):
        for path in (project.root / top).rglob("*"):
            looked_up = path.relative_to(project.root).parts[:2] in (
                (".cmcgns", "hashes"),
                (".cmcgns", "code.json"),
            )
            if path.is_file() and not looked_up:
                found[str(path)] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


def test_a_fresh_clone_with_pulled_results_has_nothing_to_run(clone, finished):
    assert clone.reproduce() == []
    assert clone.outputs() == finished.outputs()
    assert clone.call("cmcgns", "verify", "--profile", PROFILE).returncode == 0


def test_in_a_clone_a_leaf_reruns_its_leaves_and_back_again_nothing_is_computed(clone, finished):
    clone.edit("params.yaml", "segmentation: {lr: 0.1}", "segmentation: {lr: 0.2}")
    assert set(clone.reproduce()) == OF_SEGMENTATION
    clone.edit("params.yaml", "segmentation: {lr: 0.2}", "segmentation: {lr: 0.1}")
    assert clone.reproduce() == []
    assert clone.outputs() == finished.outputs()


def test_a_new_seed_adds_its_runs(clone):
    clone.edit("params.yaml", "seeds: [0, 1]  # of tiny", "seeds: [0, 1, 2]")
    ran = {step for step in clone.reproduce() if "/finetune/" in step}
    assert ran == runs("segmentation-siim", 2) | runs("classification-chexpert", 2)


def test_code_reruns_what_imports_it_and_a_comment_nothing(clone):
    page = clone.root / "src/cmcgns/reporting/page.py"
    text = page.read_text()
    page.write_text(f"# a comment\n{text}")
    assert clone.reproduce() == []
    page.write_text(f"{text}\nNEW = 1\n")
    assert clone.reproduce() == [f"{RESULTS}/report/index.html"]


def test_steps_that_give_the_same_bytes_rerun_nothing_after_them(clone):
    clone.edit("params.yaml", "  min_report_tokens: 3 ", "  min_report_tokens: 4 ")
    assert set(clone.reproduce()) - {f"{RESULTS}/report/index.html"} == {REPORTS}
    export = clone.root / "src/cmcgns/training/export.py"
    export.write_text(f"{export.read_text()}\nNEW = 1\n")
    again = {step for step in clone.reproduce() if not step.endswith("report/index.html")}
    assert again and all(step.endswith("trunk.safetensors") for step in again)


def test_an_edited_rule_reruns_its_jobs(clone):
    """What a rule hands over belongs to its jobs: here a second phase that starts from nothing."""
    clone.edit(
        "workflow/rules/pretrain.smk", "start=lambda wc: PLAN.start(wc.arm, wc.phase) or [],", "start=[],"
    )
    assert "it reads other files as start  (1 job)" in dry(clone)


def test_a_changed_output_is_found_named_put_away_and_made_again(spare):
    victim = spare.root / RESULTS / "finetune/cm_cgns/segmentation-siim/10/seed-1/metrics.json"
    before = victim.read_text()
    victim.write_text("{}")
    os.utime(victim, (0, 0))
    ran = len(spare.ran())
    done = spare.call("cmcgns", "reproduce", "--profile", PROFILE)
    assert f"{victim.relative_to(spare.root)} is not what a job has written: moved to " in done.stdout
    assert victim.read_text() == before
    assert spare.ran()[ran:] == [str(victim.relative_to(spare.root))]
    (kept,) = (spare.root / ".cmcgns/taken-away").rglob("metrics.json")
    assert kept.read_text() == "{}"


def test_weights_between_two_phases_are_made_again_and_nothing_after_them(spare):
    victim = spare.root / STAGE1 / "last.safetensors"
    before = victim.read_bytes()
    victim.write_bytes(before[:3])
    assert spare.reproduce() == [f"{STAGE1}/best.safetensors"]
    assert victim.read_bytes() == before
    assert spare.call("cmcgns", "verify", "--profile", PROFILE).returncode == 0


def test_a_file_that_no_job_made_is_moved_away_and_what_training_goes_on_from_stays(spare):
    planted, going_on = spare.root / RESULTS / "tables/mine.csv", spare.root / STAGE1 / "resume.pt"
    for path in (planted, going_on):
        path.write_text("copied from elsewhere")
    victim = spare.root / RESULTS / "tables/table3.csv"
    victim.unlink()
    assert spare.reproduce() == [f"{RESULTS}/tables/table3.csv"]
    assert not planted.exists() and going_on.exists()
    going_on.unlink()


# ---- no engine's switch and no profile makes a history, or stale things done ----

PROFILES = {
    "mtime": "rerun-triggers: [mtime]\n",
    "quick": "scheduler: greedy\nkeep-going: true\ncores: 2\nrerun-incomplete: true\n",
    "touch": "touch: true\n",
    "drop": "drop-metadata: true\nignore-incomplete: true\ncores: 1\n",
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_of_the_user_decides_nothing_about_what_is_stale(spare, tmp_path, name):
    (tmp_path / "config.yaml").write_text(PROFILES[name])
    before, gallery = histories(spare), 6 + list(PROFILES).index(name)  # never one that has been done before
    spare.edit("params.yaml", "kinds: [retrieval], gallery: 5}", f"kinds: [retrieval], gallery: {gallery}}}")
    asked = {"SNAKEMAKE_PROFILE": str(tmp_path)}
    retrieval = f"{RESULTS}/alignment/retrieval/cm_cgns/metrics.json"
    try:
        plain = spare.call(
            "snakemake", "--config", f"profile={PROFILE}", "--cores", "2", check=False, **asked
        )
        if name == "mtime":
            assert plain.returncode == 1
            assert "what is stale is decided by this project" in plain.stderr.splitlines()[-1]
        spare.call("cmcgns", "reproduce", "--profile", PROFILE, "--cores", "2", check=False, **asked)
        entry = next(
            (json.loads(line) for line in histories(spare) if retrieval in line.split('"outputs"')[1]), None
        )
        made = entry is not None and entry["settings"]["settings"]["gallery"] == gallery
        assert made == (name != "touch")  # nothing was run there, so nothing says that it was
        assert (spare.root / retrieval).exists() == made
    finally:
        spare.edit("params.yaml", f"gallery: {gallery}}}", "gallery: 5}")
        spare.reproduce()
    assert set(histories(spare)) == set(before)


def test_touching_and_forgetting_change_no_history(spare):
    before, table = histories(spare), f"{RESULTS}/tables/table1.csv"
    plain = ("snakemake", "--config", f"profile={PROFILE}")
    spare.call(*plain, "--touch", "--forceall", "--cores", "1", check=False)
    spare.call(*plain, "--cleanup-metadata", table)
    assert histories(spare) == before
    spare.edit("params.yaml", "  min_report_tokens: 3 ", "  min_report_tokens:  3 ")  # the same value
    assert "Nothing to be done" in dry(spare)
    for triggers in ("mtime", "params input"):
        refused = spare.call(*plain, "--rerun-triggers", *triggers.split(), "--dry-run", check=False)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("cmcgns: what is stale is decided by this project")
    spare.edit("params.yaml", "  min_report_tokens:  3 ", "  min_report_tokens: 3 ")


# ---- one run at a time ----


def start(project, *command: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=project.root, env=project.variables | more, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def wait_for(condition, seconds: float = 120.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def test_whoever_calls_second_is_refused_and_a_dry_run_disturbs_nobody(stand_in: ModuleType, tmp_path):
    project = stand_in.Project(tmp_path, PROFILE, stand_in.TINY)
    first = start(
        project, "cmcgns", "reproduce", "--profile", PROFILE, "--cores", "2", STAND_IN_SECONDS="1.5"
    )
    lock = project.root / ".cmcgns/lock"
    wait_for(lambda: lock.exists() and len(project.ran()) > 1)
    held = json.loads(lock.read_text())["token"]
    for command in (
        ("cmcgns", "reproduce", "--profile", PROFILE),
        ("snakemake", "--config", f"profile={PROFILE}", "--cores", "1"),
        ("snakemake", "--nolock", "--forcerun", "all", "--config", f"profile={PROFILE}", "--cores", "1"),
    ):
        second = project.call(*command, check=False)
        assert second.returncode == 1
        assert "another run is going on in this folder" in second.stderr.splitlines()[-1]
    assert "in all" in dry(project)
    assert json.loads(lock.read_text())["token"] == held and first.poll() is None
    first.communicate(timeout=300)
    assert first.returncode == 0 and project.repeated() == 0 and not lock.exists()


def below(project) -> list[psutil.Process]:
    """The processes that work in a project's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(project.root) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_run_killed_anywhere_ends_as_if_it_had_not_been(stand_in: ModuleType, tmp_path, finished):
    """All processes, or the engine alone: nobody is left, nothing is done twice but what was running, no folder stays."""
    project = stand_in.Project(tmp_path, PROFILE, stand_in.TINY)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    rng, more = random.Random(0), {"STAND_IN_SECONDS": "0.1", "TMPDIR": str(temporary)}
    for _ in range(KILLS):
        project.kill_when(len(project.ran()) + rng.randint(0, 20), rng, **more)
        wait_for(lambda: not below(project), 5.0)
    project.reproduce(**more)
    assert project.repeated() <= KILLS * 2  # two cores: at most the running jobs of each kill
    assert project.outputs() == finished.outputs()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything_in_order_and_the_history_is_written(
    stand_in: ModuleType, tmp_path, number
):
    project = stand_in.Project(tmp_path, PROFILE, stand_in.TINY)
    run = start(project, "cmcgns", "reproduce", "--profile", PROFILE, "--cores", "2", STAND_IN_SECONDS="0.2")
    wait_for(lambda: len(project.ran()) > 5)
    run.send_signal(number)
    run.communicate(timeout=60)
    assert run.returncode == 128 + number
    wait_for(lambda: not below(project), 5.0)
    noted = project.outputs()
    assert noted and not (project.root / ".cmcgns/lock").exists()
    assert project.reproduce() and project.repeated() <= 2
    assert noted.items() <= project.outputs().items()


def test_a_failed_job_s_own_sentence_and_its_log_come_last(stand_in: ModuleType, tmp_path):
    project = stand_in.Project(tmp_path, PROFILE, stand_in.TINY)
    failing = {"STAND_IN_FAILS": "index/siim.parquet"}
    for command in (
        ("cmcgns", "reproduce", "--profile", PROFILE, "--cores", "2"),
        ("snakemake", "--config", f"profile={PROFILE}", "--cores", "2"),
    ):
        done = project.call(*command, check=False, **failing)
        assert done.returncode == 1
        rule, said, log = done.stderr.splitlines()[-3:]
        assert rule == f"index: data/{PROFILE}/index/siim.parquet"
        assert said.strip() == "cmcgns: labels.csv, row 7: the stand-in was told to fail."
        assert (
            log.strip() == f"log: logs/{PROFILE}/index/siim.log" and (project.root / log.split()[-1]).exists()
        )


# ---- DVC ----


def test_tables_alone_can_be_pulled(finished, tmp_path):
    copy = finished.clone(tmp_path / "tables")
    copy.call("dvc", "pull", f"{RESULTS}/tables")
    table = f"{RESULTS}/tables/table1.csv"
    assert (copy.root / table).read_text() == (finished.root / table).read_text()
    assert not (copy.root / RESULTS / "finetune").exists()


def test_dvc_compares_metrics_parameters_and_plots(clone):
    clone.edit("params.yaml", "gallery: 5}", "gallery: 7}")
    clone.edit("params.yaml", "hidden: 64, layers: 1", "hidden: 32, layers: 1")
    clone.call("dvc", "repro", STAGE)
    assert "gallery" in clone.call("dvc", "params", "diff").stdout
    assert f"{RESULTS}/tables/metrics.json" in clone.call("dvc", "metrics", "diff").stdout
    clone.call("dvc", "plots", "diff", "HEAD")
    page = (clone.root / "dvc_plots/index.html").read_text()
    assert "train_loss" in page and '"rev": "HEAD"' in page and '"rev": "workspace"' in page


def test_dvc_experiments_try_a_value_and_keep_it_apart(clone):
    ran = len(clone.ran())
    clone.call(
        "dvc", "exp", "run", "--name", "try", "--set-param", f"profiles.{PROFILE}.alignment.gallery=7", STAGE
    )
    assert set(clone.ran()[ran:]) == {
        f"{RESULTS}/alignment/retrieval/cm_cgns/metrics.json",
        f"{RESULTS}/tables/retrieval.csv",
        f"{RESULTS}/tables/metrics.json",
        f"{RESULTS}/report/index.html",
    }
    assert "try" in clone.call("dvc", "exp", "show", "--csv").stdout
    assert "gallery" in clone.call("dvc", "exp", "diff", "HEAD", "try").stdout


def test_a_package_of_another_folder_is_refused(clone, finished):
    other = {"PYTHONPATH": f"{clone.environment}{os.pathsep}{finished.root / 'src'}"}
    done = clone.call("cmcgns", "reproduce", "--profile", PROFILE, check=False, **other)
    assert done.returncode == 1 and "not this folder's" in done.stderr


def test_the_names_of_all_files_stand_in_the_rules(finished):
    """One document a job; its files are those that Snakemake knows of, by the names that its rule gives them."""
    shown = finished.call("cmcgns", "step", "--show", f"{RESULTS}/tables/table3.csv", "--profile", PROFILE)
    job = json.loads(shown.stdout)
    assert job["step"] == "cmcgns.reporting.tables.write_table"
    assert sorted(job["inputs"]["metrics"]) == sorted(SEGMENTATION)
    assert {Path(file).name for file in job["outputs"].values()} == {
        "table3.csv",
        "table3.md",
        "table3.tex",
        "table3.details.csv",
    }
