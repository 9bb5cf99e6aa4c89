"""YOLOv3's head for one class on the last three maps of a ResNet (data.md 7.2)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS = ("layer2", "layer3", "layer4")  # what the head reads: strides 8, 16, 32

_ANCHOR_SIDE = 416  # the input size in pixels that the published anchors are meant for
_ANCHORS = (
    ((116, 90), (156, 198), (373, 326)),  # stride 32
    ((30, 61), (62, 45), (59, 119)),  # stride 16
    ((10, 13), (16, 30), (33, 23)),  # stride 8
)
_MAX_LOG_SIZE = 8.0  # 3000 times the anchor: keeps exp() of an untrained head finite


def anchors() -> Tensor:
    """(3 scales, 3, 2) width and height as fractions of the image, coarse scale first.

    As fractions they fit an input of any size, as the published ones do after scaling by size / 416.
    """
    return torch.tensor(_ANCHORS, dtype=torch.float32) / _ANCHOR_SIDE


class YoloHead(nn.Module):
    """Three scales, each with a block of convolutions and a way up to the next finer one.

    Args:
        in_channels: channels of layer2, layer3, layer4: (512, 1024, 2048) for ResNet-50.
        width: multiplies the head's channels; 1 is YOLOv3's 512/1024, 256/512 and 128/256.
    """

    def __init__(self, in_channels: Sequence[int], *, width: float = 1.0):
        super().__init__()
        fine, middle, coarse = in_channels
        wide = {channels: max(1, round(channels * width)) for channels in (128, 256, 512, 1024)}
        self.scales = nn.ModuleList(
            [
                _Scale(coarse, wide[512], wide[1024]),
                _Scale(middle + wide[256], wide[256], wide[512]),
                _Scale(fine + wide[128], wide[128], wide[256]),
            ]
        )
        self.ups = nn.ModuleList([_conv(wide[512], wide[256], 1), _conv(wide[256], wide[128], 1)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of layer2, layer3, layer4, (B, C, G, G) each -> raw outputs (B, 3, 6, G, G), coarse scale first.

        The six channels are x, y, w, h, object, class.
        """
        fine, middle, x = maps
        outputs = []
        for scale, up, skip in zip(self.scales, [*self.ups, None], [middle, fine, None], strict=True):
            branch, output = scale(x)
            outputs.append(output.unflatten(1, (3, 6)))
            if up is not None:
                x = torch.cat([F.interpolate(up(branch), size=skip.shape[-2:], mode="nearest"), skip], 1)
        return outputs


class _Scale(nn.Module):
    """1x1 and 3x3 convolutions in turn, three of each, then the output; the branch leaves after the fifth."""

    def __init__(self, in_channels: int, narrow: int, wide: int):
        super().__init__()
        self.block = nn.Sequential(
            _conv(in_channels, narrow, 1),
            _conv(narrow, wide, 3),
            _conv(wide, narrow, 1),
            _conv(narrow, wide, 3),
            _conv(wide, narrow, 1),
        )
        self.last = _conv(narrow, wide, 3)
        self.output = nn.Conv2d(wide, 3 * 6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        branch = self.block(x)
        return branch, self.output(self.last(branch))


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.1),
    )


def decode(outputs: Sequence[Tensor], shapes: Tensor) -> tuple[Tensor, Tensor]:
    """Raw outputs -> boxes and their scores (the object probability; with one class the class says nothing).

    Args:
        outputs: one (B, A, 6, G, G) per scale.
        shapes: (scales, A, 2) `anchors()`.

    Returns:
        (B, N, 4) corners x1, y1, x2, y2 as fractions of the image, may lie partly outside; (B, N) in [0, 1].
    """
    corners, scores = [], []
    for output, anchor in zip(outputs, shapes.to(outputs[0].device), strict=True):
        x, y, w, h, found, _ = output.float().unbind(2)  # (B, A, G, G) each
        grid = output.shape[-1]
        cells = torch.arange(grid, device=output.device)
        centre = torch.stack([(x.sigmoid() + cells) / grid, (y.sigmoid() + cells[:, None]) / grid], -1)
        size = torch.stack([w, h], -1).clamp(max=_MAX_LOG_SIZE).exp() * anchor[:, None, None]
        corners.append(torch.cat([centre - size / 2, centre + size / 2], -1).flatten(1, 3))
        scores.append(found.sigmoid().flatten(1))
    return torch.cat(corners, 1), torch.cat(scores, 1)
