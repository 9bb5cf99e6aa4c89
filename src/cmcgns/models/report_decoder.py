"""Decoders of conditional cross-modal reconstruction: an image and a set of sentences (PRIOR)."""

import torch
from torch import Tensor, nn

from cmcgns.errors import InputError
from cmcgns.models.masking import mask_regions


class UpBlockDecoder(nn.Module):
    """Draws a grey image: five blocks of nearest x2 and two 3x3 convolution - batch norm - ReLU, each halving channels.

    Args:
        dim: D, channels of each of its two inputs.
        drop_channels: part of the first input's channels that are set to 0, the others being scaled up for it.
    """

    def __init__(self, dim: int, drop_channels: float):
        super().__init__()
        self.drop_channels = drop_channels
        channels, layers = 2 * dim, []
        for _ in range(5):
            outputs = max(1, channels // 2)
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            for inputs in (channels, outputs):
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
            channels = outputs
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, padding=1))

    def forward(
        self, regions: Tensor, cross: Tensor, grid: tuple[int, int], generator: torch.Generator | None = None
    ) -> Tensor:
        """regions and cross (B, P, D), P = h * w row by row, grid (h, w) -> (B, 1, 32 h, 32 w).

        Args:
            generator: of the dropped channels; None = none are dropped.
        """
        if generator is not None:
            kept = mask_regions(regions, generator, ratio=self.drop_channels, unit="channel")
            regions = kept / (1 - self.drop_channels)
        return self.layers(torch.cat([regions, cross], -1).mT.unflatten(-1, grid))


class ReportDecoder(nn.Module):
    """Learned queries that become sentences by looking at the image: layers of BERT with cross attention.

    All queries see each other. The released decoder says so too, but is built as a causal one.

    Args:
        slots: number of queries, the most sentences of a report.
    """

    def __init__(self, dim: int, slots: int, layers: int, heads: int, dropout: float):
        super().__init__()
        if dim % heads:
            raise InputError(f"a report decoder of {dim} dimensions cannot have {heads} heads")
        self.queries = nn.Parameter(torch.randn(slots, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                dim, heads, 4 * dim, dropout, activation="gelu", layer_norm_eps=1e-12, batch_first=True
            )
            for _ in range(layers)
        )
        for name, parameter in self.layers.named_parameters():  # as BERT starts
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, regions: Tensor) -> Tensor:
        """regions (B, P, D) -> (B, slots, D)."""
        x = self.dropout(self.norm(self.queries).expand(len(regions), -1, -1))
        for layer in self.layers:
            x = layer(x, regions)
        return x
