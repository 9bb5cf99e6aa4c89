"""The linear probe: tasks, live and cached features, determinism, and a trunk that stays as it was."""

import numpy as np
import pytest
import torch

from cmcgns.errors import InputError
from cmcgns.evaluation.features import cached_features, frozen_maps, live_features, pooled_features
from cmcgns.evaluation.probe import fit_probe, predict_probe

QUICK = {"lr": 0.05, "max_epochs": 30, "batch_size": 16}


def _table(n=60, channels=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, channels)).astype(np.float32)


def test_a_separable_problem_is_learnt_in_each_task():
    table = _table(300)
    train, valid = np.arange(200), np.arange(200, 300)
    binary = (table[:, 0] > 0).astype(int)
    multilabel = np.stack([binary, table[:, 1] > 0], 1)
    multiclass = table[:, :3].argmax(1)
    cases = [("binary", binary, 1), ("multilabel", multilabel, 2), ("multiclass", multiclass, 3)]
    for task, targets, outputs in cases:
        head, history = fit_probe(table, targets, train, valid, task=task, **QUICK)
        probabilities = predict_probe(head, table, valid, task=task)
        assert probabilities.shape == (100, outputs) and probabilities.dtype == np.float32
        if task == "multiclass":
            np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
            right = probabilities.argmax(1) == targets[valid]
        else:
            right = (probabilities > 0.5) == targets[valid].reshape(100, -1)
        assert right.mean() > 0.9
        best = [row["valid_loss"] for row in history if row["best"]]
        assert best == [min(row["valid_loss"] for row in history)]


def test_validation_loss_is_the_mean_over_all_validation_images():
    table, targets = _table(), (np.arange(60) % 2)
    head, history = fit_probe(
        table, targets, range(40), range(40, 60), task="binary", batch_size=7, max_epochs=3
    )
    p = predict_probe(head, table, range(40, 60), task="binary")[:, 0].astype(float)
    t = targets[40:]
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert min(row["valid_loss"] for row in history) == pytest.approx(expected, rel=1e-5)


def test_same_seed_same_bytes_and_the_seed_matters():
    table, targets = _table(), _table()[:, 0] > 0
    heads = [
        fit_probe(table, targets, range(40), range(40, 60), task="binary", max_epochs=3, seed=seed)[0].weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_one_training_image_one_validation_image_and_one_test_image():
    """Trap 11 among them."""
    table = _table(3)
    head, history = fit_probe(table, np.array([0, 1, 1]), [0], [1], task="binary", max_epochs=2)
    assert len(history) == 2
    assert predict_probe(head, table, [2], task="binary").shape == (1, 1)


def test_a_class_that_no_training_image_has_keeps_its_output():
    head, _ = fit_probe(
        _table(6), np.array([0, 1, 0, 1, 0, 1]), range(4), [4, 5], task="multiclass", classes=3, max_epochs=1
    )
    assert predict_probe(head, _table(6), [0], task="multiclass").shape == (1, 3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"task": "regression"}, "unknown task"),
        ({"task": "binary", "valid": []}, "no validation image"),
        ({"task": "binary", "train": []}, "no training image"),
    ],
)
def test_bad_requests_are_input_errors(kwargs, message):
    with pytest.raises(InputError, match=message):
        fit_probe(
            **{"features": _table(4), "targets": np.zeros(4), "train": [0, 1], "valid": [2, 3], **kwargs}
        )


def test_cached_views_are_drawn_in_training_and_the_centre_is_kept_for_evaluation():
    views = np.arange(5)[:, None, None] + np.arange(4)[None, :, None] / 10 + np.zeros((1, 1, 2))
    features = cached_features(views.astype(np.float16))
    indices = np.array([4, 1, 2])
    centre = features(indices, None, None)
    torch.testing.assert_close(centre[:, 0], torch.tensor([4.0, 1.0, 2.0]))
    assert centre.dtype == torch.float32
    generator = torch.Generator().manual_seed(0)
    drawn = np.stack([features(indices, 0, generator)[:, 0].numpy() for _ in range(40)])
    view = np.rint((drawn - [4, 1, 2]) * 10)
    assert set(view.ravel()) == {1, 2, 3}  # every random crop is used, the centre one never


def test_memory_mapped_views_give_the_same_probe(tmp_path):
    views = np.random.default_rng(0).normal(size=(20, 3, 4)).astype(np.float16)
    np.save(tmp_path / "views.npy", views)
    mapped = np.load(tmp_path / "views.npy", mmap_mode="r")
    heads = [
        fit_probe(v, np.arange(20) % 2, range(12), range(12, 20), task="binary", max_epochs=2)[0]
        for v in (views, mapped, torch.from_numpy(views))
    ]
    assert torch.equal(heads[0].weight, heads[1].weight) and torch.equal(heads[0].weight, heads[2].weight)


@pytest.mark.usefixtures("float64")
def test_pooled_features_are_the_mean_of_layer4_in_eval_mode(trunk, squares, digest):
    images, before = squares[0], digest(trunk)
    pooled = pooled_features(trunk, [images[:3], images[3:]])
    with torch.no_grad():
        x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(images))))
        expected = trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(x)))).mean((2, 3))
    torch.testing.assert_close(pooled, expected)
    assert pooled.shape == (4, 512) and not pooled.requires_grad
    assert digest(trunk) == before and not trunk.training


def test_live_features_leave_the_trunk_bit_for_bit(trunk, squares, digest):
    images, before, asked = squares[0], digest(trunk), []

    def crops(indices, epoch, generator):
        asked.append((epoch, generator is None))
        shift = 0 if epoch is None else int(torch.randint(4, (1,), generator=generator))
        return images[indices].roll(shift, -1)

    head, _ = fit_probe(
        live_features(trunk, crops), [0, 1, 0, 1], [0, 1, 2], [3], task="binary", max_epochs=3
    )
    assert digest(trunk) == before
    assert all(p.grad is None for p in trunk.parameters())
    assert asked == [(None, True), (0, False), (1, False), (2, False)]  # the validation set is encoded once


@pytest.mark.usefixtures("float64")
def test_kept_maps_equal_fresh_ones_and_respect_the_budget(trunk, squares):
    calls = []

    def images(indices):
        calls.append(indices.tolist())
        return squares[0][indices]

    layers = ("layer3", "layer4")
    size = (256 * 4 * 4 + 512 * 2 * 2) * 8  # bytes of one image's maps
    maps = frozen_maps(trunk, images, layers, cache_bytes=2 * size)
    fresh = frozen_maps(trunk, lambda i: squares[0][i], layers)
    for order in ([0, 1, 2], [2, 1, 0], [3, 1]):
        for got, wanted in zip(maps(np.array(order)), fresh(np.array(order)), strict=True):
            torch.testing.assert_close(got, wanted)
    assert calls == [[0, 1, 2], [2], [3]]  # two images fit, the others are encoded each time
