"""The step `features`: pooled features of every image of a source under one frozen trunk.

A frozen encoder without augmentation of its own gives the same features for each fraction and seed, so they are made once
for all linear probes of a trunk: the centre crop, and `views` crops that training draws from.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cmcgns.evaluation.features import pooled_features
from cmcgns.files import atomic
from cmcgns.images import transforms
from cmcgns.images.augment import augment
from cmcgns.images.store import ImageStore
from cmcgns.models.image import build_trunk
from cmcgns.randomness import torch_generator

BATCH = 64


def write_features(
    *,
    trunk: Path,
    store: Path,
    store_table: Path,
    out: Path,
    arch: str,
    size: int,
    resize: str,
    views: int,
    augmentation: str,
    seed: int,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write (n, 1 + views, C) float32, rows as in the store: the centre crop first, then random crops.

    Args:
        progress: called with (images done, images in all).
    """
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels = ImageStore(store, store_table).work_array(size, resize)
    encoder = build_trunk(arch, str(trunk))
    parts = []
    for start in range(0, len(pixels), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + BATCH])).to(device)
        crops = [transforms.center_crop(batch, size)]
        for view in range(views):
            crops.append(crop(batch, size, augmentation, torch_generator(seed, "views", view, start)))
        features = pooled_features(encoder, (transforms.to_network(c) for c in crops), device=device)
        parts.append(features.view(len(crops), len(batch), -1).transpose(0, 1).numpy())
        if progress:
            progress(start + len(batch), len(pixels))
    with atomic(out) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.concatenate(parts))


def crop(batch: torch.Tensor, size: int, augmentation: str, generator: torch.Generator) -> torch.Tensor:
    """A training view: a random crop, with MoCo v2's jitter, blur and flip on top if asked for."""
    return augment(batch, size, "moco2" if augmentation == "moco2" else "crop", generator)
