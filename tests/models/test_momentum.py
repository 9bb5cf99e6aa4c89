import pytest
import torch
from torch import nn

from cmcgns.errors import InputError
from cmcgns.models.momentum import KeyQueue, ema_update
from cmcgns.models.seeding import seeded


def test_ema_update():
    slow, fast = nn.Parameter(torch.tensor([1.0, 0.0])), nn.Parameter(torch.tensor([0.0, 10.0]))
    ema_update([slow], [fast], 0.9)
    torch.testing.assert_close(slow.detach(), torch.tensor([0.9, 1.0]))
    ema_update([slow], [fast], 0.9)
    torch.testing.assert_close(slow.detach(), torch.tensor([0.81, 1.9]))
    assert fast.tolist() == [0, 10] and slow.grad_fn is None
    with pytest.raises(ValueError):
        ema_update([slow], [fast, fast], 0.9)


def test_the_oldest_keys_go_first():
    queue = KeyQueue(6, 1)
    start = queue.keys[4:6].clone()
    queue.push(torch.tensor([[1.0], [2.0]]))
    queue.push(torch.tensor([[3.0], [4.0]]))
    assert queue.keys[:4].flatten().tolist() == [1, 2, 3, 4] and torch.equal(queue.keys[4:6], start)
    queue.push(torch.tensor([[5.0], [6.0]]))
    assert queue.position == 0
    queue.push(torch.tensor([[7.0], [8.0]]))
    assert queue.keys.flatten().tolist() == [7, 8, 3, 4, 5, 6]


def test_a_batch_that_does_not_divide_the_queue_is_refused():
    with pytest.raises(InputError, match=r"a queue of 6 keys and 4 pairs a step.*multiple"):
        KeyQueue(6, 2).push(torch.zeros(4, 2))
    with pytest.raises(InputError):
        KeyQueue(6, 2).push(torch.zeros(12, 2))


def test_the_start_is_unit_vectors_that_depend_on_the_seed():
    tables = []
    for seed in (1, 1, 2):
        with seeded(seed):
            tables.append(KeyQueue(50, 8).keys)
    assert torch.equal(tables[0], tables[1]) and not torch.equal(tables[0], tables[2])
    torch.testing.assert_close(tables[0].norm(dim=1), torch.ones(50))


def test_everything_is_in_the_state_dict():
    queue = KeyQueue(4, 3)
    queue.push(torch.ones(2, 3))
    other = KeyQueue(4, 3)
    other.load_state_dict(queue.state_dict())
    for table in (queue, other):
        table.push(torch.zeros(2, 3))
    assert torch.equal(queue.keys, other.keys) and torch.equal(queue.position, other.position)
