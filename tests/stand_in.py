"""A copy of the project in which every step is a stand-in: the real graph, engine and histories, jobs that cost nothing.

A step writes, into each of its outputs, the hash of its settings and of what it reads: so a file's bytes follow from
settings and inputs as those of a real step do, and each step says in `jobs.log` that it ran. The extraction of reports and
the export of trunks write the same whatever their settings.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
LOG = "jobs.log"

# A profile of few jobs, for `Project`.
TINY = """
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

# Python runs this first in each process of the stand-in environment.
SITE = '''
import os, sys  # no more: a job's client runs this too, and is to cost what it costs in earnest


def call(document, **watch):
    """`cmcgns.step.call`: a stand-in for every step."""
    import hashlib, json, time
    from pathlib import Path
    from cmcgns.step import load

    job = load(document)
    def files(named):
        return [f for v in named.values() for f in ([v] if isinstance(v, str) else v)]
    target = sorted(job["outputs"].items())[0][1]
    time.sleep(float(os.environ.get("STAND_IN_SECONDS", 0)))
    if target.endswith(os.environ.get("STAND_IN_FAILS", "?")):
        from cmcgns.errors import InputError
        raise InputError("the stand-in was told to fail", file="labels.csv", row=7)
    digest = hashlib.sha256(job["step"].encode())
    if not job["step"].endswith(("extract_reports", "export_trunk")):
        digest.update(json.dumps(job["settings"], sort_keys=True).encode())
    for name in files(job["inputs"]):
        digest.update(Path(name).read_bytes())
    number = int(digest.hexdigest()[:6], 16) / 1e6
    for name in files(job["outputs"]):
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"{digest.hexdigest()} {os.path.basename(name)}\\n"
        if path.suffix == ".json":
            text = json.dumps({"value": number})
        elif path.suffix == ".csv":
            text = f"epoch,train_loss,valid_loss\\n1,{number},{number}\\n2,{number / 2},{number / 2}\\n"
        path.write_text(text)
    with open("jobs.log", "a") as log:
        log.write(target + "\\n")


class Finder:
    """Puts the stand-in where a job is run, when that module is imported."""

    @staticmethod
    def find_spec(name, path, target=None):
        if name != "cmcgns.pipeline.record":
            return None
        from importlib.machinery import PathFinder
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            module.call = call
        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("STAND_IN"):
    sys.meta_path.insert(0, Finder)
    if os.environ.get("STAND_IN_LIGHT"):  # the fork server need not have torch
        module = type(sys)
        for name in ("torch", "torch.cuda", "torch.backends", "torch.backends.cpu", "torchvision", "transformers",
                     "transformers.models.bert.modeling_bert", "segmentation_models_pytorch", "lightning_fabric",
                     "safetensors.torch", "safetensors"):
            sys.modules[name] = module(name)
        torch = sys.modules["torch"]
        torch.cuda, torch.backends = sys.modules["torch.cuda"], sys.modules["torch.backends"]
        torch.backends.cpu = sys.modules["torch.backends.cpu"]
        torch.cuda.is_available, torch.get_num_threads = (lambda: False), (lambda: 1)
        torch.backends.cpu.get_cpu_capability = lambda: "none"
'''


class Project:
    """A copy of the project in `folder`, its own git repository, run by stand-ins.

    Args:
        profile: the profile that all calls name.
        overlay: YAML lines of a further profile, indented by two, appended to params.yaml.
        light: the process that forks jobs imports nothing; False costs what a real run pays.
    """

    def __init__(self, folder: Path, profile: str, overlay: str = "", *, light: bool = True):
        self.root, self.profile = folder / "project", profile
        self.environment = folder / "environment"
        copy_project(self.root)
        with (self.root / "params.yaml").open("a") as params:
            params.write(overlay)
        make_environment(self.environment)
        self.variables = os.environ | {
            "PATH": f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.environment}{os.pathsep}{self.root / 'src'}",
            "STAND_IN": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(folder / "site-cache"),
        }
        for name in ("CMCGNS_SERVER", "CMCGNS_ENGINE", "CMCGNS_RUN", "CMCGNS_REVISION"):
            self.variables.pop(name, None)
        if light:
            self.variables["STAND_IN_LIGHT"] = "1"
        self.call("git", "init", "--quiet", "--initial-branch=main")
        self.commit("the project")

    def clone(self, folder: Path) -> Project:
        """A fresh clone elsewhere, with the same stand-ins."""
        copy = object.__new__(Project)
        copy.__dict__ |= self.__dict__ | {"root": folder}
        self.call("git", "clone", "--quiet", str(self.root), str(folder))
        copy.variables = self.variables | {"PYTHONPATH": f"{self.environment}{os.pathsep}{folder / 'src'}"}
        return copy

    def call(self, *command: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; its output goes into the error if it fails."""
        done = subprocess.run(
            command, cwd=self.root, env=self.variables | more, text=True, capture_output=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done

    def reproduce(self, **more: str) -> list[str]:
        """`cmcgns reproduce`; returns the first output of each step that ran."""
        before = len(self.ran())
        self.call("cmcgns", "reproduce", "--profile", self.profile, "--cores", "2", **more)
        return self.ran()[before:]

    def ran(self) -> list[str]:
        """The first output of every step that has run here."""
        log = self.root / LOG
        return log.read_text().splitlines() if log.exists() else []

    def commit(self, message: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@t")
        self.call("git", "add", "--all")
        self.call("git", *identity, "commit", "--quiet", "--allow-empty", "--message", message)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace a text that is there exactly once."""
        path = self.root / file
        text = path.read_text()
        assert text.count(old) == 1, (file, old, text.count(old))
        path.write_text(text.replace(old, new))

    def kill_when(self, steps: int, rng: random.Random, **more: str) -> None:
        """Run until so many steps have ended in all, then kill -9 Snakemake, or the whole group of processes; wait for orphans."""
        run = subprocess.Popen(
            ("cmcgns", "reproduce", "--profile", self.profile, "--cores", "2"),
            cwd=self.root,
            env=self.variables | more,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + 600
        while run.poll() is None and len(self.ran()) < steps and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.3))
        if rng.random() < 0.5:
            os.killpg(run.pid, signal.SIGKILL)
        else:
            with suppress(psutil.Error):  # the run may end by itself meanwhile
                for child in psutil.Process(run.pid).children(recursive=True):
                    if "snakemake" in child.cmdline():
                        child.kill()
        run.wait()

    def repeated(self) -> int:
        """How many steps ran more than once, counted as often as that."""
        return len(self.ran()) - len(set(self.ran()))

    def outputs(self) -> dict[str, str]:
        """The content of every output that is there."""
        ledger = self.root / f"results/{self.profile}/ledger.jsonl"
        entries = [json.loads(line) for line in ledger.read_text().splitlines()]
        names = [file for entry in entries for pairs in entry["outputs"].values() for file, _ in pairs]
        return {name: (self.root / name).read_text() for name in names if (self.root / name).is_file()}


def copy_project(folder: Path) -> None:
    """Copy what git knows of this project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and not name.startswith(("tests/", "docs/")) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write(f"{LOG}\n")


def make_environment(folder: Path) -> None:
    """The packages of this environment under another name, with stand-ins for the steps."""
    (folder / "bin").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(SITE)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    (folder / "bin/python").symlink_to(Path(sys.executable).resolve())
    entries = {"cmcgns": "cmcgns.__main__", "snakemake": "snakemake.cli", "dvc": "dvc.cli"}
    for name, module in entries.items():
        script = folder / "bin" / name
        script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        script.chmod(0o755)
