"""The learning rate against the values of the method specification, section 11.6."""

import pytest

from cmcgns.training.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "lr"), [(0, 1e-7), (1, 1.2e-6), (5, 5.6e-6), (9, 1e-5), (10, 1e-5), (55, 5e-6), (99, 3.05e-9)]
)
def test_warm_up_and_cosine(step, lr):
    assert warmup_cosine(step, total=100, warmup=10, lr=1e-5, start_lr=1e-7) == pytest.approx(lr, rel=2e-3)


@pytest.mark.parametrize("warmup", [0, 1])
def test_one_step_of_warm_up_or_none(warmup):
    rates = [warmup_cosine(step, total=5, warmup=warmup, lr=1.0, start_lr=0.1) for step in range(5)]
    assert rates[0] == (0.1 if warmup else 1.0)
    assert all(0 < rate <= 1 for rate in rates[1:])
