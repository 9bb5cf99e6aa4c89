import pytest
import torch

from cmcgns.errors import InputError
from cmcgns.models.report_decoder import ReportDecoder, UpBlockDecoder
from cmcgns.models.seeding import seeded


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def weights():
    with seeded(0, "decoders"):
        yield


@pytest.fixture
def image_decoder():
    return UpBlockDecoder(16, 0.5).eval()


@pytest.fixture
def report_decoder():
    return ReportDecoder(16, slots=5, layers=2, heads=4, dropout=0.1).eval()


def test_region_7r_plus_c_is_drawn_at_row_r_and_column_c():
    decoder = UpBlockDecoder(64, 0.5).eval()
    calm = torch.zeros(1, 49, 64)
    base = decoder(calm, calm, (7, 7))
    assert base.shape == (1, 1, 224, 224)
    for region, (top, left) in {8: (1, 1), 24: (3, 3), 37: (5, 2)}.items():
        loud = calm.clone()
        loud[0, region] = 5 * draw(64)
        change = (decoder(loud, calm, (7, 7)) - base).abs().sum((0, 1))
        weight, axis = change / change.sum(), torch.arange(224) / 32 - 0.5
        assert (weight.sum(1) @ axis).item() == pytest.approx(top, abs=0.5)
        assert (weight.sum(0) @ axis).item() == pytest.approx(left, abs=0.5)


def test_widths_halve_from_both_inputs():
    with torch.device("meta"):
        decoder = UpBlockDecoder(768, 0.5)
    widths = [layer.out_channels for layer in decoder.layers if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [768, 768, 384, 384, 192, 192, 96, 96, 48, 48, 1]


def test_only_the_regions_lose_channels_and_keep_their_mean(image_decoder):
    seen = []
    image_decoder.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    regions = torch.ones(64, 4, 16)
    image_decoder(regions, regions, (2, 2), generator())
    dropped, cross = seen[0].split(16, 1)
    assert (cross == 1).all()
    assert set(dropped.unique().tolist()) == {0, 2}
    assert (dropped.flatten(2).std(-1) == 0).all()  # whole channels
    assert dropped.mean().item() == pytest.approx(1, abs=0.1)
    image_decoder(regions, regions, (2, 2))
    assert (seen[1] == 1).all()


@pytest.mark.usefixtures("float64")
def test_slots_are_a_set(report_decoder):
    """Queries in another order give the same slots in that order: none is hidden from another."""
    regions = draw(2, 4, 16)
    with torch.no_grad():
        slots = report_decoder(regions)
        report_decoder.queries.copy_(report_decoder.queries[[3, 0, 4, 1, 2]].clone())
        torch.testing.assert_close(report_decoder(regions), slots[:, [3, 0, 4, 1, 2]])
    assert slots.shape == (2, 5, 16)


@pytest.mark.usefixtures("float64")
def test_slots_depend_on_their_own_image(report_decoder):
    regions = draw(2, 4, 16)
    changed = regions.clone()
    changed[1] += 1
    slots, others = report_decoder(regions), report_decoder(changed)
    torch.testing.assert_close(slots[0], others[0])
    assert not torch.allclose(slots[1], others[1], atol=1e-3)
    torch.testing.assert_close(report_decoder(regions[:, [2, 0, 3, 1]]), slots)


def test_layers_start_unlike_each_other(report_decoder):
    first, second = (dict(layer.named_parameters()) for layer in report_decoder.layers)
    assert not torch.equal(first["linear1.weight"], second["linear1.weight"])
    assert first["linear1.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert (first["norm1.weight"] == 1).all() and (first["linear1.bias"] == 0).all()


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="16 dimensions cannot have 3 heads"):
        ReportDecoder(16, slots=2, layers=1, heads=3, dropout=0.0)
