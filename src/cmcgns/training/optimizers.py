"""The optimiser of a phase and the learning rate of an update, from its settings."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from cmcgns.errors import InputError


def build_optimizer(parameters: Iterable[nn.Parameter], training: dict[str, Any]) -> Optimizer:
    """The optimiser over the parameters that want a gradient.

    Args:
        training: `optimizer` ("adam", "adamw", "sgd" or "lars"), `lr`, `weight_decay`, `decay_norm_and_bias` (False:
            parameters with one dimension or none - norms, biases, temperatures - do not decay), and `betas` and
            `eps` or `momentum`, whichever the optimiser has.

    Raises:
        InputError: LARS without timm.
    """
    trained = [p for p in parameters if p.requires_grad]
    groups = [{"params": trained}]
    if not training["decay_norm_and_bias"]:
        groups = [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
    name = training["optimizer"]
    options = {"lr": training["lr"], "weight_decay": training["weight_decay"]}
    if name in ("adam", "adamw"):
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        return kind(groups, betas=tuple(training["betas"]), eps=training["eps"], **options)
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=training["momentum"], **options)
    if name == "lars":
        # What does not decay is not rescaled by its layer's norm either, as in SimCLR's own code.
        return _lars()(groups, momentum=training["momentum"], **options)
    raise ValueError(f"unknown optimizer {name!r}")


def learning_rate(
    update: int,
    *,
    total: int,
    warmup: int,
    lr: float,
    start_lr: float,
    schedule: str = "cosine",
    milestones: Sequence[int] = (),
) -> float:
    """Linear warm-up from `start_lr` to `lr`, then what `schedule` says (method specification 7.2).

    Args:
        update: 0-based number of the optimiser's step within the phase.
        total: updates of the phase.
        warmup: updates of the warm-up.
        schedule: "cosine": half a cosine down to 0 at `total`; "step": a tenth from each of `milestones` on;
            "constant".
        milestones: updates, counted from the start of the phase.
    """
    if update < warmup:
        return start_lr + update * (lr - start_lr) / max(1, warmup - 1)
    if schedule == "cosine":
        return 0.5 * lr * (1 + math.cos(math.pi * (update - warmup) / max(1, total - warmup)))
    if schedule == "step":
        return lr * 0.1 ** sum(update >= milestone for milestone in milestones)
    if schedule == "constant":
        return lr
    raise ValueError(f"unknown schedule {schedule!r}")


def _lars() -> type[Optimizer]:
    try:
        from timm.optim import Lars
    except ImportError:
        raise InputError("the optimiser lars needs the package timm", remedy="install it") from None
    return Lars
