"""The training loop: learning rates, early stopping, best weights, order, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from cmcgns.errors import InputError
from cmcgns.evaluation.fit import batches_of, fit, shuffled_batches

FAST = {"lr": 0.1, "weight_decay": 0.0, "batch_size": 2, "max_epochs": 6, "patience": 10, "seed": 0}


class _Counter(nn.Module):
    """One weight that every step moves."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))


def _run(scores, train=range(4), head=None, **kwargs):
    head = head or _Counter()
    seen = {"batches": [], "states": [], "modes": []}

    def batch_loss(indices, epoch, generator):
        seen["batches"].append((epoch, indices.tolist(), torch.rand(1, generator=generator).item()))
        seen["modes"].append(head.training)
        return (head.weight - 5) ** 2

    def validate():
        seen["modes"].append(head.training)
        seen["states"].append(head.weight.item())
        return {"score": scores[len(seen["states"]) - 1]}

    history = fit(head, batch_loss, train, validate, monitor="score", **{**FAST, **kwargs})
    return head, history, seen


def test_cosine_falls_once_an_epoch_and_constant_does_not():
    _, history, _ = _run([1] * 6)
    assert [row["lr"] for row in history] == pytest.approx(
        [0.1 * (1 + math.cos(math.pi * e / 6)) / 2 for e in range(6)]
    )
    _, history, _ = _run([1] * 6, schedule="constant")
    assert {row["lr"] for row in history} == {0.1}
    with pytest.raises(InputError, match="schedule"):
        _run([1], schedule="linear")


@pytest.mark.parametrize(
    ("mode", "scores", "best", "epochs"),
    [
        (
            "min",
            [3, 2, 2, 2.5, 1, 0],
            1,
            4,
        ),  # an equal score is no improvement; two epochs without one end it
        ("max", [1, 5, 4, 6, 6, 6], 3, 6),
        ("min", [9, 9, 9, 9, 9, 9], 0, 3),
    ],
)
def test_early_stopping_restores_the_best_weights(mode, scores, best, epochs):
    head, history, seen = _run(scores, mode=mode, patience=2)
    assert len(history) == epochs
    assert [row["epoch"] for row in history if row["best"]] == [best]
    assert head.weight.item() == seen["states"][best]
    assert len(set(seen["states"])) == epochs
    assert not head.training


def test_training_and_validation_modes():
    _, _, seen = _run([1] * 6, max_epochs=2)
    assert seen["modes"] == [True, True, False] * 2


def test_the_order_is_drawn_each_epoch_and_repeats_with_the_seed():
    runs = [_run([1] * 6, train=range(10, 20), seed=seed)[2]["batches"] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] and runs[0] != runs[2]
    orders = [[i for e, batch, _ in runs[0] if e == epoch for i in batch] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10, 20))


def test_global_random_state_is_neither_used_nor_moved():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _run([1] * 6)[2]["batches"]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert _run([1] * 6)[2]["batches"] == first


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (3, [3]), (4, [4]), (5, [4]), (11, [4, 4])])
def test_a_rest_is_dropped_only_beside_full_batches(count, sizes):
    batches = list(shuffled_batches(np.arange(count), 4, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == sizes
    assert len({i for batch in batches for i in batch.tolist()}) == sum(sizes)


def test_evaluation_keeps_every_image_in_order():
    assert [batch.tolist() for batch in batches_of([7, 3, 5], 2)] == [[7, 3], [5]]


def test_the_callback_gets_every_row():
    rows = []
    _, history, _ = _run([3, 2, 1, 1, 1, 1], callback=lambda epoch, row: rows.append((epoch, row["score"])))
    assert rows == [(row["epoch"], row["score"]) for row in history]


def test_history_holds_the_mean_training_loss():
    head, history, _ = _run([1], max_epochs=1)
    # AdamW's first step is the learning rate itself: losses 25 and (5 - 0.1)^2
    assert history[0]["train_loss"] == pytest.approx((25 + 4.9**2) / 2, rel=1e-4)


def test_no_training_image_is_an_input_error():
    with pytest.raises(InputError, match="no training image"):
        _run([1], train=[])


@pytest.mark.parametrize("scores", [[math.nan], [1, math.inf]])
def test_a_score_that_is_not_finite_is_an_input_error(scores):
    with pytest.raises(InputError, match=f"score is .* in epoch {len(scores) - 1}"):
        _run(scores)


def test_a_diverged_training_loss_is_an_input_error():
    head = _Counter()
    with pytest.raises(InputError, match="train_loss is nan in epoch 0"):
        fit(head, lambda *_: head.weight * math.nan, [0], lambda: {"score": 1.0}, monitor="score", **FAST)


def test_bf16_computes_in_bf16_and_unknown_precision_is_refused():
    head, seen = nn.Linear(2, 1), []

    def batch_loss(indices, epoch, generator):
        out = head(torch.ones(len(indices), 2))
        seen.append(out.dtype)
        return out.float().mean()

    fit(
        head,
        batch_loss,
        [0],
        lambda: {"s": 1.0},
        monitor="s",
        **{**FAST, "max_epochs": 1, "precision": "bf16-mixed"},
    )
    assert seen == [torch.bfloat16]
    with pytest.raises(InputError, match="precision"):
        fit(head, batch_loss, [0], lambda: {"s": 1.0}, monitor="s", **FAST, precision="16")
