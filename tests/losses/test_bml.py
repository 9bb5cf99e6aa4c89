import pytest
import torch

from cmcgns.losses.bml import bml_loss, false_negatives

S = torch.tensor([[0.9, 0.85, 0.1], [0.2, 0.6, 0.0], [0.1, 0.1, 0.7]], dtype=torch.float64)
PAIRS = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize(
    "d,expected",
    [(0.1, 0.3), (0, 0.2), (-0.1, 0.1), (-0.2, 0), (-0.35, 0), (-0.5, 0), (-0.7, 0.2), (-1, 0.5)],
)
def test_penalty_of_one_pair(d, expected):
    s = torch.tensor([[0.0, d], [9.0, 0.0]])
    pairs = torch.tensor([[False, True], [False, False]])
    assert bml_loss(s, pairs, alpha=0.2, beta=0.5).item() == pytest.approx(expected, abs=1e-6)


def test_hand_computed_reductions():
    assert bml_loss(S, PAIRS).item() == pytest.approx(0.075, abs=1e-6)
    assert bml_loss(S, PAIRS, reduction="all_pairs").item() == pytest.approx(0.172222, abs=1e-6)
    with pytest.raises(ValueError, match="bml_reduction"):
        bml_loss(S, PAIRS, reduction="sum")


def test_no_false_negative_gives_exactly_zero_and_no_gradient():
    s = S.clone().requires_grad_()
    loss = bml_loss(s, torch.zeros(3, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and (s.grad == 0).all()


@pytest.mark.parametrize("reduction", ["fn_pairs", "all_pairs"])
def test_other_pairs_contribute_no_gradient(reduction):
    s = S.clone().requires_grad_()
    bml_loss(s, PAIRS, reduction=reduction).backward()
    touched = s.grad != 0
    assert touched.tolist() == [[True, True, False], [False, False, False], [False, False, False]]


def test_false_negatives_are_the_members_of_the_anchors_cluster():
    anchors, members = torch.tensor([0, 1, 0]), torch.tensor([0, 0, 1])
    pairs = false_negatives(anchors, members)
    assert pairs.tolist() == [[False, True, False], [False, False, True], [True, True, False]]
    same_text = false_negatives(anchors, anchors)
    assert same_text.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
