"""MoCo: two steps against a literal copy, its memory, and the traps of batch norm and the queue."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from cmcgns.errors import InputError
from cmcgns.objectives.base import total_loss


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def double(batch):
    return dataclasses.replace(batch, images=batch.images.double(), second=batch.second.double())


def step(objective, batch, seed=0, lr=0.1):
    """One training step of plain gradient descent; returns the loss."""
    terms = objective(batch, "stage1", generator(seed))
    total_loss(terms, objective.weights("stage1")).backward()
    unused = set(objective.unused_parameters("stage1"))
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter not in unused:
                parameter -= lr * parameter.grad
                parameter.grad = None
    return terms["contrast"].item()


@pytest.mark.parametrize("name", ["moco", "moco_v2"])
def test_two_steps_are_the_papers_algorithm(method, batch_of, name):
    """Loss, both encoders and queue, image by image and written as the paper's algorithm 1; in float64."""
    objective = method(name, momentum=0.9, queue_size=16).double()
    tau, batches = objective.tau, [double(batch_of(seed=seed)) for seed in (1, 2)]
    f_q, f_k = (torch.nn.Sequential(*map(copy.deepcopy, (objective.trunk, objective.head))) for _ in range(2))
    queue = [key.clone() for key in objective.queue.keys]
    for t, batch in enumerate(batches):
        loss = step(objective, batch)
        for slow, fast in zip(f_k.parameters(), f_q.parameters(), strict=True):
            slow.data = 0.9 * slow.data + 0.1 * fast.data
        queries = F.normalize(f_q(batch.images), dim=1)
        keys = F.normalize(f_k(batch.second), dim=1).detach()
        expected = 0.0
        for q, k in zip(queries, keys, strict=True):
            wrong = sum(torch.exp(q @ u / tau) for u in queue)
            expected = expected - torch.log(torch.exp(q @ k / tau) / (torch.exp(q @ k / tau) + wrong)) / 8
        assert loss == pytest.approx(expected.item(), abs=1e-9)
        queue[8 * t : 8 * t + 8] = keys
        expected.backward()
        for parameter in f_q.parameters():
            parameter.data -= 0.1 * parameter.grad
            parameter.grad = None
    torch.testing.assert_close(objective.queue.keys, torch.stack(queue), atol=1e-9, rtol=0)
    assert objective.queue.position == 0
    ours = [*objective.trunk.parameters(), *objective.head.parameters(), *objective.key_encoder.parameters()]
    for a, b in zip(ours, [*f_q.parameters(), *f_k.parameters()], strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


def test_heads(method):
    assert [p.shape for p in method("moco").head.parameters()] == [(16, 512), (16,)]
    shapes = [(512, 512), (512,), (16, 512), (16,)]
    assert [p.shape for p in method("moco_v2").head.parameters()] == shapes
    with pytest.raises(InputError, match="unknown head"):
        method("moco", head="conv")


def test_only_queries_get_a_gradient(method, batch_of):
    objective = method("moco")
    objective(batch_of(), "stage1", generator())["contrast"].backward()
    unused = set(objective.unused_parameters("stage1"))
    assert unused == set(objective.key_encoder.parameters())
    for name, parameter in objective.named_parameters():
        has = parameter.grad is not None and parameter.grad.abs().max() > 0
        assert has == (parameter not in unused), name


@pytest.mark.usefixtures("float64")
def test_the_key_encoder_follows_before_its_forward_and_has_its_own_statistics(method, batch_of):
    objective = method("moco", momentum=0.5)
    before = [p.clone() for p in objective.key_encoder.parameters()]
    with torch.no_grad():
        for parameter in objective.trunk.parameters():
            parameter += 1e-3
    mean = objective.trunk.bn1.running_mean.clone()
    objective(batch_of(), "stage1", generator())
    ahead = [*objective.trunk.parameters(), *objective.head.parameters()]
    for old, new, fast in zip(before, objective.key_encoder.parameters(), ahead, strict=True):
        torch.testing.assert_close(new, (old + fast) / 2)
    key_mean = objective.key_encoder[0].bn1.running_mean
    # of the second view, not an average of the query's
    fresh = copy.deepcopy(method("moco", momentum=0.5))
    with torch.no_grad():
        for behind, now in zip(
            fresh.key_encoder.parameters(), objective.key_encoder.parameters(), strict=True
        ):
            behind.copy_(now)
    fresh.key_encoder(batch_of().second)
    torch.testing.assert_close(key_mean, fresh.key_encoder[0].bn1.running_mean)
    assert not torch.equal(mean, objective.trunk.bn1.running_mean)


@pytest.mark.parametrize("bn_splits", [1, 4])
def test_resuming_equals_going_on(method, batch_of, bn_splits):
    """The queue, its position and the key encoder are all in the state dict."""
    objective = method("moco", bn_splits=bn_splits)
    for seed in range(3):
        step(objective, batch_of(seed=seed), seed)
    other = method("moco", bn_splits=bn_splits, seed=99)
    other.load_state_dict(objective.state_dict())
    for seed in range(3, 5):
        assert step(objective, batch_of(seed=seed), seed) == step(other, batch_of(seed=seed), seed)
    for name, value in objective.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("bn_splits", [1, 4])
def test_evaluation_changes_nothing_and_repeats(method, batch_of, bn_splits):
    objective = method("moco", bn_splits=bn_splits)
    step(objective, batch_of())
    objective.eval()
    state = copy.deepcopy(objective.state_dict())
    three = batch_of([(2,), (3,), (4,)])  # neither a multiple of the groups nor a divisor of the queue
    assert torch.equal(objective(three, "stage1")["contrast"], objective(three, "stage1")["contrast"])
    assert all(torch.equal(value, state[name]) for name, value in objective.state_dict().items())


@pytest.mark.usefixtures("float64")
def test_the_keys_of_a_group_are_drawn_anew(method, batch_of):
    """Queries are normalised in groups of every fourth image, keys in groups of a random order."""
    objective, batch = method("moco", bn_splits=4, momentum=1.0), batch_of()
    plain = method("moco")  # the same weights
    f_q, f_k = (torch.nn.Sequential(plain.trunk, plain.head), copy.deepcopy(plain.key_encoder))
    queue = objective.queue.keys.clone()
    loss = objective(batch, "stage1", generator(3))["contrast"]
    order = torch.randperm(8, generator=generator(3))
    queries, keys = torch.empty(8, 16), torch.empty(8, 16)
    for part in range(4):
        queries[part::4] = F.normalize(f_q(batch.images[part::4]), dim=1)
        keys[order[part::4]] = F.normalize(f_k(batch.second[order[part::4]]), dim=1)
    torch.testing.assert_close(objective.queue.keys[:8], keys)
    logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ queue.T], 1) / objective.tau
    assert loss.item() == pytest.approx((logits.logsumexp(1) - logits[:, 0]).mean().item())
    with pytest.raises(ValueError, match="generator"):
        objective(batch, "stage1")


