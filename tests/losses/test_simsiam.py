import pytest
import torch

from cmcgns.losses.reconstruction import reconstruction_loss
from cmcgns.losses.simsiam import simsiam_loss


def test_equal_inputs_give_minus_one_and_orthogonal_ones_zero():
    x = torch.tensor([[[1.0, 0.0], [0.0, 3.0]]])
    y = torch.tensor([[[0.0, 2.0], [5.0, 0.0]]])
    assert simsiam_loss(x, x, x, x).item() == pytest.approx(-1)
    assert simsiam_loss(x, y, x, y).item() == pytest.approx(0)


def test_equals_the_loop_and_is_symmetric():
    px, py, x, y = torch.randn(4, 2, 3, 5, generator=torch.Generator().manual_seed(0))

    def cos(a, b):
        return (a @ b / (a.norm() * b.norm())).item()

    slow = -sum(cos(px[i, p], y[i, p]) / 2 + cos(py[i, p], x[i, p]) / 2 for i in range(2) for p in range(3))
    assert simsiam_loss(px, py, x, y).item() == pytest.approx(slow / 6, abs=1e-6)
    torch.testing.assert_close(simsiam_loss(px, py, x, y), simsiam_loss(py, px, y, x))


def test_targets_get_no_gradient():
    px, py, x, y = (torch.randn(2, 3, 5).requires_grad_() for _ in range(4))
    simsiam_loss(px, py, x, y).backward()
    assert x.grad is None and y.grad is None
    assert px.grad.abs().sum() > 0 and py.grad.abs().sum() > 0


def test_reconstruction_values():
    dark = -torch.ones(2, 3, 4, 4)
    assert reconstruction_loss(dark, dark).item() == 0
    assert reconstruction_loss(torch.zeros_like(dark), dark).item() == 1
    half = torch.zeros_like(dark)
    half[:, :, :2] = -1
    assert reconstruction_loss(half.bfloat16(), dark).item() == 0.5
