"""The learning rate of an update."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
