"""The step `pretrain`: files and settings in, the weights of one phase out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cmcgns.files import canonical, sha256_file
from cmcgns.objectives.build import build_objective, load_weights
from cmcgns.parquet import read_meta
from cmcgns.training.data import Demand, load_pairs
from cmcgns.training.loop import stop_requests, train_phase


def pretrain(
    *,
    arm: str,
    phase: str,
    start: Path | None,
    files: dict[str, Path],
    settings: dict[str, Any],
    code: str,
    out: Path,
    checkpoint_minutes: float = 10,
    progress: Callable[[str], None] = print,
    tick: Callable[[int, int], None] | None = None,
    log: Callable[[dict[str, float]], None] = lambda row: None,
) -> None:
    """Train one phase of one method into the folder `out`.

    Args:
        arm: the name to show.
        start: weights of the phase before, or None for the first phase.
        files: `store, store_table, index, split`, and `tokens` unless the method has no text.
        settings: the slice `class, augmentation, encoders, images, pretraining, training, objective` of the settings.
        code: the fingerprint of the step's code; a half-finished run of other code is not resumed.
        progress, tick, log: as for `train_phase`.
    """
    import torch

    general = settings["pretraining"]
    torch.set_num_threads(general["threads"])
    objective = build_objective(
        settings["class"], settings["encoders"], settings["objective"], seed=general["seed"],
        vocab_size=read_meta(files["tokens"])["vocab_size"] if "tokens" in files else None,
        size=settings["images"]["size"],
    )  # fmt: skip
    if start is not None:
        load_weights(objective, start)
    pairs = load_pairs(**{"tokens": None} | files, **settings["images"], subsets=("train", "valid"))
    progress(f"{arm} {phase}: {len(pairs['train'])} training and {len(pairs['valid'])} validation pairs")
    with stop_requests() as asked:
        train_phase(
            objective,
            pairs["train"],
            pairs["valid"],
            demand=Demand(objective.views, objective.text, settings["augmentation"]),
            phase=phase,
            training=settings["training"],
            seed=general["seed"],
            pairing=general["pairing"],
            out=out,
            identity=_identity(files if start is None else {**files, "start": start}, settings, code),
            devices=general["devices"],
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
            tick=tick,
            log=log,
            asked=asked,
        )


def _identity(files: dict[str, Path], settings: dict[str, Any], code: str) -> str:
    """Equal for two runs that must give the same weights; the store is known by its table's hashes."""
    hashes = {name: sha256_file(path) for name, path in files.items() if name != "store"}
    return canonical({"files": hashes, "settings": settings, "code": code})
