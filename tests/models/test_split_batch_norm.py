import copy

import pytest
import torch
from torch import nn

from cmcgns.models.image import build_trunk
from cmcgns.models.momentum import split_batch_norm


def images(n=12, seed=0):
    x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return x * torch.arange(1.0, n + 1)[:, None, None, None]


def network():
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()))
    with torch.no_grad():
        net[1][0].weight.uniform_(0.5, 2)
        net[1][0].bias.uniform_(-1, 1)
    return net


@pytest.mark.usefixtures("float64")
def test_each_group_is_normalised_by_itself():
    plain = network()
    split = copy.deepcopy(plain)
    split_batch_norm(split, 3)
    x = images()
    apart = [copy.deepcopy(plain) for _ in range(3)]
    expected = torch.empty(12, 5, 6, 6)
    for i, net in enumerate(apart):
        expected[i::3] = net(x[i::3])
    out = split(x)
    torch.testing.assert_close(out, expected)
    assert (out - plain(x)).abs().max() > 0.1
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(net[1][0], name) for net in apart]).mean(0)
        torch.testing.assert_close(getattr(split[1][0], name), mean)
    assert split[1][0].num_batches_tracked == 1
    weights = torch.randn(out.shape)
    (out * weights).sum().backward()
    for i, net in enumerate(apart):
        (net(x[i::3]) * weights[i::3]).sum().backward()
    for name, parameter in split.named_parameters():
        total = sum(net.get_parameter(name).grad for net in apart)
        torch.testing.assert_close(parameter.grad, total)


def test_one_group_and_evaluation_are_plain_batch_norm():
    for groups, training in ((1, True), (3, False)):
        plain = network().train(training)
        split = copy.deepcopy(plain)
        split_batch_norm(split, groups)
        split.train(training)
        torch.testing.assert_close(split(images()), plain(images()), atol=0, rtol=0)
        for name, value in plain.state_dict().items():
            assert torch.equal(split.state_dict()[name], value)


@pytest.mark.usefixtures("float64")
def test_a_split_trunk_keeps_torchvisions_names_and_values():
    plain, split = (build_trunk("resnet10", "random", seed=1) for _ in range(2))
    split_batch_norm(split, 4)
    kinds = {type(module).__name__ for module in split.modules()}
    assert "SplitBatchNorm2d" in kinds and "BatchNorm2d" not in kinds
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.state_dict().values(), split.state_dict().values(), strict=True)
    )
    assert list(plain.state_dict()) == list(split.state_dict())
    # permuting a batch through one batch norm and back changes nothing, through a split one it does
    x = images(8).repeat_interleave(8, 2).repeat_interleave(8, 3) / 8
    order = torch.tensor([3, 0, 1, 2, 7, 5, 6, 4])
    for trunk, same in ((plain, True), (split, False)):
        a, b = trunk(x), trunk(x[order])[order.argsort()]
        assert ((a - b).abs().max() < 1e-4) == same
