"""The learning rate of a step."""

from __future__ import annotations

import math


def warmup_cosine(step: int, *, total: int, warmup: int, lr: float, start_lr: float) -> float:
    """Linear warm-up from `start_lr` to `lr` over `warmup` steps, then half a cosine to 0 (method specification 7.2).

    Args:
        step: 0-based optimiser step within the phase.
        total: steps of the phase.
    """
    if step < warmup:
        return start_lr + step * (lr - start_lr) / max(1, warmup - 1)
    return 0.5 * lr * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
