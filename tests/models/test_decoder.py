import pytest
import torch

from cmcgns.errors import InputError
from cmcgns.models.decoder import ImageDecoder
from cmcgns.models.masking import mask_regions

WIDTHS = (12, 8, 8, 4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("grid", [(7, 7), (2, 2), (1, 3)])
def test_every_cell_becomes_32_pixels(grid):
    decoder = ImageDecoder(6, widths=WIDTHS)
    regions = torch.randn(2, grid[0] * grid[1], 6)
    assert decoder(regions, regions, grid).shape == (2, 3, 32 * grid[0], 32 * grid[1])


def test_full_size_has_the_published_number_of_weights():
    with torch.device("meta"):
        decoder = ImageDecoder(768)
    assert sum(p.numel() for p in decoder.parameters()) / 1e6 == pytest.approx(8.63, abs=0.01)


def test_region_7r_plus_c_is_drawn_at_row_r_and_column_c():
    decoder = ImageDecoder(2, widths=WIDTHS)
    calm = torch.zeros(1, 49, 2)
    base = decoder(calm, calm, (7, 7))
    for region, (top, left) in {0: (0, 0), 6: (0, 6), 24: (3, 3), 43: (6, 1)}.items():
        loud = calm.clone()
        loud[0, region] = 50.0
        change = (decoder(loud, calm, (7, 7)) - base).abs().sum((0, 1))
        weight = change / change.sum()
        axis = torch.arange(224) / 32 - 0.5
        assert (weight.sum(1) * axis).sum().item() == pytest.approx(top, abs=1.2)
        assert (weight.sum(0) * axis).sum().item() == pytest.approx(left, abs=1.2)


def test_output_ranges():
    regions = 30 * torch.randn(2, 4, 6, generator=generator())
    ranges = {}
    for activation in ("tanh", "relu_tanh", "none"):
        decoder = ImageDecoder(6, widths=WIDTHS, output_activation=activation)
        with torch.no_grad():
            decoder.layers[12].weight.mul_(30)  # the convolution that gives RGB
        image = decoder(regions, regions, (2, 2))
        ranges[activation] = (image.min().item(), image.max().item())
    assert -1 <= ranges["tanh"][0] < 0 < ranges["tanh"][1] <= 1
    assert ranges["relu_tanh"][0] == 0 and 0 < ranges["relu_tanh"][1] <= 1
    assert ranges["none"][0] < -1 and ranges["none"][1] > 1


def test_bad_options_are_refused():
    with pytest.raises(InputError, match="3 decoder widths"):
        ImageDecoder(6, widths=(8, 8, 8))
    with pytest.raises(InputError, match="output_activation"):
        ImageDecoder(6, output_activation="relu")


@pytest.mark.parametrize("unit,axis", [("position", 2), ("channel", 1)])
def test_mask_is_constant_along_the_other_axis(unit, axis):
    x = torch.randn(4, 49, 64, generator=generator())
    masked = mask_regions(x, generator(1), unit=unit)
    kept = masked != 0
    assert (kept.all(axis) | (~kept).all(axis)).all()
    assert torch.equal(masked[kept], x[kept])  # no rescaling
    assert 0.3 < kept.float().mean() < 0.7


def test_elements_are_masked_one_by_one_at_the_ratio():
    x = torch.ones(8, 49, 64)
    kept = mask_regions(x, generator(), unit="element", ratio=0.25)
    assert kept.mean().item() == pytest.approx(0.75, abs=0.01)
    assert not (kept == kept[:, :, :1]).all()


def test_empirical_ratio_of_positions():
    kept = mask_regions(torch.ones(400, 49, 2), generator())
    assert kept.mean().item() == pytest.approx(0.5, abs=0.02)


def test_extreme_ratios_and_repeatability():
    x = torch.ones(2, 5, 3)
    assert torch.equal(mask_regions(x, generator(), ratio=0.0), x)
    assert not mask_regions(x, generator(), ratio=1.0).any()
    assert torch.equal(mask_regions(x, generator(4)), mask_regions(x, generator(4)))
    with pytest.raises(InputError, match="mask_unit"):
        mask_regions(x, generator(), unit="pixel")
