"""The learning rate against the values of the method specification, section 11.6, and by hand."""

import pytest

from cmcgns.training.optimizers import learning_rate

RATE = {"total": 100, "warmup": 10, "lr": 1e-5, "start_lr": 1e-7}


@pytest.mark.parametrize(
    ("update", "lr"), [(0, 1e-7), (1, 1.2e-6), (5, 5.6e-6), (9, 1e-5), (10, 1e-5), (55, 5e-6), (99, 3.05e-9)]
)
def test_warm_up_and_cosine(update, lr):
    assert learning_rate(update, **RATE) == pytest.approx(lr, rel=2e-3)


@pytest.mark.parametrize("warmup", [0, 1])
def test_one_update_of_warm_up_or_none(warmup):
    rates = [learning_rate(u, total=5, warmup=warmup, lr=1.0, start_lr=0.1) for u in range(5)]
    assert rates[0] == (0.1 if warmup else 1.0)
    assert all(0 < rate <= 1 for rate in rates[1:])


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_the_warm_up_is_the_same_before_each_schedule(schedule):
    rates = [learning_rate(u, **RATE, schedule=schedule, milestones=[50]) for u in range(11)]
    assert rates == pytest.approx([learning_rate(u, **RATE) for u in range(11)])


def test_steps_divide_by_ten_from_each_milestone_on():
    at = {u: learning_rate(u, **RATE, schedule="step", milestones=[30, 60]) for u in (10, 29, 30, 59, 60, 99)}
    assert at == pytest.approx({10: 1e-5, 29: 1e-5, 30: 1e-6, 59: 1e-6, 60: 1e-7, 99: 1e-7})


def test_constant_stays_and_an_unknown_schedule_is_refused():
    assert [learning_rate(u, **RATE, schedule="constant") for u in (9, 50, 99)] == [1e-5] * 3
    with pytest.raises(ValueError, match="unknown schedule 'plateau'"):
        learning_rate(50, **RATE, schedule="plateau")
