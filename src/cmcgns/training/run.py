"""The step `pretrain`: files and settings in, the weights of one phase out."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from cmcgns.files import read_meta, sha256_file
from cmcgns.models.image import build_trunk
from cmcgns.models.text import build_text_encoder
from cmcgns.objectives.base import Objective
from cmcgns.randomness import derive
from cmcgns.settings import canonical
from cmcgns.training.data import load_pairs
from cmcgns.training.loop import load_weights, train_phase

# A method is imported by name, so that its file is part of its own runs' fingerprint and of no other's.
OBJECTIVES = {"cm_cgns": "CMCGNS"}


def build_objective(
    method: str,
    encoders: dict[str, Any],
    parameters: dict[str, Any],
    *,
    seed: int,
    vocab_size: int,
    size: int,
) -> Objective:
    """The method's model at its start: encoders from `encoders`, everything else random from `seed`."""
    trunk = build_trunk(encoders["image"]["arch"], encoders["image"]["weights"], seed=derive(seed, "trunk"))
    sizes = {key: value for key, value in encoders["text"].items() if key != "name" and value is not None}
    if encoders["text"]["name"] == "random":
        sizes["vocab_size"] = vocab_size
    text = build_text_encoder(encoders["text"]["name"], seed=derive(seed, "text"), config=sizes)
    objective = getattr(import_module(f"cmcgns.objectives.{method}"), OBJECTIVES[method])
    return objective(trunk, text, image_size=size, seed=derive(seed, "objective"), **parameters)


def pretrain(
    *,
    method: str,
    phase: str,
    start: Path | None,
    files: dict[str, Path],
    settings: dict[str, Any],
    code: str,
    out: Path,
    checkpoint_minutes: float = 10,
    progress: Callable[[str], None] = print,
) -> None:
    """Train one phase of one method into the folder `out`.

    Args:
        start: weights of the phase before, or None for the first phase.
        files: `store, store_table, index, split, tokens`.
        settings: the slice `encoders, images, pretraining, training, objective` of the settings.
        code: the fingerprint of the step's code; a half-finished run of other code is not resumed.
    """
    import torch

    general = settings["pretraining"]
    torch.set_num_threads(general["threads"])
    objective = build_objective(
        method, settings["encoders"], settings["objective"], seed=general["seed"],
        vocab_size=read_meta(files["tokens"])["vocab_size"], size=settings["images"]["size"],
    )  # fmt: skip
    if start is not None:
        load_weights(objective, start)
    pairs = load_pairs(**files, **settings["images"], subsets=("train", "valid"))
    progress(f"{method} {phase}: {len(pairs['train'])} training and {len(pairs['valid'])} validation pairs")
    train_phase(
        objective,
        pairs["train"],
        pairs["valid"],
        phase=phase,
        training=settings["training"],
        seed=general["seed"],
        pairing=general["pairing"],
        out=out,
        identity=_identity(files, settings, code),
        devices=general["devices"],
        checkpoint_minutes=checkpoint_minutes,
        progress=progress,
    )


def _identity(files: dict[str, Path], settings: dict[str, Any], code: str) -> str:
    """Equal for two runs that must give the same weights; the store is known by its table's hashes."""
    hashes = {name: sha256_file(path) for name, path in files.items() if name != "store"}
    return canonical({"files": hashes, "settings": settings, "code": code})
