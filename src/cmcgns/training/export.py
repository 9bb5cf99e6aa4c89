"""The step `export-trunk`: the image encoder alone, as every downstream run reads it."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file

from cmcgns.files import atomic
from cmcgns.models.image import build_trunk


def export_trunk(*, weights: Path | None, arch: str, initial: str, seed: int, out: Path) -> None:
    """Write the image encoder with torchvision's names and no `fc`.

    Args:
        weights: an objective's weights, or None for an encoder that was not pre-trained.
        initial: for the latter, what `build_trunk` takes: `random`, `imagenet1k_v1`, a file.
        seed: of the random start.
    """
    if weights is None:
        state = build_trunk(arch, initial, seed=seed).state_dict()
    else:
        whole = load_file(weights)
        state = {name.removeprefix("trunk."): whole[name] for name in whole if name.startswith("trunk.")}
    with atomic(out) as temporary:
        save_file({name: value.clone().contiguous() for name, value in state.items()}, temporary)
