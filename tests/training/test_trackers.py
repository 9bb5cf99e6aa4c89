"""Trackers, with stand-ins for their packages: what is logged under which step and into which run."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from cmcgns.errors import InputError
from cmcgns.training.trackers import tracker

ROWS = [{"epoch": 1, "lr": 0.1, "train_loss": 2.0}, {"epoch": 2, "lr": 0.05, "train_loss": 1.0}]
SETTINGS = {"training": {"lr": 0.1, "milestones": [1, 2]}, "class": "clip.CLIP"}


class MlflowClient:
    """Keeps what it is told, as long as the class lives: the data base of a test."""

    experiments: dict[str, str]
    runs: dict[str, SimpleNamespace]

    def __init__(self, tracking_uri: str) -> None:
        assert tracking_uri.startswith("sqlite:////")

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name, artifact_location):
        assert name not in self.experiments
        self.experiments[name] = f"e{len(self.experiments)}"
        return self.experiments[name]

    def search_runs(self, experiments, text, max_results):
        return [run for run in self.runs.values() if text == f"tags.key = '{run.tags['key']}'"]

    def create_run(self, experiment, run_name, tags):
        info = SimpleNamespace(run_id=f"r{len(self.runs)}")
        run = SimpleNamespace(info=info, name=run_name, tags=tags, params={}, metrics=[], status="RUNNING")
        self.runs[info.run_id] = run
        return run

    def update_run(self, run_id, status):
        self.runs[run_id].status = status

    def log_param(self, run_id, name, value):
        assert self.runs[run_id].params.get(name, value) == value  # as MLflow: never another value
        self.runs[run_id].params[name] = value

    def log_metric(self, run_id, name, value, step):
        self.runs[run_id].metrics.append((step, name, value))

    def set_terminated(self, run_id, status):
        self.runs[run_id].status = status


@pytest.fixture
def mlflow(monkeypatch):
    MlflowClient.experiments, MlflowClient.runs = {}, {}
    module = ModuleType("mlflow")
    module.MlflowClient = MlflowClient
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return MlflowClient


@pytest.fixture
def wandb(monkeypatch):
    calls = []

    def init(**options):
        calls.append(("init", options))
        return SimpleNamespace(
            log=lambda values, step: calls.append(("log", step, values)),
            finish=lambda exit_code: calls.append(("finish", exit_code)),
        )

    module = ModuleType("wandb")
    module.init, module.Settings = init, lambda **options: options
    monkeypatch.setitem(sys.modules, "wandb", module)
    return calls


@pytest.fixture
def tensorboard(monkeypatch):
    calls = []

    class SummaryWriter:
        def __init__(self, folder):
            calls.append(("open", folder))

        def add_text(self, name, text):
            calls.append((name, text))

        def add_scalar(self, name, value, step):
            calls.append((step, name, value))

        def flush(self):
            calls.append("flush")

        def close(self):
            calls.append("close")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(
        sys.modules, "torch", ModuleType("torch")
    )  # the real one takes seconds and is not needed
    monkeypatch.setitem(sys.modules, "torch.utils", ModuleType("torch.utils"))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return calls


def train(folder, backend, settings=SETTINGS, rows=ROWS, code="c"):
    with tracker(backend, folder, run="demo/clip/stage1", settings=settings, code=code) as log:
        for row in rows:
            log(row)


SCALARS = [(1, "lr", 0.1), (1, "train_loss", 2.0), (2, "lr", 0.05), (2, "train_loss", 1.0)]


def test_none_leaves_no_trace(tmp_path):
    train(tmp_path, "none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK"])
def test_only_the_first_process_logs(tmp_path, monkeypatch, mlflow, name):
    monkeypatch.setenv(name, "1")
    train(tmp_path, "mlflow")
    assert mlflow.runs == {} and list(tmp_path.iterdir()) == []
    monkeypatch.setenv(name, "0")
    train(tmp_path, "mlflow")
    assert len(mlflow.runs) == 1


def test_mlflow_has_a_value_an_epoch_and_the_settings_by_dotted_names(tmp_path, mlflow):
    train(tmp_path, "mlflow")
    (run,) = mlflow.runs.values()
    assert run.metrics == SCALARS
    assert run.params == {"training.lr": 0.1, "training.milestones": [1, 2], "class": "clip.CLIP"}
    assert run.name.startswith("demo/clip/stage1-") and run.status == "FINISHED"


def test_a_resumed_training_goes_on_in_its_run(tmp_path, mlflow):
    with pytest.raises(SystemExit), tracker("mlflow", tmp_path, run="r", settings=SETTINGS) as log:
        log(ROWS[0])
        raise SystemExit(143)
    (run,) = mlflow.runs.values()
    assert run.status == "KILLED"
    with tracker("mlflow", tmp_path, run="r", settings=SETTINGS) as log:
        assert run.status == "RUNNING"
        log(ROWS[1])
    assert list(mlflow.runs.values()) == [run]
    assert run.metrics == SCALARS and run.status == "FINISHED"


def test_changed_settings_or_code_are_a_run_of_their_own(tmp_path, mlflow):
    train(tmp_path, "mlflow")
    train(tmp_path, "mlflow", settings=SETTINGS | {"class": "other"})
    train(tmp_path, "mlflow", code="d")
    train(tmp_path, "mlflow", settings=dict(reversed(SETTINGS.items())))  # the same as the first
    assert len(mlflow.runs) == 3 and len(mlflow.experiments) == 1


def test_wandb_stays_offline(tmp_path, wandb):
    train(tmp_path, "wandb")
    train(tmp_path, "wandb", code="d")
    first, *logs, end = wandb[:4]
    assert first[1]["mode"] == "offline" and first[1]["config"] == SETTINGS
    assert first[1]["dir"] == str(tmp_path)
    assert logs == [
        ("log", 1, {"lr": 0.1, "train_loss": 2.0}),
        ("log", 2, {"lr": 0.05, "train_loss": 1.0}),
    ]
    assert end == ("finish", 0)
    assert wandb[4][1]["id"] != first[1]["id"]


def test_tensorboard_writes_every_epoch_out_at_once(tmp_path, tensorboard):
    train(tmp_path, "tensorboard")
    (_, folder), (_, text), *rest = tensorboard
    assert folder.parent == tmp_path / "tensorboard/demo/clip" and '"clip.CLIP"' in text
    assert rest == [*SCALARS[:2], "flush", *SCALARS[2:], "flush", "close"]


def test_a_failing_tracker_is_told_and_the_training_goes_on(tmp_path, mlflow, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(mlflow, "log_metric", full)
    monkeypatch.setattr(mlflow, "set_terminated", full)
    told = []
    with tracker("mlflow", tmp_path, run="r", settings={}, warn=told.append) as log:
        log(ROWS[0])
        log(ROWS[1])
    assert told == ["tracking by mlflow failed: no space left"] * 3


def test_an_error_of_the_training_is_not_swallowed(tmp_path, wandb):
    with pytest.raises(ValueError, match="boom"), tracker("wandb", tmp_path, run="r", settings={}):
        raise ValueError("boom")
    assert wandb[-1] == ("finish", 1)


@pytest.mark.parametrize("backend", ["mlflow", "wandb"])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, backend):
    monkeypatch.setitem(sys.modules, backend, None)  # importing it fails
    with pytest.raises(InputError, match=rf"{backend} needs a package.*pip install 'cmcgns\[{backend}\]'"):
        train(tmp_path, backend)
