"""Every random choice has a name: a generator seeded by (seed, purpose, key ...), never the global state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *key: object) -> int:
    """A 63-bit integer that depends on `seed` and every part of `key`, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, key)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_rng(seed: int, *key: object) -> np.random.Generator:
    """A NumPy generator for this purpose alone."""
    return np.random.default_rng(derive(seed, *key))


def torch_generator(seed: int, *key: object) -> torch.Generator:
    """A CPU torch generator for this purpose alone."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *key))


def hash_order(ids: Iterable[str], seed: int, *key: object) -> np.ndarray:
    """A random order of `ids` that does not depend on the order they come in.

    Returns:
        (n,) int64, the position of each id in the order: 0 is first. Ids must be distinct.
    """
    names = list(ids)
    prefix = "\x1f".join([str(seed), *map(str, key)]) + "\x1f"
    digests = np.array([hashlib.sha256((prefix + name).encode()).digest()[:8] for name in names], dtype="S8")
    numbers = np.frombuffer(digests.tobytes(), dtype=">u8") if names else np.empty(0, ">u8")
    order = np.lexsort((np.array(names, dtype=object).astype(str), numbers))
    positions = np.empty(len(names), np.int64)
    positions[order] = np.arange(len(names))
    return positions
