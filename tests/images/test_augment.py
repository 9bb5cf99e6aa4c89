"""Recipes: what they draw, and a literal copy of the longest one made of torchvision's functions."""

import pytest
import torch
import torchvision.transforms.functional as F
from torchvision.transforms import ColorJitter, Grayscale, RandomResizedCrop

from cmcgns.images.augment import PARAMETERS, augment, crop_boxes
from cmcgns.images.transforms import center_crop, random_crop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def films(count=6, side=73, seed=0):
    """Smooth grey images."""
    coarse = torch.rand(count, 1, 7, 7, generator=generator(seed))
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").squeeze(1)
    return (fine * 255).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("recipe", PARAMETERS)
def test_every_recipe_is_a_function_of_the_generator(recipe):
    batch = films()
    out = augment(batch, 64, recipe, generator(1))
    assert out.dtype == torch.uint8 and out.shape == (6, 64, 64)
    assert torch.equal(out, augment(batch, 64, recipe, generator(1)))
    assert not torch.equal(out, augment(batch, 64, recipe, generator(2)))
    assert torch.equal(batch, films())


@pytest.mark.parametrize("recipe", PARAMETERS)
def test_every_image_has_draws_of_its_own(recipe):
    out = augment(films(1).expand(40, -1, -1).contiguous(), 64, recipe, generator())
    distinct = len(out.flatten(1).unique(dim=0))
    assert distinct > 20


def test_crop_takes_a_window_and_all_of_a_small_image():
    batch = films()
    assert torch.equal(augment(batch, 64, "crop", generator(4)), random_crop(batch, 64, generator(4)))
    assert torch.equal(augment(batch, 73, "crop", generator(4)), batch)


def test_boxes_are_drawn_as_torchvision_draws_them():
    """Equal distributions of height, width and place: both samples of 3,000 against each other."""
    area = (0.2, 1.0)
    top, left, height, width = crop_boxes(torch.empty(3000, 96, 96), area, generator())
    image = torch.empty(1, 96, 96)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [RandomResizedCrop.get_params(image, area, (3 / 4, 4 / 3)) for _ in range(3000)]
    expected = torch.tensor(theirs, dtype=torch.float).T
    for ours, other in zip((top, left, height, width), expected, strict=True):
        assert kolmogorov(ours, other) < 0.05  # 1.95 / sqrt(1500): p 0.001
    assert kolmogorov(height * width, expected[2] * expected[3]) < 0.05
    assert kolmogorov(height / width, expected[2] / expected[3]) < 0.05
    for start, length in ((top, height), (left, width)):
        assert start.min() >= 0 and (start + length).max() <= 96 and length.min() >= 1
        assert (start == start.round()).all() and (length == length.round()).all()
        inner = length < 96  # boxes that have a choice reach both ends
        assert ((start + length)[inner] == 96).any() and (start[inner] == 0).any()


def kolmogorov(a, b):
    """The largest difference of two empirical distribution functions."""
    points = torch.cat([a, b])
    a, b = a.sort().values, b.sort().values
    below = [torch.searchsorted(x, points, right=True) / len(x) for x in (a, b)]
    return (below[0] - below[1]).abs().max()


def test_a_box_that_never_fits_is_the_whole_image():
    top, left, height, width = crop_boxes(torch.empty(500, 96, 96), (1.0, 1.0), generator())
    assert (height == 96).all() and (width == 96).all() and not top.any() and not left.any()


def test_convirt_is_torchvisions_functions_in_a_row():
    """The same draws, taken by hand in the documented order, and one image at a time."""
    batch, draws = films(12), generator(9)
    boxes = crop_boxes(batch, (0.6, 1.0), draws)

    def draw(low=0.0, high=1.0):
        return (low + (high - low) * torch.rand(12, generator=draws)).tolist()

    angle, right, down, zoom = draw(-20, 20), draw(-0.1, 0.1), draw(-0.1, 0.1), draw(0.95, 1.05)
    brightness, contrast, first, _ = draw(0.6, 1.4), draw(0.6, 1.4), draw(), draw()
    sigma, _, flipped = draw(0.1, 3.0), draw(), draw()
    expected = []
    for i, image in enumerate(batch):
        x = F.resized_crop(image[None].float(), *(int(b[i]) for b in boxes), [64, 64], antialias=True)
        shift = [64 * right[i], 64 * down[i]]
        x = F.affine(x, -angle[i], shift, zoom[i], 0.0, F.InterpolationMode.BILINEAR) / 255
        if first[i] < 0.5:
            x = F.adjust_contrast(F.adjust_brightness(x, brightness[i]), contrast[i])
        else:
            x = F.adjust_brightness(F.adjust_contrast(x, contrast[i]), brightness[i])
        x = F.gaussian_blur(x, [19, 19], [sigma[i], sigma[i]])
        expected.append(255 * (F.hflip(x) if flipped[i] < 0.5 else x))
    out = augment(batch, 64, "convirt", generator(9))
    assert 0 < sum(f < 0.5 for f in flipped) < 12 and 0 < sum(f < 0.5 for f in first) < 12
    assert (out - torch.cat(expected)).abs().max() < 0.52  # rounding


