"""Optional logs of a training for TensorBoard, MLflow or Weights & Biases, in a local folder; nothing is sent anywhere.

`history.csv` has the same numbers and is what tables and plots read. A run's name ends in a hash of its settings and code:
a resumed training goes on in its run, a changed one is a run of its own.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import canonical

Row = dict[str, float]  # of history.csv
Log = Callable[[Row], None]
Close = Callable[[bool], None]  # told whether the training came to its end


@contextmanager
def tracker(
    backend: str,
    folder: str | Path,
    *,
    run: str,
    settings: dict[str, Any],
    code: str = "",
    warn: Callable[[str], None] = print,
) -> Iterator[Log]:
    """A function to be called with each row of `history.csv`; of a training's several processes only the first logs.

    Args:
        backend: none, tensorboard, mlflow or wandb.
        folder: each backend writes into a folder of its own below.
        run: such as "demo/cm_cgns/stage1".
        settings: shown with the run.
        warn: told of a tracker that fails while the training runs, which goes on.

    Raises:
        InputError: the backend's package is not installed.
    """
    # torchrun sets RANK, Fabric's own launcher LOCAL_RANK
    if backend == "none" or os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) != "0":
        yield lambda row: None
        return

    def attempt(action: Callable[..., None], *values: Any) -> None:
        try:
            action(*values)
        except Exception as error:  # whatever it is, it is worth less than days of training
            warn(f"tracking by {backend} failed: {error}")

    name = f"{run}-{hashlib.sha256(canonical([settings, code]).encode()).hexdigest()[:8]}"
    place = Path(folder).absolute() / backend
    place.mkdir(parents=True, exist_ok=True)
    try:
        log, close = BACKENDS[backend](place, name, settings)
    except ImportError as error:
        raise InputError(
            f"tracking by {backend} needs a package that is not there ({error.name})",
            remedy=f"pip install 'cmcgns[{backend}]', or set tracking.backend to none",
        ) from None
    finished = False
    try:
        yield lambda row: attempt(log, row)
        finished = True
    finally:
        attempt(close, finished)


def _tensorboard(place: Path, run: str, settings: dict[str, Any]) -> tuple[Log, Close]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(place / run)
    writer.add_text("settings", f"```\n{json.dumps(settings, indent=1)}\n```")

    def log(row: Row) -> None:
        for name, value in _scalars(row):
            writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return log, lambda finished: writer.close()


def _mlflow(place: Path, run: str, settings: dict[str, Any]) -> tuple[Log, Close]:
    from mlflow import MlflowClient

    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # trainings that start together must not both make the tables
        client = MlflowClient(tracking_uri=f"sqlite:///{place}/mlflow.db")
        found = client.get_experiment_by_name("cmcgns")
        experiment = found.experiment_id if found else client.create_experiment(
            "cmcgns", artifact_location=(place / "artifacts").as_uri()
        )  # fmt: skip
        runs = client.search_runs([experiment], f"tags.key = '{run}'", max_results=1)
        known = runs[0] if runs else client.create_run(experiment, run_name=run, tags={"key": run})
        number = known.info.run_id
        client.update_run(number, status="RUNNING")
        for name, value in _flat(settings):
            client.log_param(number, name, value)

    def log(row: Row) -> None:
        for name, value in _scalars(row):
            client.log_metric(number, name, value, step=int(row["epoch"]))

    return log, lambda finished: client.set_terminated(number, "FINISHED" if finished else "KILLED")


def _wandb(place: Path, run: str, settings: dict[str, Any]) -> tuple[Log, Close]:
    import wandb

    key = hashlib.sha256(run.encode()).hexdigest()[:16]  # the service joins what has one id
    active = wandb.init(
        project="cmcgns", id=key, name=run, dir=str(place.parent), config=settings, mode="offline",  # it adds "wandb"
        settings=wandb.Settings(console="off", silent=True),
    )  # fmt: skip
    return (
        lambda row: active.log(dict(_scalars(row)), step=int(row["epoch"])),
        lambda finished: active.finish(exit_code=0 if finished else 1),
    )


BACKENDS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def _scalars(row: Row) -> Iterator[tuple[str, float]]:
    return ((name, float(value)) for name, value in row.items() if name != "epoch")


def _flat(settings: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
