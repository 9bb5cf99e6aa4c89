"""The U-Net's loss against hand-computed numbers and a pixel loop."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.losses.segmentation import segmentation_loss, soft_dice


def test_soft_dice_by_hand():
    # probabilities 1/2 and 3/4 for targets 1 and 0: (2 * 0.5 + 1) / (1.25 + 1 + 1)
    logits = torch.tensor([0.0, math.log(3)])
    assert soft_dice(logits, torch.tensor([1.0, 0.0])).item() == pytest.approx(2 / 3.25, rel=1e-5)


def test_nothing_predicted_where_nothing_is_has_no_dice_loss():
    assert soft_dice(torch.full((2, 8, 8), -40.0), torch.zeros(2, 8, 8)).item() == pytest.approx(1, rel=1e-5)


def test_loss_by_hand():
    # one pixel, probability 1/2, target 1: focal = (1/2)^2 ln 2, Dice = (2 * 0.5 + 1) / (0.5 + 1 + 1) = 0.8
    loss = segmentation_loss(torch.zeros(1), torch.ones(1))
    assert loss.item() == pytest.approx(10 * 0.25 * math.log(2) - math.log(0.8), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-6, 6), st.sampled_from([0.0, 1.0, 0.3])), min_size=1, max_size=12),
    st.sampled_from([0.0, 1.0, 2.0]),
)
def test_loss_equals_a_loop_over_pixels(pixels, gamma):
    focal = overlap = total = 0.0
    for logit, target in pixels:
        p = 1 / (1 + math.exp(-logit))
        right = p * target + (1 - p) * (1 - target)
        cross_entropy = -target * math.log(p) - (1 - target) * math.log(1 - p)
        focal += (1 - right) ** gamma * cross_entropy
        overlap += p * target
        total += p + target
    expected = 10 * focal / len(pixels) - math.log((2 * overlap + 1) / (total + 1))
    logits, targets = torch.tensor(pixels, dtype=torch.float32).unbind(1)
    loss = segmentation_loss(logits, targets, gamma=gamma).item()
    assert loss == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_large_and_half_precision_logits_stay_finite():
    logits = torch.tensor([200.0, -200.0], dtype=torch.bfloat16, requires_grad=True)
    loss = segmentation_loss(logits, torch.tensor([0.0, 1.0]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item()) and torch.isfinite(logits.grad).all()
