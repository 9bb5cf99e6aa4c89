"""The step `export-trunk`: the image encoder alone, as every downstream run reads it."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from cmcgns.files import atomic
from cmcgns.models.image import build_trunk


def export_trunk(
    *, arch: str, initial: str, seed: int, out: Path, weights: Path | None = None, start: Path | None = None
) -> None:
    """Write the image encoder with torchvision's names and no `fc`.

    Args:
        weights: an objective's weights, or None for an encoder that was not pre-trained.
        start, initial: for the latter a file of weights, or a name that `build_trunk` knows.
        seed: of the random start.
    """
    if weights is None:
        state = build_trunk(arch, str(start or initial), seed=seed).state_dict()
    else:
        whole = load_file(weights)
        state = {name.removeprefix("trunk."): whole[name] for name in whole if name.startswith("trunk.")}
    with atomic(out) as temporary:
        save_file({name: value.clone().contiguous() for name, value in state.items()}, temporary)
