"""Batch transforms: determinism, slow references, and what must not change."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from cmcgns.images.transforms import center_crop, moco2, random_crop, shift_scale_rotate, to_network


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=6, height=40, width=48, seed=0):
    return torch.randint(0, 256, (count, height, width), generator=generator(seed), dtype=torch.uint8)


def test_random_crops_are_windows_at_all_places():
    # a pixel's value tells where it is
    batch = torch.arange(5 * 6, dtype=torch.int16).view(1, 5, 6).expand(600, -1, -1)
    crops = random_crop(batch, 4, generator())
    corners = crops[:, 0, 0]
    window = torch.arange(4)[:, None] * 6 + torch.arange(4)
    assert torch.equal(crops, corners[:, None, None] + window)
    places, counts = corners.unique(return_counts=True)
    assert places.tolist() == [0, 1, 2, 6, 7, 8] and counts.min() > 60  # 600 draws over 2 x 3 places


def test_crops_are_a_function_of_the_generator():
    batch = images()
    assert torch.equal(random_crop(batch, 32, generator(1)), random_crop(batch, 32, generator(1)))
    assert not torch.equal(random_crop(batch, 32, generator(1)), random_crop(batch, 32, generator(2)))
    assert torch.equal(random_crop(batch[:, :32, :32], 32, generator()), batch[:, :32, :32])


def test_center_crop():
    batch = torch.arange(25).view(1, 5, 5)
    assert center_crop(batch, 3).tolist() == [[[6, 7, 8], [11, 12, 13], [16, 17, 18]]]
    assert center_crop(batch, 2).tolist() == [[[6, 7], [11, 12]]]


def test_to_network():
    out = to_network(torch.tensor([[[0, 255, 51]]], dtype=torch.uint8))
    assert out.shape == (1, 3, 1, 3) and out.dtype == torch.float32
    torch.testing.assert_close(out, torch.tensor([-1.0, 1.0, -0.6]).expand(1, 3, 1, 3))


def test_shift_scale_rotate_leaves_the_others_alone():
    batch, mask = images(200), torch.rand(200, 20, 24, generator=generator(5))
    new, new_mask = shift_scale_rotate(batch, mask, generator())
    assert new.dtype == torch.uint8 and new.shape == batch.shape and new_mask.shape == mask.shape
    changed = (new != batch).flatten(1).any(1)
    assert torch.equal(changed, (new_mask != mask).flatten(1).any(1))
    assert 70 <= changed.sum() <= 130  # p 0.5 of 200: 100 +- 4 standard deviations
    same, same_mask = shift_scale_rotate(batch, mask, generator(), p=0.0)
    assert torch.equal(same, batch) and torch.equal(same_mask, mask)


def test_shift_scale_rotate_without_range_is_the_identity():
    batch, mask = images(), torch.rand(6, 20, 24)
    new, new_mask = shift_scale_rotate(batch, mask, generator(), scale=0.0, rotate=0.0, p=1.0)
    assert torch.equal(new, batch)
    torch.testing.assert_close(new_mask, mask, atol=1e-5, rtol=0)


def test_shift_scale_rotate_agrees_with_scipy(monkeypatch):
    """A zoom of 1.1 and a turn of 10 degrees on a field that is not square."""
    monkeypatch.setattr("cmcgns.images.transforms._uniform", lambda count, like, generator: torch.ones(count))
    batch = images(1, 41, 61).float()
    new, mask = shift_scale_rotate(batch, batch, generator(), p=2.0)
    angle = math.radians(10)
    cos, sin = math.cos(angle) / 1.1, math.sin(angle) / 1.1
    matrix = np.array([[cos, sin], [-sin, cos]])  # output (y, x) -> input (y, x), about the centre
    centre = np.array([20.0, 30.0])
    expected = ndimage.affine_transform(
        batch[0].numpy(), matrix, centre - matrix @ centre, order=1, mode="grid-constant", cval=0
    )
    np.testing.assert_allclose(new[0].numpy(), expected, atol=0.02)
    assert torch.equal(new, mask)


def test_positive_angles_turn_counter_clockwise(monkeypatch):
    monkeypatch.setattr("cmcgns.images.transforms._uniform", lambda count, like, generator: torch.ones(count))
    batch = images(2, 32, 32)
    new, _ = shift_scale_rotate(batch, batch, generator(), scale=0.0, rotate=90.0, p=2.0)
    assert torch.equal(new, torch.rot90(batch, 1, (1, 2)))


def test_image_and_mask_move_alike():
    square = torch.zeros(50, 64, 64, dtype=torch.uint8)
    square[:, 8:24, 30:50] = 255
    mask = torch.nn.functional.avg_pool2d(square.float().unsqueeze(1), 2).squeeze(1) / 255
    new, new_mask = shift_scale_rotate(square, mask, generator(3), p=1.0)
    half = torch.nn.functional.avg_pool2d(new.float().unsqueeze(1), 2).squeeze(1) / 255
    assert (half - new_mask).abs().mean() < 0.01
    assert (new != square).flatten(1).any(1).all()


def test_moco2_statistics():
    ramp = torch.arange(64, dtype=torch.uint8).mul(2).add(60).expand(400, 48, 64).contiguous()
    out = moco2(ramp, generator())
    assert out.dtype == torch.uint8 and out.shape == ramp.shape
    falling = out[:, 24, 8].int() > out[:, 24, 56].int()
    assert 150 <= falling.sum() <= 250  # flipped with p 0.5
    means = out.float().mean((1, 2))
    unchanged = (means - ramp[0].float().mean()).abs() < 1.0
    assert 50 <= unchanged.sum() <= 120  # p 0.2 left alone, and some factors near 1
    assert means.min() > 0.55 * 123 and means.max() < 1.45 * 123


def test_moco2_is_a_function_of_the_generator_and_independent_over_the_batch():
    batch = images(4, 32, 32)
    assert torch.equal(moco2(batch, generator(1)), moco2(batch, generator(1)))
    assert not torch.equal(moco2(batch, generator(1)), moco2(batch, generator(2)))
    flat = torch.full((64, 16, 16), 100, dtype=torch.uint8)
    levels = moco2(flat, generator())[:, 0, 0]
    assert levels.unique().numel() > 20  # every image has its own brightness
    assert torch.equal(moco2(flat, generator()), levels[:, None, None].expand_as(flat))  # flat stays flat


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_agrees_with_scipy(sigma):
    from cmcgns.images.transforms import _blur

    batch = images(3, 24, 30).float()
    expected = [ndimage.gaussian_filter(x.numpy(), sigma, mode="mirror", radius=6) for x in batch]
    np.testing.assert_allclose(_blur(batch, torch.full((3,), sigma)).numpy(), np.stack(expected), atol=1e-3)
