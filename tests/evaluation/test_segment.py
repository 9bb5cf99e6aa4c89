"""The segmenter learns four squares, augments images and masks together, and leaves the trunk alone."""

import numpy as np
import pytest
import torch

from cmcgns.errors import InputError
from cmcgns.evaluation.metrics import dice_metrics, mask_counts
from cmcgns.evaluation.segment import fit_segmenter, predict_masks

SMALL = {"decoder_channels": (16, 16, 8, 8, 8), "lr": 0.01}


def _fit(trunk, squares, train=range(4), valid=range(4), **kwargs):
    images, _, masks = squares
    sources = (lambda i: images[i], lambda i: masks[i])
    return fit_segmenter(trunk, *sources, train, valid, **{**SMALL, "max_epochs": 2, **kwargs})


def test_four_squares_are_learnt_and_the_trunk_stays_bit_for_bit(trunk, squares, digest):
    images, _, masks = squares
    before = digest(trunk)
    head, history = _fit(trunk, squares, max_epochs=60, patience=60, cache_bytes=1 << 30)
    predicted = predict_masks(trunk, head, lambda i: images[i], range(4), batch_size=3)
    assert predicted.shape == (4, 64, 64) and predicted.dtype == np.uint8
    assert dice_metrics(mask_counts(predicted, masks.numpy()))["dice_positive"] > 0.9
    assert [row["best"] for row in history].index(True) == int(
        np.argmin([row["valid_loss"] for row in history])
    )
    assert digest(trunk) == before and not trunk.training


def test_augmentation_is_for_training_only_and_repeats_with_the_seed(trunk, squares, digest):
    draws = []

    def augment(images, masks, generator):
        shift = int(torch.randint(8, (1,), generator=generator))
        draws.append((len(images), shift))
        return images.roll(shift, -1), masks.roll(shift, -1)

    runs = []
    for _ in range(2):
        draws.clear()
        head, _ = _fit(trunk, squares, train=[0, 1, 2], valid=[3], max_epochs=4, augment=augment)
        runs.append((list(draws), digest(head)))
    assert runs[0] == runs[1]
    assert [n for n, _ in runs[0][0]] == [3] * 4
    assert len({shift for _, shift in runs[0][0]}) > 1


def test_same_seed_same_bytes(trunk, squares, digest):
    states = [digest(_fit(trunk, squares, seed=seed)[0]) for seed in (0, 0, 1)]
    assert states[0] == states[1] != states[2]


def test_one_training_image_without_a_mask_and_empty_validation_masks(trunk, squares):
    images, boxes, masks = squares
    _, history = _fit(trunk, (images, boxes, torch.zeros_like(masks)), train=[0], valid=[1])
    assert all(np.isfinite(row["valid_loss"]) for row in history)


def test_the_threshold_is_exclusive(trunk, squares):
    head, _ = _fit(trunk, squares, max_epochs=1)
    for part in head.head.parameters():
        part.data.zero_()  # probability 1/2 everywhere
    assert predict_masks(trunk, head, lambda i: squares[0][i], [2]).sum() == 0
    assert predict_masks(trunk, head, lambda i: squares[0][i], [2], threshold=0.49).all()


def test_bf16_runs(trunk, squares):
    head, _ = _fit(trunk, squares, precision="bf16-mixed", max_epochs=1)
    assert predict_masks(trunk, head, lambda i: squares[0][i], [0], precision="bf16-mixed").shape == (
        1,
        64,
        64,
    )


@pytest.mark.parametrize(
    ("train", "valid", "message"), [([], [0], "no training"), ([0], [], "no validation")]
)
def test_an_empty_split_is_an_input_error(trunk, squares, train, valid, message):
    with pytest.raises(InputError, match=message):
        _fit(trunk, squares, train=train, valid=valid)
