"""Recipes of pre-training augmentations: stored grey images in, what a network is trained on out.

All recipes share one order of steps, because in theirs the flip stands elsewhere but commutes with what it passes. On
grey images the hue, saturation and grey-scale steps of MoCo and SimCLR change nothing, so they are left out here.
Known differences from the originals: bilinear where SimCLR and CLIP scale bicubically and where ConVIRT and PRIOR turn by
nearest neighbours; blur kernels end at three times the largest sigma and mirror the border.
"""

import math
from typing import Any

import torch
from torch import Generator, Tensor

from cmcgns.images import transforms

_BLUR = {"sigma": (0.1, 2.0), "p": 0.5}
_SIMCLR = {"area": (0.08, 1.0), "jitter": {"strength": 0.8, "p": 0.8}, "blur": _BLUR, "flip": 0.5}
PARAMETERS: dict[str, dict[str, Any]] = {
    # a random square of `size` pixels; the whole image where it has no more
    "crop": {},
    # facebookresearch/moco main_moco.py, without and with --aug-plus
    "moco_v1": {"area": (0.2, 1.0), "jitter": {"strength": 0.4, "p": 1.0}, "flip": 0.5},
    "moco_v2": {"area": (0.2, 1.0), "jitter": {"strength": 0.4, "p": 0.8}, "blur": _BLUR, "flip": 0.5},
    # google-research/simclr data_util.py
    "simclr": _SIMCLR,
    # philip-mueller/lovt baselines/baseline_utils.py: leaves out by hand what grey images make void anyway
    "simclr_cxr": _SIMCLR,
    # the paper's, as in philip-mueller/lovt models/image/scan_transforms.py
    "convirt": {
        "area": (0.6, 1.0),
        "affine": {"degrees": 20.0, "shift": 0.1, "zoom": (0.95, 1.05)},
        "jitter": {"strength": 0.4, "p": 1.0},
        "blur": {"sigma": (0.1, 3.0), "p": 1.0},
        "flip": 0.5,
    },
    # mlfoundations/open_clip
    "clip": {"area": (0.9, 1.0)},
    # QtacierP/PRIOR configs/image_transformation.yaml; an area of 1 is the whole image, scaled
    "prior": {"area": (1.0, 1.0), "affine": {"degrees": 5.0, "shift": 0.0, "zoom": (1.0, 1.0)}, "flip": 0.5},
    # fine-tuning on CheXpert in MGCA's and CM-CGNS's code (spec data.md 7.1): moco_v2 behind a plain crop
    "moco2": {"jitter": {"strength": 0.4, "p": 0.8}, "blur": _BLUR, "flip": 0.5},
}
RATIO = (3 / 4, 4 / 3)  # width to height of a box, as torchvision draws it


def augment(batch: Tensor, size: int, recipe: str, generator: Generator) -> Tensor:
    """(B, S, S) uint8 -> (B, size, size) uint8, every image changed by draws of its own.

    The steps, as far as the recipe has them: crop, affine, brightness and contrast in random order, blur, flip.

    Args:
        size: px; at most S for a recipe without `area`.
        recipe: a key of `PARAMETERS`.
    """
    options = PARAMETERS[recipe]

    def draw(low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * transforms.uniform(len(batch), batch, generator)

    def sometimes(p: float, changed: Tensor, x: Tensor) -> Tensor:
        return torch.where((draw() < p)[:, None, None], changed, x)

    if "area" in options:
        x = transforms.resized_crop(batch, *crop_boxes(batch, options["area"], generator), size)
    else:
        x = transforms.random_crop(batch, size, generator).float()
    if "affine" in options:
        degrees, shift, zoom = (options["affine"][name] for name in ("degrees", "shift", "zoom"))
        angle = draw(-math.radians(degrees), math.radians(degrees))
        shifts = torch.stack([draw(-shift, shift), draw(-shift, shift)], dim=1)
        x = transforms.affine(x, draw(*zoom), angle, shifts)
    if "jitter" in options:
        strength, p = options["jitter"]["strength"], options["jitter"]["p"]
        brightness, contrast = draw(1 - strength, 1 + strength), draw(1 - strength, 1 + strength)
        x = sometimes(p, transforms.jitter(x, brightness, contrast, draw() < 0.5), x)
    if "blur" in options:
        sigma, p = options["blur"]["sigma"], options["blur"]["p"]
        x = sometimes(p, transforms.gaussian_blur(x, draw(*sigma), math.ceil(3 * sigma[1])), x)
    if "flip" in options:
        x = sometimes(options["flip"], x.flip(-1), x)
    return transforms.cast_like(x, batch)


def crop_boxes(
    batch: Tensor, area: tuple[float, float], generator: Generator, attempts: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A box in whole pixels for each of (B, S, S), by the rule of torchvision's RandomResizedCrop.

    The box's share of the image is uniform in `area`, the logarithm of its aspect ratio in that of `RATIO`, its place
    uniform. A box that does not fit is drawn again; after `attempts` draws it is the whole image.

    Returns:
        top, left, height, width, each (B,) float.
    """
    count, side = len(batch), batch.shape[-1]

    def draw(low: float, high: float, times: int = 1) -> Tensor:
        return low + (high - low) * transforms.uniform(times * count, batch, generator).view(times, count)

    share, ratio = draw(*area, attempts), draw(*map(math.log, RATIO), attempts).exp()
    width, height = (side * (share * ratio).sqrt()).round(), (side * (share / ratio).sqrt()).round()
    fits = (width > 0) & (width <= side) & (height > 0) & (height <= side)
    first = fits.int().argmax(0, keepdim=True)
    height, width = (x.gather(0, first).where(fits.any(0), side).squeeze(0) for x in (height, width))
    top, left = ((draw(0, 1).squeeze(0) * (side + 1 - length)).floor() for length in (height, width))
    return top, left, height, width
