"""Losses compute in fp32: at temperature 0.01 a bf16 cosine is off by 0.2 in the logit (method.md 3)."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")


def fp32(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` with autocast off and its half-precision tensor arguments cast to fp32."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return function(*map(_widen, args), **{name: _widen(value) for name, value in kwargs.items()})

    return run


def _widen(value: object) -> object:
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value


@fp32
def unit(x: Tensor) -> Tensor:
    """x (..., D) scaled to L2 norm 1; a zero vector stays zero."""
    return F.normalize(x, dim=-1, eps=1e-6)


@fp32
def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of every row of a (N, D) with every row of b (M, D) -> (N, M)."""
    return unit(a) @ unit(b).T
