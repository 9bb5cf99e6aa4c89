"""What a momentum encoder needs: weights that follow others slowly, a queue of the keys of past batches, and
batch norm over parts of a batch."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcgns.errors import InputError


class SplitBatchNorm2d(nn.BatchNorm2d):
    """In training, each of `groups` parts of the batch is normalised by its own statistics; row i is in part i % groups.

    The running statistics take in the mean over the parts. Names in the state dict are those of `nn.BatchNorm2d`.
    """

    groups: int = 1

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W), B a multiple of `groups`."""
        if not self.training or self.groups == 1:
            return super().forward(x)
        parts = x.reshape(len(x) // self.groups, self.groups * x.shape[1], *x.shape[2:])  # parts as channels
        state = (self.running_mean, self.running_var, self.weight, self.bias)
        mean, variance, weight, bias = (value.repeat(self.groups) for value in state)
        parts = F.batch_norm(parts, mean, variance, weight, bias, True, self.momentum, self.eps)
        with torch.no_grad():
            self.running_mean.copy_(mean.view(self.groups, -1).mean(0))
            self.running_var.copy_(variance.view(self.groups, -1).mean(0))
            self.num_batches_tracked += 1
        return parts.view_as(x)


def split_batch_norm(module: nn.Module, groups: int) -> None:
    """Replace every `nn.BatchNorm2d` inside `module` by a `SplitBatchNorm2d` with the same state."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            split = SplitBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
            split.load_state_dict(child.state_dict())
            split.groups = groups
            setattr(module, name, split)
        else:
            split_batch_norm(child, groups)


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
