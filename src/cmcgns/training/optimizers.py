"""The optimiser of a phase from its settings."""

from __future__ import annotations

from collections.abc import Iterable
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


def _lars() -> type[Optimizer]:
    try:
        from timm.optim import Lars
    except ImportError:
        raise InputError("the optimiser lars needs the package timm", remedy="install it") from None
    return Lars
