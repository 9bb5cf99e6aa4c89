import math

import numpy as np
import pytest
import torch

from cmcgns.losses.tokens import clipped_weights, token_info_nce


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_loss(a, b, tau, weights, counts, positives=None):
    """One sample at a time, one token at a time, in float64."""
    total = 0.0
    for x, y, w, n in zip(a.double(), b.double(), weights.double(), counts.double(), strict=True):
        for p in range(len(x)):
            if w[p] == 0:
                continue
            s = [torch.cosine_similarity(x[p], y[q], dim=0).item() / tau for q in range(len(y))]
            below = sum(n[q].item() * math.exp(s[q]) for q in range(len(y)))
            omega = [float(q == p) if positives is None else positives[p, q].item() for q in range(len(y))]
            above = sum(o * value for o, value in zip(omega, s, strict=True))
            total += w[p].item() * (math.log(below) - above)
    return total / len(a)


@pytest.fixture
def padded():
    """Three samples of 4, 1 and 2 tokens, padded with what must not be looked at."""
    a, b = draw(2, 3, 4, 5)
    counts = (torch.arange(4) < torch.tensor([4, 1, 2])[:, None]).float()
    return a, b, counts


def test_hand_computed_value():
    a = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    there, back = token_info_nce(a, a * 3, 0.5)
    expected = math.log(1 + math.exp(-2))
    assert there.item() == pytest.approx(expected, abs=1e-6) and back.item() == pytest.approx(
        expected, abs=1e-6
    )
    weights = torch.tensor([[0.25, 0.0]])
    there, _ = token_info_nce(a, a, 0.5, weights=weights, counts=torch.tensor([[1, 3]]))
    assert there.item() == pytest.approx(0.25 * math.log(1 + 3 * math.exp(-2)), abs=1e-6)


@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_equals_the_loop(padded, tau):
    a, b, counts = padded
    weights = torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) * counts
    for given in (weights, None):
        used = counts / counts.sum(1, keepdim=True) if given is None else given
        there, back = token_info_nce(a, b, tau, weights=given, counts=counts)
        assert there.item() == pytest.approx(slow_loss(a, b, tau, used, counts), abs=1e-5)
        assert back.item() == pytest.approx(slow_loss(b, a, tau, used, counts), abs=1e-5)


def test_soft_positives_equal_the_loop():
    a, b = draw(2, 2, 3, 4)
    positives = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.5, 0.3], [0.0, 0.3, 0.7]])
    ones = torch.ones(2, 3)
    there, back = token_info_nce(a, b, 0.3, positives=positives)
    assert there.item() == pytest.approx(slow_loss(a, b, 0.3, ones / 3, ones, positives), abs=1e-5)
    assert back.item() == pytest.approx(slow_loss(b, a, 0.3, ones / 3, ones, positives), abs=1e-5)


def test_a_count_is_that_many_equal_tokens():
    a, b = draw(2, 1, 3, 4)
    repeated = [torch.cat([x, x[:, 2:], x[:, 2:]], 1) for x in (a, b)]
    weights = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]])
    expected = token_info_nce(*repeated, 0.1, weights=weights)
    counted = token_info_nce(a, b, 0.1, weights=weights[:, :3], counts=torch.tensor([[1.0, 1.0, 3.0]]))
    torch.testing.assert_close(counted, expected)


def test_padding_and_scale_change_nothing(padded):
    a, b, counts = padded
    expected = token_info_nce(a, b, 0.1, counts=counts)
    more = [torch.cat([x, draw(3, 2, 5, seed=9)], 1) for x in (a, b)]
    torch.testing.assert_close(
        token_info_nce(*more, 0.1, counts=torch.nn.functional.pad(counts, (0, 2))), expected
    )
    torch.testing.assert_close(token_info_nce(a * 7, b, 0.1, counts=counts.bool()), expected)


def test_one_token_has_no_loss_and_none_has_no_gradient():
    a, b = draw(2, 2, 3, 4).requires_grad_()
    counts = torch.tensor([[1, 0, 0], [0, 0, 0]])
    there, back = token_info_nce(a, b, 0.01, counts=counts)
    assert there.item() == pytest.approx(0, abs=1e-5) and back.item() == pytest.approx(0, abs=1e-5)
    (gradient,) = torch.autograd.grad(there + back, a)
    assert gradient.isfinite().all() and (gradient[1] == 0).all()


def test_learned_temperature_gets_a_gradient(padded):
    a, _, counts = padded
    tau = torch.tensor(0.5, requires_grad=True)
    sum(token_info_nce(a, a, tau, counts=counts)).backward()
    assert tau.grad > 0  # all tokens find themselves: a lower temperature lowers the loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_clipped_weights_equal_numpy(dtype):
    """Quantiles of real words only; in half precision too, which torch's quantile refuses (baselines T25)."""
    importance = torch.rand(3, 9, generator=torch.Generator().manual_seed(3)).to(dtype)
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    weights = clipped_weights(importance, mask, 0.1)
    for row, values, real in zip(weights, importance, mask, strict=True):
        x = values[real].double().numpy()
        x = np.clip(x, np.quantile(x, 0.1), np.quantile(x, 0.9))
        np.testing.assert_allclose(row[real].numpy(), x / x.sum(), atol=1e-6)
        assert (row[~real] == 0).all()


def test_clipped_weights_of_no_word_are_zero():
    weights = clipped_weights(torch.ones(2, 3), torch.tensor([[True] * 3, [False] * 3]), 0.1)
    torch.testing.assert_close(weights, torch.tensor([[1 / 3] * 3, [0.0] * 3]))
