import math

import pytest
import torch
import torch.nn.functional as F

from cmcgns.losses.queue_nce import queue_nce


def unit_rows(n, dim=5, seed=0):
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_hand_computed_values():
    queries, keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    queue = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    first = math.log(math.exp(0.6) + math.exp(0.0) + math.exp(-1.0)) - 0.6  # 0.560021
    second = math.log(math.exp(1.0) + math.exp(1.0) + math.exp(0.0)) - 1.0  # 0.861995
    assert queue_nce(queries[:1], keys[:1], queue, 1.0).item() == pytest.approx(first, abs=1e-6)
    assert queue_nce(queries, keys, queue, 1.0).item() == pytest.approx((first + second) / 2, abs=1e-6)
    sharp = math.log(math.exp(1.2) + 1 + math.exp(-2.0)) - 1.2
    assert queue_nce(queries[:1], keys[:1], queue, 0.5).item() == pytest.approx(sharp, abs=1e-6)


@pytest.mark.parametrize(("n", "size", "tau"), [(1, 1, 0.07), (3, 8, 0.2), (6, 4, 1.0)])
def test_equals_the_slow_sum(n, size, tau):
    queries, keys, queue = unit_rows(n), unit_rows(n, seed=1), unit_rows(size, seed=2)
    total = 0.0
    for q, k in zip(queries.double(), keys.double(), strict=True):
        own = math.exp(q @ k / tau)
        total -= math.log(own / (own + sum(math.exp(q @ u / tau) for u in queue.double())))
    assert queue_nce(queries, keys, queue, tau).item() == pytest.approx(total / n, abs=1e-5)


def test_other_keys_and_the_order_of_the_queue_do_not_matter():
    queries, keys, queue = unit_rows(4), unit_rows(4, seed=1), unit_rows(8, seed=2)
    whole = queue_nce(queries, keys, queue, 0.2)
    torch.testing.assert_close(queue_nce(queries, keys, queue.flip(0), 0.2), whole)
    apart = [queue_nce(queries[i : i + 1], keys[i : i + 1], queue, 0.2) for i in range(4)]
    torch.testing.assert_close(torch.stack(apart).mean(), whole)


def test_a_sharp_temperature_in_half_precision_is_finite():
    same = torch.ones(4, 16, dtype=torch.bfloat16) / 4
    loss = queue_nce(same, same, same, 1e-3)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(math.log(5), abs=1e-4)
