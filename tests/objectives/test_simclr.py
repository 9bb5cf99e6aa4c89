"""SimCLR: its loss against a literal copy, the head, and batch norm over both views."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn


def slow_loss(first, second, tau):
    """The mean over all 2B embeddings, one at a time."""
    z = F.normalize(torch.cat([first, second]), dim=1)
    total = 0.0
    for i in range(len(z)):
        twin = (i + len(first)) % len(z)
        others = [torch.exp(z[i] @ z[j] / tau) for j in range(len(z)) if j != i]
        total = total - torch.log(torch.exp(z[i] @ z[twin] / tau) / sum(others))
    return total / len(z)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("options", [{}, {"head_layers": 2, "head_norm": False, "tau": 0.5}])
def test_loss_and_gradients_are_the_formula(method, batch_of, options):
    objective, copied, batch = method("simclr", **options), method("simclr", **options), batch_of()
    loss = objective(batch, "stage1")["contrast"]
    # both views are one batch, so that they share the statistics of batch norm
    both = copied.head(copied.trunk(torch.cat([batch.images, batch.second])))
    expected = slow_loss(both[:8], both[8:], objective.tau)
    assert loss.item() == pytest.approx(expected.item())
    loss.backward()
    expected.backward()
    for (name, ours), theirs in zip(objective.named_parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
        assert ours.grad.abs().max() > 0, name
    assert objective.unused_parameters("stage1") == []
    assert objective.trunk.bn1.num_batches_tracked == 1


def test_the_official_head_has_batch_norm_behind_every_layer_and_no_last_shift(method):
    head = method("simclr").head
    names = ["Linear", "SyncBatchNorm", "ReLU"] * 2 + ["Linear", "SyncBatchNorm"]
    assert [type(layer).__name__ for layer in head] == names
    assert [layer.weight.shape for layer in head if isinstance(layer, nn.Linear)] == [
        (512, 512), (512, 512), (16, 512),
    ]  # fmt: skip
    assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))
    assert head[1].bias is not None and head[7].weight is not None and head[7].bias is None
    assert head[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    plain = method("simclr", head_layers=2, head_norm=False).head
    assert [type(layer).__name__ for layer in plain] == ["Linear", "ReLU", "Linear"]


def test_the_weight_says_whether_halves_are_added(method):
    assert method("simclr").weights("stage1") == {"contrast": 2.0}
    assert method("simclr", loss_weight=1.0).weights("stage1") == {"contrast": 1.0}


def test_synchronised_batch_norm_keeps_names_and_values(method, batch_of):
    with_it, without = method("simclr"), method("simclr", sync_batch_norm=False)
    assert type(with_it.trunk.bn1) is nn.SyncBatchNorm and type(without.trunk.bn1) is nn.BatchNorm2d
    for (name, a), (other, b) in zip(with_it.state_dict().items(), without.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b)
    a, b = (objective(batch_of(), "stage1")["contrast"] for objective in (with_it, without))
    assert torch.equal(a, b)


@pytest.mark.usefixtures("float64")
def test_exchanging_the_views_or_the_pairs_keeps_the_loss(method, batch_of):
    batch = batch_of()
    loss = method("simclr")(batch, "stage1")["contrast"]
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    for images, second in ((batch.second, batch.images), (batch.images[order], batch.second[order])):
        changed = dataclasses.replace(batch, images=images, second=second)
        torch.testing.assert_close(method("simclr")(changed, "stage1")["contrast"], loss)


@pytest.mark.usefixtures("float64")
def test_negatives_come_from_all_processes(method, batch_of, monkeypatch):
    """With a second process that holds the same images, each image has two more, equal to it and its twin."""
    objective, batch = method("simclr"), batch_of()
    both = objective.head(objective.trunk(torch.cat([batch.images, batch.second])))
    expected = slow_loss(both[:8].repeat(2, 1), both[8:].repeat(2, 1), 0.1)
    monkeypatch.setattr("cmcgns.objectives.simclr.gather", lambda z: z.repeat(2, 1))
    assert objective(batch, "stage1")["contrast"].item() == pytest.approx(expected.item())


def test_evaluation_changes_nothing(method, batch_of):
    objective = method("simclr")
    objective(batch_of(), "stage1")
    objective.eval()
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    first = objective(batch_of(), "stage1")["contrast"]
    assert torch.equal(first, objective(batch_of(), "stage1")["contrast"])
    assert all(torch.equal(value, state[name]) for name, value in objective.state_dict().items())
