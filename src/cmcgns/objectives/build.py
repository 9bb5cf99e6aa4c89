"""A method's model by name: built from settings, its weights written and read."""

from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cmcgns.errors import InputError
from cmcgns.files import atomic
from cmcgns.models.image import build_trunk
from cmcgns.models.text import build_text_encoder
from cmcgns.objectives.base import Objective
from cmcgns.randomness import derive


def build_objective(
    kind: str,
    encoders: dict[str, Any],
    parameters: dict[str, Any],
    *,
    seed: int,
    vocab_size: int | None,
    size: int,
) -> Objective:
    """A method's model at its start: encoders from `encoders`, everything else random from `seed`.

    Args:
        kind: module and class, such as "moco.MoCo". By name, so that a method's file is part of the fingerprint of its
            own runs and of no other's.
    """
    trunk = build_trunk(encoders["image"]["arch"], encoders["image"]["weights"], seed=derive(seed, "trunk"))
    module, name = kind.split(".")
    objective = getattr(import_module(f"cmcgns.objectives.{module}"), name)
    if objective.text == "none":
        return objective(trunk, None, image_size=size, seed=derive(seed, "objective"), **parameters)
    sizes = {key: value for key, value in encoders["text"].items() if key != "name" and value is not None}
    if encoders["text"]["name"] == "random":
        sizes["vocab_size"] = vocab_size
    text = build_text_encoder(encoders["text"]["name"], seed=derive(seed, "text"), config=sizes)
    return objective(trunk, text, image_size=size, seed=derive(seed, "objective"), **parameters)


def save_weights(objective: Objective, path: Path) -> None:
    """Write the objective's whole state, buffers included."""
    with atomic(path) as temporary:
        save_file(
            {
                name: value.detach().cpu().clone().contiguous()
                for name, value in objective.state_dict().items()
            },
            temporary,
        )


def load_weights(objective: Objective, path: Path) -> None:
    """Read what `save_weights` wrote; every name must fit.

    Raises:
        InputError: when the file belongs to another model.
    """
    if not path.exists():
        raise InputError("the weights do not exist", file=path, remedy="run the pre-training first")
    try:
        objective.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"the weights do not fit the model: {reason}", file=path, remedy="run the phase again"
        ) from None
