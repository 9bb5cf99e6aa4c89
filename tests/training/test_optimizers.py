"""Optimisers: one step by hand, and which parameters decay."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from cmcgns.errors import InputError
from cmcgns.training.optimizers import build_optimizer

TRAINING = {
    "optimizer": "sgd", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.01, "betas": [0.9, 0.99], "eps": 1e-8,
    "decay_norm_and_bias": True,
}  # fmt: skip


def parameters() -> list[nn.Parameter]:
    """A matrix, a bias and a temperature, all with a gradient of 1, and one that is not trained; in float64."""
    values = [torch.full((2, 2), 3.0), torch.full((2,), 4.0), torch.tensor(5.0), torch.ones(2, 2)]
    found = [nn.Parameter(value.double()) for value in values]
    found[3].requires_grad_(False)
    for p in found[:3]:
        p.grad = torch.ones_like(p)
    return found


def after(steps: int = 1, **changes) -> list[float]:
    """The first number of each parameter after some steps with the same gradient."""
    found = parameters()
    optimizer = build_optimizer(found, TRAINING | changes)
    for _ in range(steps):
        optimizer.step()
    return [p.flatten()[0].item() for p in found]


def test_sgd_with_momentum():
    # 3 - 0.1 * (1 + 0.01 * 3) = 2.897; then v = 0.5 * 1.03 + 1.02897
    assert after() == pytest.approx([2.897, 3.896, 4.895, 1.0])
    assert after(2)[0] == pytest.approx(2.897 - 0.1 * (0.5 * 1.03 + 1 + 0.01 * 2.897))


def test_norms_biases_and_temperatures_do_not_decay_on_request():
    assert after(decay_norm_and_bias=False) == pytest.approx([2.897, 3.9, 4.9, 1.0])
    # AdamW decays by lr * weight_decay * value and moves by lr on its first step
    assert after(optimizer="adamw", decay_norm_and_bias=False) == pytest.approx([2.897, 3.9, 4.9, 1.0])
    assert after(optimizer="adamw") == pytest.approx([2.897, 3.896, 4.895, 1.0])


def test_adam_adds_the_decay_to_the_gradient():
    assert after(optimizer="adam") == pytest.approx([2.9, 3.9, 4.9, 1.0])
    assert after(optimizer="adam", weight_decay=0.0, betas=[0.0, 0.0]) == pytest.approx([2.9, 3.9, 4.9, 1.0])


def test_lars_scales_by_the_ratio_of_norms_what_decays():
    # |w| = 6, |g| = 2: 0.001 * 6 / (2 + 0.01 * 6) of the step with decay
    step = 0.001 * 6 / 2.06 * (1 + 0.03)
    found = after(optimizer="lars", decay_norm_and_bias=False)
    assert found == pytest.approx([3 - 0.1 * step, 3.9, 4.9, 1.0], abs=1e-6)


def test_lars_without_timm_and_an_unknown_name_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm.optim", None)
    with pytest.raises(InputError, match="lars needs the package timm"):
        after(optimizer="lars")
    with pytest.raises(ValueError, match="unknown optimizer 'lion'"):
        after(optimizer="lion")