def test_moco2_is_a_window_of_moco_v2s_steps():
    rest = {name: value for name, value in PARAMETERS["moco_v2"].items() if name != "area"}
    assert PARAMETERS["moco2"] == rest
    ramp = torch.arange(64, dtype=torch.uint8).mul(2).add(60).expand(400, 64, 64).contiguous()
    out = augment(ramp, 64, "moco2", generator())
    falling = out[:, 24, 8].int() > out[:, 24, 56].int()
    assert 150 <= falling.sum() <= 250  # flipped with p 0.5
    means = out.float().mean((1, 2))
    unchanged = (means - ramp[0].float().mean()).abs() < 1.0
    assert 50 <= unchanged.sum() <= 120  # p 0.2 left alone, and some factors near 1
    assert means.min() > 0.55 * 123 and means.max() < 1.45 * 123
    flat = torch.full((64, 16, 16), 100, dtype=torch.uint8)
    levels = augment(flat, 16, "moco2", generator())[:, 0, 0]
    assert levels.unique().numel() > 20  # every image has its own brightness
    assert torch.equal(augment(flat, 16, "moco2", generator()), levels[:, None, None].expand_as(flat))


@pytest.mark.parametrize(
    ("recipe", "brightness"), [("moco_v1", (0.6, 1.4)), ("simclr", (0.2, 1.8)), ("clip", (1.0, 1.0))]
)
def test_strength_and_share_of_the_jitter(recipe, brightness):
    """Contrast keeps the mean of a flat image, so its level tells the brightness."""
    out = augment(torch.full((2000, 16, 16), 100, dtype=torch.uint8), 16, recipe, generator())
    level = out[:, 0, 0].float() / 100
    assert abs(level.min() - brightness[0]) < 0.02 and abs(level.max() - brightness[1]) < 0.02
    untouched = (level == 1).float().mean()
    assert abs(untouched - {"moco_v1": 0.0125, "simclr": 0.205, "clip": 1.0}[recipe]) < 0.03


def test_moco_v2_blurs_half_of_the_images():
    noise = torch.randint(0, 2, (600, 32, 32), generator=generator(), dtype=torch.uint8) * 200
    rough = (augment(noise, 32, "moco2", generator()).float() - 100).diff(dim=2).abs().mean((1, 2))
    sharp = (rough / rough.max() > 0.5).float().mean()
    assert 0.45 < sharp < 0.65  # those not blurred, and sigmas below 0.5 px


def test_prior_turns_the_whole_image_a_little_and_flips_it():
    cross = torch.zeros(200, 65, 65, dtype=torch.uint8)
    cross[:, 32, :] = cross[:, :, 32] = 255
    out = augment(cross, 65, "prior", generator()).float()
    assert (out[:, 32, 32] > 250).all()  # the centre stays
    column = out[:, 4:10].sum(1)  # where the upright of the cross is, 25.5 px above the centre
    offset = (column * torch.arange(-32.0, 33)).sum(1) / column.sum(1)
    degrees = torch.atan(offset / 25.5).rad2deg()
    assert 4.5 < degrees.abs().max() < 5.5 and abs(degrees.mean()) < 0.6
    ramp = torch.arange(65, dtype=torch.uint8).expand(200, 65, 65).contiguous()
    out = augment(ramp, 65, "prior", generator())
    assert 70 < (out[:, 32, 10] > out[:, 32, 54]).sum() < 130
    assert center_crop(out, 3).float().sub(32).abs().max() <= 1.5


def test_steps_left_out_change_nothing_on_grey_images():
    grey = films(1).float().div(255).expand(3, -1, -1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in (ColorJitter(saturation=0.8), ColorJitter(hue=0.2), Grayscale(3)):
            torch.testing.assert_close(step(grey), grey, atol=2e-4, rtol=0)
