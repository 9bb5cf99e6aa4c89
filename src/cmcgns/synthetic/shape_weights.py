"""The step `shape-weights`: an image encoder that has learnt to name drawn shapes, a start that knows nothing of chests."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from cmcgns.files import atomic
from cmcgns.models.image import build_trunk, feature_dim
from cmcgns.models.seeding import seeded
from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.shapes import SHAPES, draw_shapes

WARM_UP = 0.1  # share of the steps


def train_shape_weights(
    *,
    arch: str,
    size: int,
    images: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
    threads: int,
    out: Path,
    say: Callable[[str], None] = print,
) -> float:
    """Train a ResNet from a random start, one pass over `images` drawings, and write it with torchvision's names.

    On a GPU where there is one, then not to the same bytes each time.

    Args:
        size: side of a drawing in pixels.

    Returns:
        Mean binary cross entropy over the last tenth of the steps.
    """
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trunk = build_trunk(arch, "random", seed=seed).train().to(device)
    with seeded(seed, "shapes"):
        head = nn.Linear(feature_dim(trunk), len(SHAPES)).to(device)
    optimizer = torch.optim.AdamW([*trunk.parameters(), *head.parameters()], lr=lr, weight_decay=weight_decay)
    steps = images // batch_size
    rng, losses = numpy_rng(seed, "shapes"), []
    for step in range(steps):
        for group in optimizer.param_groups:
            rising = min(1.0, (step + 1) / (WARM_UP * steps))
            group["lr"] = lr * rising * 0.5 * (1 + math.cos(math.pi * step / steps))
        pictures, present = (part.to(device) for part in _batch(rng, batch_size, size))
        loss = F.binary_cross_entropy_with_logits(head(trunk(pictures)), present)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 49:
            say(f"step {step + 1} of {steps}: loss {np.mean(losses[-50:]):.4f}")
    state = {name: value.contiguous().cpu() for name, value in trunk.state_dict().items()}
    with atomic(out) as temporary:
        save_file(state, temporary)
    return float(np.mean(losses[-max(1, steps // 10) :]))


def _batch(rng: np.random.Generator, count: int, size: int) -> tuple[Tensor, Tensor]:
    drawn = [draw_shapes(rng, size) for _ in range(count)]
    grey = torch.from_numpy(np.stack([picture for picture, _ in drawn])).unsqueeze(1)
    pictures = grey.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    return pictures, torch.from_numpy(np.stack([present for _, present in drawn]))
