"""Decoders of conditional cross-modal reconstruction: an image and a set of sentences (PRIOR)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UpBlockDecoder(nn.Sequential):
    """Five blocks of nearest x2 and two 3x3 convolution - batch norm - ReLU, each halving the channels.

    (B, C, h, w) -> (B, 1, 32 h, 32 w), a grey image without activation.
    """

    def __init__(self, channels: int):
        layers: list[nn.Module] = []
        for _ in range(5):
            outputs = max(1, channels // 2)
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            for inputs in (channels, outputs):
                layers += [
                    nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                ]
            channels = outputs
        super().__init__(*layers, nn.Conv2d(channels, 1, 3, padding=1))


class ReportDecoder(nn.Module):
    """Learned queries that become sentences by looking at the image: layers of BERT with cross attention.

    All queries see each other. The released decoder says so too, but is built as a causal one.

    Args:
        slots: number of queries, the most sentences of a report.
    """

    def __init__(self, dim: int, *, slots: int, layers: int, heads: int, dropout: float):
        super().__init__()
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
