"""Augmentations on whole batches of grey images; every random choice comes from the generator passed in."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def random_crop(batch: Tensor, size: int, generator: Generator) -> Tensor:
    """(B, H, W) -> (B, size, size): from every image a square at a place of its own, all equally likely."""
    count, height, width = batch.shape
    tops = _integers(height - size + 1, count, batch, generator)
    lefts = _integers(width - size + 1, count, batch, generator)
    span = torch.arange(size, device=batch.device)
    images = torch.arange(count, device=batch.device)[:, None, None]
    return batch[images, (tops[:, None] + span)[:, :, None], (lefts[:, None] + span)[:, None, :]]


def center_crop(batch: Tensor, size: int) -> Tensor:
    """(..., H, W) -> (..., size, size): the middle; of an odd margin the smaller half is top and left."""
    top, left = (batch.shape[-2] - size) // 2, (batch.shape[-1] - size) // 2
    return batch[..., top : top + size, left : left + size]


def to_network(batch: Tensor) -> Tensor:
    """(B, H, W) uint8 -> (B, 3, H, W) float32 in [-1, 1]: mean 0.5, std 0.5, grey three times (a view)."""
    return (batch.float() / 127.5 - 1).unsqueeze(1).expand(-1, 3, -1, -1)


def shift_scale_rotate(
    image: Tensor,
    mask: Tensor,
    generator: Generator,
    *,
    scale: float = 0.1,
    rotate: float = 10.0,
    p: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Zoom and turn an image and its mask alike about the centre; bilinear, zeros outside.

    The spec's augmentation for segmentation (data.md 7.3); its shift is 0.

    Args:
        image: (B, H, W) uint8 or float.
        mask: (B, h, w) uint8 or float, soft; of another resolution if need be, but the same shape of field.
        scale: the zoom factor is uniform in [1 - scale, 1 + scale].
        rotate: the angle is uniform in [-rotate, rotate], degrees.
        p: the probability that an image is changed at all.

    Returns:
        The pair in the shapes and types they came in.
    """
    count = len(image)
    zoom = 1 + scale * (2 * _uniform(count, image, generator) - 1)
    angle = math.radians(rotate) * (2 * _uniform(count, image, generator) - 1)
    chosen = (_uniform(count, image, generator) < p)[:, None, None]
    moved = (_affine(x, zoom, angle) for x in (image, mask))
    first, second = (torch.where(chosen, new, old) for new, old in zip(moved, (image, mask), strict=True))
    return first, second


def _affine(batch: Tensor, zoom: Tensor, angle: Tensor) -> Tensor:
    """Sample (B, H, W) at the points that the zoom and the turn (counter-clockwise as seen) come from."""
    height, width = batch.shape[1:]
    cos, sin, zero = torch.cos(angle) / zoom, torch.sin(angle) / zoom, torch.zeros_like(zoom)
    # grid_sample counts both axes from -1 to 1, so a turn in pixels carries the field's aspect ratio.
    rows = [cos, -sin * height / width, zero, sin * width / height, cos, zero]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(batch), 1, height, width], align_corners=False)
    return _like(F.grid_sample(batch.float().unsqueeze(1), grid, align_corners=False).squeeze(1), batch)


def moco2(batch: Tensor, generator: Generator) -> Tensor:
    """The MoCo v2 switch on grey images, after the crop: jitter, blur, horizontal flip (spec data.md 7.1).

    Brightness and contrast by up to 0.4, in random order, p 0.8; Gaussian blur, sigma 0.1-2 px, p 0.5; flip,
    p 0.5. The recipe's hue, saturation and grey-scale steps change nothing on a grey image.

    Args:
        batch: (B, H, W) uint8, sides above 6.

    Returns:
        (B, H, W) uint8.
    """
    count, x = len(batch), batch.float()

    def draw() -> Tensor:
        return _uniform(count, batch, generator)[:, None, None]

    brightness, contrast = 0.6 + 0.8 * draw(), 0.6 + 0.8 * draw()
    bright_first = _contrast((x * brightness).clamp(0, 255), contrast)
    bright_last = (_contrast(x, contrast) * brightness).clamp(0, 255)
    jittered = torch.where(draw() < 0.5, bright_first, bright_last)
    x = torch.where(draw() < 0.8, jittered, x)
    sigma = 0.1 + 1.9 * draw().flatten()
    x = torch.where(draw() < 0.5, _blur(x, sigma), x)
    x = torch.where(draw() < 0.5, x.flip(-1), x)
    return _like(x, batch)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    mean = x.mean(dim=(1, 2), keepdim=True)
    return (mean + (x - mean) * factor).clamp(0, 255)


def _blur(x: Tensor, sigma: Tensor, radius: int = 6) -> Tensor:
    """Blur each of (B, H, W) by its own sigma; the radius is three times the largest sigma."""
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), dim=1)  # (B, 2 radius + 1), sums to 1
    padded = F.pad(x.unsqueeze(0), (radius,) * 4, mode="reflect")  # images as channels: one kernel each
    rows = F.conv2d(padded, kernel[:, None, None, :], groups=len(x))
    return F.conv2d(rows, kernel[:, None, :, None], groups=len(x)).squeeze(0)


def _uniform(count: int, like: Tensor, generator: Generator) -> Tensor:
    """(count,) in [0, 1) on the device of `like`; drawn where the generator is, so a CPU seed serves all."""
    return torch.rand(count, generator=generator, device=generator.device).to(like.device)


def _integers(end: int, count: int, like: Tensor, generator: Generator) -> Tensor:
    return torch.randint(end, (count,), generator=generator, device=generator.device).to(like.device)


def _like(x: Tensor, original: Tensor) -> Tensor:
    """Back to the original's type; rounded where that is an integer."""
    if not original.is_floating_point():
        x = x.round().clamp(0, 255)
    return x.to(original.dtype)
