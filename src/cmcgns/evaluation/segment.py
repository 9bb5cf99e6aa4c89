"""Segmentation with a U-Net decoder on a frozen trunk (data.md 7.3)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cmcgns.errors import InputError
from cmcgns.evaluation.features import Images, autocast, encode, frozen_maps
from cmcgns.evaluation.fit import batches_of, fit
from cmcgns.losses.segmentation import segmentation_loss
from cmcgns.models.seeding import seeded
from cmcgns.models.unet import LAYERS, UnetHead

# images (n, 3, H, W), masks (n, H, W), generator -> the same, moved together
Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def fit_segmenter(
    trunk: nn.Module,
    images: Images,
    masks: Images,
    train: Sequence[int] | np.ndarray,
    valid: Sequence[int] | np.ndarray,
    *,
    augment: Augment | None = None,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    batch_size: int = 16,
    seed: int = 0,
    cache_bytes: int = 0,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
    **training: Any,
) -> tuple[UnetHead, list[dict[str, Any]]]:
    """Train a decoder; the epoch with the lowest validation loss wins.

    Args:
        trunk: a torchvision ResNet; it is frozen in place and its batch norm stays in eval mode.
        images: indices (n,) -> (n, 3, H, W), H and W multiples of 32, always the same per image.
        masks: indices (n,) -> (n, H, W) in [0, 1], soft at resized edges.
        train, valid: indices into `images` and `masks`.
        augment: applied to training batches; its draws come from `seed` and the epoch.
        cache_bytes: memory for the trunk's maps of images that are not augmented.
        training: see `fit`.

    Returns:
        The decoder, in eval mode with its best weights, and the history of `fit`.

    Raises:
        InputError: an empty split, or a loss that is not finite.
    """
    if not len(train) or not len(valid):
        raise InputError("no training image" if not len(train) else "no validation image")
    on = {"device": device, "precision": precision}
    maps = frozen_maps(trunk, images, LAYERS, cache_bytes=cache_bytes, **on)
    channels = [part.shape[1] for part in maps(np.asarray(valid[:1], np.int64))]
    with seeded(seed, "segmenter"):
        head = UnetHead(channels, decoder_channels)

    def batch_loss(indices: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
        if augment is None:
            return segmentation_loss(head(maps(indices)), masks(indices).to(device))
        pictures, target = augment(images(indices), masks(indices), generator)
        return segmentation_loss(head(encode(trunk, pictures, LAYERS, **on)), target.to(device))

    def validate() -> dict[str, float | None]:
        losses = [
            float(segmentation_loss(head(maps(part)), masks(part).to(device))) * len(part)
            for part in batches_of(valid, batch_size)
        ]
        return {"valid_loss": sum(losses) / len(valid)}

    training |= {"monitor": "valid_loss", "batch_size": batch_size, "seed": seed, **on}
    history = fit(head, batch_loss, train, validate, **training)
    return head, history


def predict_masks(
    trunk: nn.Module,
    head: UnetHead,
    images: Images,
    indices: Sequence[int] | np.ndarray,
    *,
    threshold: float = 0.5,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
) -> np.ndarray:
    """Masks (n, H, W) uint8: 1 where the probability is above `threshold`."""
    maps = frozen_maps(trunk, images, LAYERS, device=device, precision=precision)
    head.to(device).eval()
    with torch.no_grad(), autocast(device, precision):
        parts = [head(maps(part)).sigmoid() > threshold for part in batches_of(indices, batch_size)]
    return torch.cat(parts).to("cpu", torch.uint8).numpy()
