"""Batch transforms: determinism, slow references, and what must not change."""

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from scipy import ndimage

from cmcgns.images.transforms import (
    affine,
    center_crop,
    gaussian_blur,
    jitter,
    random_crop,
    resized_crop,
    shift_scale_rotate,
    to_network,
)


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
    monkeypatch.setattr("cmcgns.images.transforms.uniform", lambda count, like, generator: torch.ones(count))
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
    monkeypatch.setattr("cmcgns.images.transforms.uniform", lambda count, like, generator: torch.ones(count))
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


def torchvision(function, batch, *parameters):
    """torchvision's function on one image at a time, with the numbers that each has in `parameters`."""
    rows = zip(batch, *(p.tolist() for p in parameters), strict=True)
    return torch.cat([function(image[None], *row) for image, *row in rows])


def numbers(count, low, high, seed=0):
    return low + (high - low) * torch.rand(count, generator=generator(seed))


def test_affine_agrees_with_torchvision():
    batch = images(8, 41, 60).float()
    zoom, angle = numbers(8, 0.6, 1.5), numbers(8, -3, 3, 1)
    pixels = torch.randint(-9, 10, (8, 2), generator=generator(2))
    expected = torchvision(
        # torchvision turns clockwise
        lambda x, t, z, a: F.affine(x, -math.degrees(a), t, z, 0.0, F.InterpolationMode.BILINEAR),
        batch, pixels, zoom, angle,
    )  # fmt: skip
    torch.testing.assert_close(
        affine(batch, zoom, angle, pixels / torch.tensor([60, 41])), expected, atol=0.02, rtol=0
    )
    assert torch.equal(affine(batch, zoom, angle), affine(batch, zoom, angle, torch.zeros(8, 2)))


@pytest.mark.parametrize("size", [15, 40, 64])  # smaller and larger than most boxes
def test_resized_crop_agrees_with_torchvision(size):
    batch = images(12, 40, 48, seed=size)
    height, width = (torch.randint(1, end, (12,), generator=generator(end)) for end in (41, 49))
    height[0], width[0] = 40, 48
    top, left = ((numbers(12, 0, 1, 3) * (n + 1 - x)).floor() for n, x in ((40, height), (48, width)))
    out = resized_crop(batch, top, left, height.float(), width.float(), size)
    expected = torchvision(
        lambda x, *box: F.resized_crop(x, *map(int, box), [size, size], antialias=True),
        batch.float(), top, left, height, width,
    )  # fmt: skip
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)
    whole = [torch.full((12,), float(n)) for n in (0, 0, 40, 40)]
    assert torch.equal(resized_crop(batch[:, :, :40], *whole, 40), batch[:, :, :40].float())


def test_jitter_agrees_with_torchvision():
    batch = images(20).float()
    brightness, contrast, first = numbers(20, 0, 2), numbers(20, 0, 2, 1), torch.arange(20) % 2 == 0

    def one(x, brightness, contrast, first):
        x = F.adjust_brightness(x, brightness) if first else F.adjust_contrast(x, contrast)
        return F.adjust_contrast(x, contrast) if first else F.adjust_brightness(x, brightness)

    expected = torchvision(one, batch / 255, brightness, contrast, first) * 255
    out = jitter(batch, brightness, contrast, first)
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)
    assert (out - jitter(batch, brightness, contrast, ~first)).abs().amax((1, 2)).median() > 1
    assert torch.equal(batch, images(20).float())  # its argument is left alone


def test_blur_agrees_with_torchvision_and_scipy():
    batch, sigma = images(6, 24, 30).float(), torch.tensor([0.1, 0.3, 0.7, 1.0, 1.5, 2.0])
    out = gaussian_blur(batch, sigma, 6)
    torch.testing.assert_close(
        out, torchvision(lambda x, s: F.gaussian_blur(x, [13, 13], [s, s]), batch, sigma), atol=1e-3, rtol=0
    )
    for x, s, blurred in zip(batch, sigma, out, strict=True):
        expected = ndimage.gaussian_filter(x.numpy(), s.item(), mode="mirror", radius=6)
        np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-3)
