"""The step `shape-weights`: an image encoder that has learnt to name drawn shapes, a start that knows nothing of chests.

Weights learnt from drawings instead of photographs: as in formula-driven pre-training (Kataoka et al., ACCV 2020). Nothing
here is taken from the synthetic radiographs, their findings or their reports.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from cmcgns.files import atomic
from cmcgns.models.image import build_trunk, feature_dim
from cmcgns.models.seeding import seeded
from cmcgns.randomness import numpy_rng

WARM_UP = 0.1  # share of the steps


def _edge(distance: np.ndarray, softness: float = 0.08) -> np.ndarray:
    """1 inside (`distance` above 0), 0 outside, with a soft border."""
    return 1 / (1 + np.exp(-np.clip(distance / softness, -30, 30)))


def _radius(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt(u * u + v * v)


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(abs(u), abs(v))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    bar = np.minimum(0.22 - abs(u), 1 - abs(v))
    return _edge(np.maximum(bar, np.minimum(0.22 - abs(v), 1 - abs(u))))


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _edge(np.minimum(0.5 - v, (1.2 + v - 1.7 * abs(u)) / 2))


# In coordinates of the shape itself, about -1..1 inside: (u, v, rng) -> how much of it is where, 0..1 (speckle: -1..1).
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "disc": lambda u, v, rng: _edge(1 - _radius(u, v)),
    "ring": lambda u, v, rng: _edge(0.2 - abs(_radius(u, v) - 0.8)),
    "square": lambda u, v, rng: _edge(1 - _square(u, v)),
    "frame": lambda u, v, rng: _edge(0.2 - abs(_square(u, v) - 0.8)),
    "triangle": lambda u, v, rng: _triangle(u, v),
    "cross": lambda u, v, rng: _cross(u, v),
    "stripes": lambda u, v, rng: _edge(1 - _radius(u, v)) * (0.5 + 0.5 * np.sin(u * rng.uniform(7, 12))),
    "checker": lambda u, v, rng: _edge(1 - _square(u, v)) * (np.sin(7 * u) * np.sin(7 * v) > 0),
    "blob": lambda u, v, rng: np.exp(-1.5 * (u * u + v * v)),
    "speckle": lambda u, v, rng: (
        _edge(1 - _radius(u, v)) * np.clip(rng.standard_normal(u.shape).astype(np.float32), -1, 1)
    ),
    "line": lambda u, v, rng: _edge(0.06 - abs(0.6 * v), 0.03) * _edge(2.2 - abs(u)),
    "arc": lambda u, v, rng: _edge(0.12 - abs(_radius(u, v) - 1.2), 0.04) * (v > 0),
    "plate": lambda u, v, rng: _edge(0.3 - abs(v)) * _edge(1.5 - abs(u)),
    "star": lambda u, v, rng: _edge(0.75 + 0.35 * np.cos(5 * np.arctan2(v, u)) - _radius(u, v)),
}


def draw_shapes(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One to three kinds of shapes, once or twice each, at any place, size and angle, lighter or darker than a soft ground.

    Returns:
        (size, size) float32 in [-1, 1], and (len(SHAPES),) float32, 1 for each kind that is there.
    """
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    image = np.full((size, size), rng.uniform(-0.5, 0.5), np.float32)
    for cells, low, high in ((2, 0.05, 0.5), (5, 0.02, 0.3), (14, 0.0, 0.2)):
        image += rng.uniform(low, high) * _ground(rng, size, cells)
    present = np.zeros(len(SHAPES), np.float32)
    for kind in rng.choice(len(SHAPES), rng.integers(1, 4), replace=False):
        present[kind] = 1
        for _ in range(rng.integers(1, 3)):
            radius, aspect, angle = rng.uniform(0.1, 0.32), rng.uniform(0.7, 1.4), rng.uniform(0, 2 * np.pi)
            right, down = x - np.float32(rng.uniform(-0.8, 0.8)), y - np.float32(rng.uniform(-0.8, 0.8))
            u = (right * np.cos(angle) + down * np.sin(angle)) / (radius * aspect)
            v = (down * np.cos(angle) - right * np.sin(angle)) / (radius / aspect)
            shape = list(SHAPES.values())[kind](u.astype(np.float32), v.astype(np.float32), rng)
            image += shape * np.float32(rng.uniform(0.35, 1.2) * rng.choice([-1, 1]))
    image += np.float32(rng.uniform(0, 0.15)) * rng.standard_normal((size, size)).astype(np.float32)
    return np.clip(0.6 * image, -1, 1).astype(np.float32), present


def _ground(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    values = Image.fromarray(rng.standard_normal((cells + 1, cells + 1)).astype(np.float32))
    return np.asarray(values.resize((size, size), Image.Resampling.BICUBIC))


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
