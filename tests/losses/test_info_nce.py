import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines


def close(value, expected):
    assert value.item() == pytest.approx(expected, abs=1e-6)


def slow_direction(scores, tau, ignore=None):
    total = 0.0
    for i in range(len(scores)):
        kept = [j for j in range(len(scores)) if j == i or ignore is None or not ignore[i][j]]
        total -= torch.log(
            torch.exp(scores[i, i] / tau) / sum(torch.exp(scores[i, j] / tau) for j in kept)
        ).item()
    return total / len(scores)


def test_hand_computed_values():
    a, b = info_nce(torch.eye(2), 1.0)
    close(a, 0.313262), close(b, 0.313262), close(a + b, 0.626523)
    a, b = info_nce(torch.eye(2), 0.5)
    close(a, 0.126928), close(b, 0.126928)
    a, b = info_nce(torch.tensor([[0.9, 0.1], [0.3, 0.5]]), 0.1)
    close(a, 0.063632), close(b, 0.010313)


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_equals_the_slow_sum(n, tau):
    generator = torch.Generator().manual_seed(n)
    scores = torch.rand(n, n, generator=generator) * 2 - 1
    ignore = torch.rand(n, n, generator=generator) < 0.4
    for mask in (None, ignore):
        there, back = info_nce(scores, tau, mask)
        assert there.item() == pytest.approx(slow_direction(scores, tau, mask), abs=1e-5)
        assert back.item() == pytest.approx(
            slow_direction(scores.T, tau, None if mask is None else mask.T), abs=1e-5
        )


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 6))
def test_invariances(seed, n):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, n, 5, generator=generator)
    there, back = info_nce(cosines(a, b), 0.1)
    order = torch.randperm(n, generator=generator)
    scale = torch.rand(n, 1, generator=generator) + 0.1
    for x, y in ((a[order], b[order]), (a * scale, b), (a, b * 7)):
        torch.testing.assert_close(info_nce(cosines(x, y), 0.1), (there, back), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(info_nce(cosines(b, a), 0.1), (back, there), atol=1e-5, rtol=1e-5)


def test_ignoring_twins_is_the_loss_without_the_twin_column():
    scores = torch.tensor([[0.9, 0.9, 0.1], [0.8, 0.7, 0.2], [0.0, 0.3, 0.5]])
    study = torch.tensor([5, 5, 6])
    same = study[:, None] == study
    there, _ = info_nce(scores, 1.0, same)
    rows = [scores[0, [0, 2]], scores[1, [1, 2]], scores[2, [2, 0, 1]]]
    close(there, sum(row.logsumexp(0) - row[0] for row in rows).item() / 3)


def test_learnable_temperature_gets_a_gradient():
    log_scale = torch.tensor(2.0, requires_grad=True)
    sum(info_nce(torch.tensor([[0.9, 0.1], [0.3, 0.5]]), log_scale.neg().exp())).backward()
    assert log_scale.grad < 0  # both pairs are told apart: a higher scale lowers the loss
