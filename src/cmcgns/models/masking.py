"""The random mask of masked image reconstruction."""

import torch
from torch import Tensor

from cmcgns.errors import InputError


def mask_regions(
    regions: Tensor, generator: torch.Generator, *, ratio: float = 0.5, unit: str = "position"
) -> Tensor:
    """Set each unit to zero with probability `ratio`, without rescaling the rest (method.md 6).

    Args:
        regions: (B, P, D)
        unit: "position" masks whole regions (paper), "channel" whole channels (released code), "element" numbers.
    """
    batch, positions, channels = regions.shape
    shapes = {
        "position": (batch, positions, 1),
        "channel": (batch, 1, channels),
        "element": (batch, positions, channels),
    }
    if unit not in shapes:
        raise InputError(f"unknown mask_unit {unit!r}", expected=f"one of {', '.join(shapes)}")
    keep = torch.rand(shapes[unit], generator=generator, device=generator.device) >= ratio
    return regions * keep.to(regions.device, regions.dtype)
