from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from cmcgns.losses.prototypes import choice_divergence, masked_average, match_slots


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_target_meets_its_own_output():
    """A cycle of three: its inverse is another permutation, which the released code applies."""
    targets = torch.tensor([[[0.0], [10.0], [20.0]]])
    outputs = torch.tensor([[[11.0], [21.0], [1.0]]])
    assert match_slots(outputs, targets).flatten().tolist() == [1, 11, 21]


def test_matching_is_the_best_of_all_permutations():
    outputs, targets = draw(5, 4, 3), draw(5, 4, 3, seed=1)
    for found, output, target in zip(match_slots(outputs, targets), outputs, targets, strict=True):
        best = min((output[list(order)] - target).abs().sum().item() for order in permutations(range(4)))
        assert (found - target).abs().sum().item() == pytest.approx(best, abs=1e-5)


def test_matching_passes_the_gradient_to_the_matched_output():
    outputs = torch.tensor([[[5.0], [0.0]]], requires_grad=True)
    match_slots(outputs, torch.tensor([[[0.0], [5.0]]]))[0, 0].sum().backward()
    assert outputs.grad.flatten().tolist() == [0, 1]


def test_a_diverged_run_is_left_to_the_trainer():
    assert match_slots(torch.full((1, 2, 1), torch.nan), torch.zeros(1, 2, 1)).isnan().all()


def test_divergence_is_kl_of_real_sentences():
    outputs, targets = draw(2, 3, 5), draw(2, 3, 5, seed=1)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    expected = F.kl_div(
        outputs[mask].log_softmax(1), targets[mask].log_softmax(1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(choice_divergence(outputs, targets, mask), expected)
    assert choice_divergence(targets, targets, mask).item() == pytest.approx(0, abs=1e-6)


def test_masked_average_by_hand():
    values = torch.tensor([[1.0, 2.0, 50.0], [6.0, 50.0, 50.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_average(values, mask).item() == 3
    assert masked_average(values, torch.zeros_like(mask)).item() == 0
