"""The step `pretrain`: files and settings in, the weights of one phase out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmcgns.objectives.build import build_objective, load_weights
from cmcgns.parquet import read_meta
from cmcgns.training.data import Demand, load_pairs
from cmcgns.training.loop import stop_requests, train_phase
from cmcgns.training.trackers import tracker


def pretrain(
    *,
    arm: str,
    phase: str,
    store: Path,
    store_table: Path,
    index: Path,
    split: Path,
    best: Path,
    last: Path,
    history: Path,
    compute: Path,
    tokens: Path | None = None,
    encoder: Path | None = None,
    start: Path | None = None,
    tracking: dict[str, str] | None = None,
    checkpoint_minutes: float = 10,
    identity: str = "",
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> None:
    """Train one phase of one method.

    Args:
        arm: the name to show.
        store, store_table, index, split: of MIMIC-CXR.
        best, last, history, compute: what `train_phase` writes, in one folder; it also keeps there what it resumes from.
        tokens: of the reports, unless the method has no text.
        encoder: weights that the image encoder starts from, unless settings name them.
        start: weights of the phase before, or None for the first phase.
        tracking: `backend, folder, run` of live logs (`training.trackers`).
        checkpoint_minutes: how often to save for resuming.
        identity: of the job; a half-finished run of another identity is not resumed.
        settings: the slice `class, augmentation, encoders, images, pretraining, training, objective`.
        say: gets lines of text; `progress`: see `train_phase`.
    """
    import torch

    general, encoders = settings["pretraining"], settings["encoders"]
    if encoder is not None:
        encoders = encoders | {"image": encoders["image"] | {"weights": str(encoder)}}
    torch.set_num_threads(general["threads"])
    objective = build_objective(
        settings["class"], encoders, settings["objective"], seed=general["seed"],
        vocab_size=read_meta(tokens)["vocab_size"] if tokens else None, size=settings["images"]["size"],
    )  # fmt: skip
    if start is not None:
        load_weights(objective, start)
    files = {"store": store, "store_table": store_table, "index": index, "split": split, "tokens": tokens}
    pairs = load_pairs(**files, **settings["images"], subsets=("train", "valid"))
    say(f"{arm} {phase}: {len(pairs['train'])} training and {len(pairs['valid'])} validation pairs")
    live = tracking or {"backend": "none", "folder": "", "run": ""}
    with (
        stop_requests() as asked,
        tracker(**live, settings=settings, code=identity, warn=say) as log,
    ):
        train_phase(
            objective,
            pairs["train"],
            pairs["valid"],
            demand=Demand(objective.views, objective.text, settings["augmentation"]),
            phase=phase,
            training=settings["training"],
            seed=general["seed"],
            pairing=general["pairing"],
            out=best.parent,
            identity=identity,
            devices=general["devices"],
            checkpoint_minutes=checkpoint_minutes,
            progress=say,
            tick=progress,
            log=log,
            asked=asked,
        )
