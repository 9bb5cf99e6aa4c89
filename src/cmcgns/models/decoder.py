"""The decoder of cross-modal masked image reconstruction (CM-MIR)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cmcgns.errors import InputError

ACTIVATIONS = ("tanh", "relu_tanh", "none")


def _double() -> nn.Module:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)


class ImageDecoder(nn.Module):
    """Five 3x3 convolutions, each followed by bilinear x2: one cell of the grid becomes 32 x 32 pixels (method.md 6).

    Args:
        dim: D, channels of each of its two inputs.
        widths: channels after the first four convolutions; the fifth gives RGB.
        output_activation: "tanh" fits the target's range [-1, 1]; "relu_tanh" is the released code's, which cannot
            draw below mid-grey; "none".
    """

    def __init__(
        self,
        dim: int,
        *,
        widths: Sequence[int] = (512, 256, 128, 64),
        output_activation: str = "tanh",
    ):
        super().__init__()
        if len(widths) != 4:
            raise InputError(
                f"{len(widths)} decoder widths", expected="4: the trunk halves the image 5 times"
            )
        if output_activation not in ACTIVATIONS:
            raise InputError(
                f"unknown output_activation {output_activation!r}",
                expected=f"one of {', '.join(ACTIVATIONS)}",
            )
        layers: list[nn.Module] = []
        for inputs, outputs in zip((2 * dim, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), _double()]
        layers.append(nn.Conv2d(widths[-1], 3, 3, padding=1))
        if output_activation == "relu_tanh":
            layers.append(nn.ReLU())
        layers.append(_double())
        if output_activation != "none":
            layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, regions: Tensor, cross: Tensor, grid: tuple[int, int]) -> Tensor:
        """regions and cross (B, P, D), P = h * w row by row, grid (h, w) -> (B, 3, 32 h, 32 w)."""
        joined = torch.cat([regions.float(), cross.float()], -1)
        return self.layers(joined.mT.reshape(joined.shape[0], -1, *grid))