def test_batches_that_do_not_fit_are_refused(method, batch_of):
    with pytest.raises(InputError, match="a batch of 8 in 3 groups"):
        method("moco", bn_splits=3)(batch_of(), "stage1", generator())
    with pytest.raises(InputError, match="a queue of 12 keys and 8 pairs"):
        method("moco", queue_size=12)(batch_of(), "stage1", generator())


def test_keys_of_all_processes_enter_the_queue(method, batch_of, monkeypatch):
    monkeypatch.setattr("cmcgns.objectives.moco.gather", lambda keys: torch.cat([keys, -keys]))
    objective = method("moco")
    objective(batch_of(), "stage1", generator())
    assert torch.equal(objective.queue.keys[:8], -objective.queue.keys[8:16])
    assert objective.queue.position == 16


def test_seeds_name_the_queue_and_the_head(method):
    first, second, third = method("moco"), method("moco"), method("moco", seed=6)
    assert torch.equal(first.queue.keys, second.queue.keys) and torch.equal(
        first.head.weight, second.head.weight
    )
    assert not torch.equal(first.queue.keys, third.queue.keys)
    assert torch.equal(first.trunk.conv1.weight, third.trunk.conv1.weight)
    for slow, fast in zip(first.key_encoder[0].parameters(), first.trunk.parameters(), strict=True):
        assert slow is not fast and torch.equal(slow, fast)
