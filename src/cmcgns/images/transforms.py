"""Operations on whole batches of grey images; every random choice comes from the generator passed in."""

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
    zoom = 1 + scale * (2 * uniform(count, image, generator) - 1)
    angle = math.radians(rotate) * (2 * uniform(count, image, generator) - 1)
    chosen = (uniform(count, image, generator) < p)[:, None, None]
    moved = (cast_like(affine(x, zoom, angle), x) for x in (image, mask))
    first, second = (torch.where(chosen, new, old) for new, old in zip(moved, (image, mask), strict=True))
    return first, second


def affine(batch: Tensor, zoom: Tensor, angle: Tensor, shift: Tensor | None = None) -> Tensor:
    """Zoom and turn (B, H, W) about the centre, then shift it; bilinear, zeros outside.

    Args:
        zoom: (B,) factors.
        angle: (B,) radians, counter-clockwise as seen.
        shift: (B, 2) to the right and down, as fractions of the width and height.

    Returns:
        (B, H, W) float.
    """
    height, width = batch.shape[1:]
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # grid_sample counts both axes from -1 to 1, so a turn in pixels carries the field's aspect ratio.
    linear = torch.stack([cos, -sin * height / width, sin * width / height, cos], dim=1).view(-1, 2, 2)
    shift = torch.zeros_like(linear[:, 0]) if shift is None else 2 * shift
    theta = torch.cat([linear, -linear @ shift.unsqueeze(2)], dim=2)  # from where each point comes
    grid = F.affine_grid(theta, [len(batch), 1, height, width], align_corners=False)
    return F.grid_sample(batch.float().unsqueeze(1), grid, align_corners=False).squeeze(1)


def resized_crop(
    batch: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: int
) -> Tensor:
    """The boxes (B,) of (B, H, W), in whole pixels, scaled to (B, size, size) float; bilinear with anti-aliasing.

    Both axes are products with a matrix of weights, so that every image may have a box of its own.
    """
    rows = _scaling(top, height, size, batch.shape[1])
    columns = _scaling(left, width, size, batch.shape[2])
    return rows @ batch.float() @ columns.transpose(1, 2)


def _scaling(start: Tensor, length: Tensor, size: int, full: int) -> Tensor:
    """(B, size, full): the share of each of `full` input pixels in each of `size` output pixels."""
    pixels = torch.arange(full, device=start.device) + 0.5
    outputs = torch.arange(size, device=start.device) + 0.5
    start, end, scale = start[:, None], (start + length)[:, None], (length / size)[:, None]
    centres = start + outputs * scale
    pixels = pixels.where((pixels > start) & (pixels < end), torch.inf)  # outside the box: no share
    # in place, because these are the largest arrays of an augmentation
    distances = (pixels[:, None, :] - centres[:, :, None]).abs_().div_(scale.clamp(min=1).unsqueeze(2))
    shares = distances.neg_().add_(1).clamp_(min=0)
    return shares.div_(shares.sum(2, keepdim=True))


def jitter(x: Tensor, brightness: Tensor, contrast: Tensor, bright_first: Tensor) -> Tensor:
    """Brightness and contrast of (B, H, W) float in [0, 255] times the factors (B,), in the order said by (B,) bool."""
    for bright in (bright_first, ~bright_first):
        centre = x.mean((1, 2)).masked_fill(bright, 0)[:, None, None]
        factor = torch.where(bright, brightness, contrast)[:, None, None]
        x = (x - centre).mul_(factor).add_(centre).clamp_(0, 255)
    return x


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each of (B, H, W) float by its own sigma (B,), px; the kernel ends at `radius`, less than H and W."""
    offsets = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), dim=1)  # (B, 2 radius + 1), sums to 1
    padded = F.pad(x.unsqueeze(0), (radius,) * 4, mode="reflect")  # images as channels: one kernel each
    rows = F.conv2d(padded, kernel[:, None, None, :], groups=len(x))
    return F.conv2d(rows, kernel[:, None, :, None], groups=len(x)).squeeze(0)


def uniform(count: int, like: Tensor, generator: Generator) -> Tensor:
    """(count,) in [0, 1) on the device of `like`; drawn where the generator is, so a CPU seed serves all."""
    return torch.rand(count, generator=generator, device=generator.device).to(like.device)


def _integers(end: int, count: int, like: Tensor, generator: Generator) -> Tensor:
    return torch.randint(end, (count,), generator=generator, device=generator.device).to(like.device)


def cast_like(x: Tensor, original: Tensor) -> Tensor:
    """Back to the original's type; rounded where that is an integer."""
    if not original.is_floating_point():
        x = x.round().clamp(0, 255)
    return x.to(original.dtype)
