"""What a momentum encoder needs: weights that follow others slowly, and a queue of the keys of past batches."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcgns.errors import InputError


@torch.no_grad()
def ema_update(slow: Iterable[nn.Parameter], fast: Iterable[nn.Parameter], momentum: float) -> None:
    """slow <- momentum * slow + (1 - momentum) * fast, in place; statistics of batch norm are not parameters."""
    for behind, ahead in zip(slow, fast, strict=True):
        behind.lerp_(ahead, 1 - momentum)


class KeyQueue(nn.Module):
    """The last `size` keys, oldest overwritten first; random unit vectors at the start. All of it is saved.

    Attributes:
        keys: (size, dim).
        position: where the next keys go.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=-1))
        self.register_buffer("position", torch.tensor(0))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Take in (n, dim), the same in every process.

        Raises:
            InputError: when n does not divide the size of the queue, as the original demands.
        """
        size, count = len(self.keys), len(keys)
        if size % count:
            raise InputError(
                f"a queue of {size} keys and {count} pairs a step",
                expected="a queue_size that is a multiple of the pairs a step of all devices",
            )
        rows = (self.position + torch.arange(count, device=keys.device)) % size
        self.keys.index_copy_(0, rows, keys)
        self.position.copy_((self.position + count) % size)
