"""What a frozen trunk says about images: pooled vectors for the probe, maps for detector and segmenter.

The trunk is put into eval mode and its gradients are switched off, here and nowhere else: frozen means that no
parameter and no batch-norm statistic moves (data.md 10, trap 18).
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from cmcgns.errors import InputError
from cmcgns.models.image import feature_maps

Images = Callable[[np.ndarray], Tensor]  # indices (n,) -> network input (n, 3, H, W)
Maps = Callable[[np.ndarray], list[Tensor]]  # indices (n,) -> one (n, C, h, w) a layer
# indices (n,), epoch, generator -> (n, C); epoch and generator are None when nothing may be drawn at random
Features = Callable[[np.ndarray, int | None, torch.Generator | None], Tensor]

CACHE_BYTES = 2 << 30  # of a frozen trunk's maps in one run; a small study fits, the paper's does not


def autocast(device: str | torch.device, precision: str) -> AbstractContextManager:
    """The context that `precision` ("32-true" or "bf16-mixed") asks for; losses are in fp32 in both."""
    if precision not in ("32-true", "bf16-mixed"):
        raise InputError(f"unknown precision {precision!r}", expected="'32-true' or 'bf16-mixed'")
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16-mixed")


def freeze(trunk: nn.Module, device: str | torch.device = "cpu") -> None:
    """Move `trunk` to `device`, put it into eval mode and stop its gradients, in place."""
    trunk.to(device).eval().requires_grad_(False)


def encode(
    trunk: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    *,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
) -> list[Tensor]:
    """The maps of `layers`, one (n, C, h, w) each, for images (n, 3, H, W)."""
    freeze(trunk, device)
    with torch.no_grad(), autocast(device, precision):
        return list(feature_maps(trunk, images.to(device), layers).values())


def pooled_features(
    trunk: nn.Module,
    batches: Iterable[Tensor],
    *,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
) -> Tensor:
    """Mean-pooled layer4 of batches (n, 3, H, W) -> (sum of n, C) float32 on the CPU."""
    return torch.cat([_pool(trunk, batch, device, precision).cpu() for batch in batches])


def live_features(
    trunk: nn.Module,
    images: Callable[[np.ndarray, int | None, torch.Generator | None], Tensor],
    *,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
) -> Features:
    """Features of crops that are encoded when asked for.

    Args:
        images: indices (n,), epoch, generator -> (n, 3, H, W): a random crop in training, the centre crop when
            epoch and generator are None.
    """
    return lambda indices, epoch, generator: _pool(
        trunk, images(indices, epoch, generator), device, precision
    )


def cached_features(views: np.ndarray | Tensor, *, device: str | torch.device = "cpu") -> Features:
    """Features of crops that were encoded before.

    Args:
        views: (images, 1 + V, C), any float type, may be memory-mapped: the centre crop, then V random ones of
            which training draws one an image and epoch. With V = 0, or as (images, C), it is always the centre.
    """
    drawn_from = views.shape[1] - 1 if views.ndim == 3 else 0
    table = views if views.ndim == 3 else views[:, None]

    def features(indices: np.ndarray, epoch: int | None, generator: torch.Generator | None) -> Tensor:
        view = np.zeros(len(indices), np.int64)
        if epoch is not None and drawn_from:
            view = 1 + torch.randint(drawn_from, (len(indices),), generator=generator).numpy()
        return torch.as_tensor(table[indices, view]).to(device, torch.float32)

    return features


def frozen_maps(
    trunk: nn.Module,
    images: Images,
    layers: Sequence[str],
    *,
    cache_bytes: int = 0,
    device: str | torch.device = "cpu",
    precision: str = "32-true",
) -> Maps:
    """Maps of images that always look the same: each is encoded once while `cache_bytes` last, else every time."""
    kept: dict[int, list[Tensor]] = {}
    room = cache_bytes

    def maps(indices: np.ndarray) -> list[Tensor]:
        nonlocal room
        new = [int(i) for i in indices if int(i) not in kept]
        fresh = (
            encode(trunk, images(np.array(new)), layers, device=device, precision=precision) if new else []
        )
        if len(new) == len(indices):
            known, result = {}, fresh
        else:
            known = kept | {i: [part[row] for part in fresh] for row, i in enumerate(new)}
            result = [torch.stack(parts) for parts in zip(*(known[int(i)] for i in indices), strict=True)]
        for row, i in enumerate(new):
            size = sum(part[row].nbytes for part in fresh)
            if size <= room:
                # a copy, because a slice would keep the whole batch alive
                kept[i] = [part[row].clone() for part in fresh]
                room -= size
        return result

    return maps


def _pool(trunk: nn.Module, images: Tensor, device: str | torch.device, precision: str) -> Tensor:
    return encode(trunk, images, ["layer4"], device=device, precision=precision)[0].float().mean((2, 3))
