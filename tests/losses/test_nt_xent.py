import math

import pytest
import torch

from cmcgns.losses.nt_xent import nt_xent


def rows(n, dim=5, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_hand_computed_values():
    eye = torch.eye(2)
    # each row: its twin at cosine 1, two others at 0
    assert nt_xent(eye, eye, 1.0).item() == pytest.approx(math.log(math.e + 2) - 1, abs=1e-6)
    assert nt_xent(eye, 3 * eye, 0.5).item() == pytest.approx(math.log(math.exp(2) + 2) - 2, abs=1e-6)
    # a1 = b1 = b2 = (1, 0), a2 = (0, 1): rows a1 and b1 have 1, 1, 0; a2 has 0, 0, 0; b2 has 0 right, 1, 1 wrong
    a, b = eye, torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    expected = (2 * (math.log(2 * math.e + 1) - 1) + math.log(3) + math.log(2 * math.e + 1)) / 4
    assert nt_xent(a, b, 1.0).item() == pytest.approx(expected, abs=1e-6)
    assert nt_xent(rows(1), rows(1, seed=1), 0.1).item() == 0  # no negatives


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_equals_the_slow_sum_of_both_halves(n, tau):
    """As the original writes it: two cross entropies, one a view, added; that is twice the mean over all rows."""
    a, b = rows(n), rows(n, seed=1)

    def similarity(x, y):
        return torch.cosine_similarity(x, y, dim=0).item() / tau

    halves = 0.0
    for these, those in ((a, b), (b, a)):
        for i in range(n):
            others = [similarity(these[i], those[j]) for j in range(n)]
            others += [similarity(these[i], these[j]) for j in range(n) if j != i]
            halves += (math.log(sum(map(math.exp, others))) - similarity(these[i], those[i])) / n
    assert 2 * nt_xent(a, b, tau).item() == pytest.approx(halves, abs=1e-5)


def test_symmetric_and_without_order():
    a, b = rows(6), rows(6, seed=1)
    loss = nt_xent(a, b, 0.1)
    torch.testing.assert_close(nt_xent(b, a, 0.1), loss)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nt_xent(a[order], b[order], 0.1), loss)
    assert (nt_xent(a[order], b, 0.1) - loss).abs() > 0.01


def test_identical_embeddings_in_half_precision():
    same = torch.ones(4, 16, dtype=torch.bfloat16, requires_grad=True)
    loss = nt_xent(same, same, 0.01)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(7), abs=1e-5) and same.grad.isfinite().all()
