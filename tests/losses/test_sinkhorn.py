import math

import pytest
import torch

from cmcgns.losses.precision import unit
from cmcgns.losses.sinkhorn import prototype_loss, sinkhorn


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_sinkhorn(scores, epsilon, iterations):
    """The textbook's alternating scaling to row sums 1/B and column sums 1/K, in float64."""
    q = [[math.exp(s / epsilon) for s in row] for row in scores.tolist()]
    rows, columns = len(q), len(q[0])
    for _ in range(iterations):
        for k in range(columns):
            total = sum(q[i][k] for i in range(rows))
            for i in range(rows):
                q[i][k] /= total * columns
        for i in range(rows):
            total = sum(q[i])
            q[i] = [value / (total * rows) for value in q[i]]
    return torch.tensor([[value * rows for value in row] for row in q])


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_equals_the_linear_form(iterations):
    scores = torch.tanh(draw(5, 4))
    expected = slow_sinkhorn(scores.double(), 0.05, iterations)
    expected = expected / expected.sum(1, keepdim=True)
    torch.testing.assert_close(sinkhorn(scores, 0.05, iterations), expected, atol=1e-5, rtol=1e-4)


def test_hand_computed_balance():
    """All samples prefer prototype 0; balanced, each prototype is used half, by who wants it more."""
    assigned = sinkhorn(torch.tensor([[0.9, 0.1], [0.9, 0.5]]), 0.05, 100)
    torch.testing.assert_close(assigned.sum(0), torch.ones(2), atol=1e-4, rtol=0)
    assert assigned[0, 0] > 0.9 and assigned[1, 1] > 0.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_finite(dtype):
    """exp(0.95 / 0.05) overflows fp16, and a far prototype's column underflows to 0 / 0 (baselines T22)."""
    scores = torch.full((4, 6), -0.95, dtype=dtype)
    scores[:, 0] = 0.95
    assigned = sinkhorn(scores, 0.05, 3)
    assert assigned.isfinite().all()
    torch.testing.assert_close(assigned.sum(1), torch.ones(4, dtype=torch.float32))


def test_prototype_loss_equals_the_loop_and_teaches_one_way():
    a, b, prototypes = unit(draw(3, 4)), unit(draw(3, 4, seed=1)), unit(draw(5, 4, seed=2))
    image, report = a @ prototypes.T, b @ prototypes.T
    slow = 0.0
    for teacher, student in ((image, report), (report, image)):
        target = sinkhorn(teacher, 0.05, 3)
        for i in range(3):
            total = sum(math.exp(student[i, k] / 0.2) for k in range(5))
            slow -= sum(target[i, k] * math.log(math.exp(student[i, k] / 0.2) / total) for k in range(5)) / 6
    a.requires_grad_()
    loss = prototype_loss(a, b, prototypes, tau=0.2, epsilon=0.05, iterations=3)
    assert loss.item() == pytest.approx(float(slow), abs=1e-5)
    (gradient,) = torch.autograd.grad(loss, a)
    target = sinkhorn(report, 0.05, 3)
    expected = ((image / 0.2).softmax(1) - target) @ prototypes / 0.2 / 6  # of the student's side alone
    torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
