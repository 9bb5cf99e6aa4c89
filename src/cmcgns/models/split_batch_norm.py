"""Batch norm over parts of a batch: on one device, what a batch spread over several devices gets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
