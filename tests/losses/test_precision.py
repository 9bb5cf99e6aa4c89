import torch

from cmcgns.losses.precision import cosines, fp32, unit


def test_cosines_by_hand():
    a = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
    b = torch.tensor([[1.0, 0.0], [0.0, -5.0], [6.0, 8.0]])
    torch.testing.assert_close(cosines(a, b), torch.tensor([[0.6, -0.8, 1.0], [0.0, -1.0, 0.8]]))


def test_zero_vector_stays_zero_and_has_a_finite_gradient():
    x = torch.zeros(1, 3, requires_grad=True)
    unit(x).sum().backward()
    assert torch.equal(unit(x), torch.zeros(1, 3))
    assert x.grad.isfinite().all()


def test_fp32_inside_autocast_and_for_half_inputs():
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x.T).dtype == torch.bfloat16  # the guard is needed here
        assert torch.equal(cosines(x, x), cosines(x.clone(), x))
        inside = cosines(x, x)
    assert torch.equal(inside, cosines(x, x))
    assert unit(x.bfloat16()).dtype == torch.float32
    assert unit(x.double()).dtype == torch.float64


def test_fp32_widens_keyword_arguments_and_leaves_the_rest():
    seen = fp32(lambda x, *, y, n: (x.dtype, y.dtype, n))
    half = torch.ones(2, dtype=torch.float16)
    assert seen(half, y=half, n="as is") == (torch.float32, torch.float32, "as is")
    assert seen(torch.ones(2, dtype=torch.int64), y=half, n=1)[0] == torch.int64
