"""Random initial weights that depend on a seed and a name only, and leave the caller's random state alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cmcgns.randomness import derive


@contextmanager
def seeded(seed: int, *key: object) -> Iterator[None]:
    """Inside the block, torch's CPU random state is seeded by (seed, key); afterwards it is as before.

    Layers draw their initial weights from the global state, so this is the only way to name their randomness.
    """
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed: that would also reseed the accelerators, which are not forked here
        torch.default_generator.manual_seed(derive(seed, *key))
        yield
