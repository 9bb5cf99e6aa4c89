import urllib.error

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights, ResNet50_Weights, resnet18

from cmcgns.errors import InputError
from cmcgns.models.image import (
    build_trunk,
    feature_dim,
    feature_maps,
    forward_features,
    local_regions,
)


def same_weights(a, b):
    return (
        all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True)) and a.keys() == b.keys()
    )


@pytest.mark.parametrize(
    "arch,dim,parameters",
    [
        ("resnet10", 512, 4.9),
        ("resnet18", 512, 11.2),
        ("resnet10_half", 256, 1.2),
        ("bagnet10_half", 256, 0.5),
    ],
)
def test_small_trunks(arch, dim, parameters):
    trunk = build_trunk(arch, "random")
    assert feature_dim(trunk) == dim
    assert sum(p.numel() for p in trunk.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)


def test_the_narrow_trunk_is_torchvisions_with_half_the_channels():
    half, full = (build_trunk(arch, "random").state_dict() for arch in ("resnet10_half", "resnet10"))
    halved = {
        name: tuple(
            size if i == 1 and name == "conv1.weight" or i > 1 else size // 2
            for i, size in enumerate(w.shape)
        )
        for name, w in full.items()
    }
    assert {name: tuple(w.shape) for name, w in half.items()} == halved
    # ReLU and He's rule with fan out: variance 2 / (9 * 256); torch's default would be 1 / (3 * 9 * 256)
    assert half["layer4.0.conv2.weight"].var() == pytest.approx(2 / (9 * 256), rel=0.02)
    maps = feature_maps(build_trunk("resnet10_half", "random").eval(), torch.zeros(1, 3, 128, 128))
    assert {name: tuple(m.shape[1:]) for name, m in maps.items()} == {
        "layer2": (64, 16, 16),
        "layer3": (128, 8, 8),
        "layer4": (256, 4, 4),
    }


@pytest.mark.parametrize(("arch", "field"), [("bagnet10_half", 75), ("resnet10_half", 195)])
def test_what_a_cell_of_the_last_map_sees(arch, field):
    trunk = build_trunk(arch, "random").eval()
    x = torch.randn(1, 3, 448, 448, generator=torch.Generator().manual_seed(0), requires_grad=True)
    forward_features(trunk, x)[0, :, 7, 7].sum().backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == pytest.approx(field, abs=2)  # the border of ReLUs may be dark


def test_resnet50_has_the_published_shape():
    trunk = build_trunk("resnet50", "random")
    assert feature_dim(trunk) == 2048
    assert sum(p.numel() for p in trunk.parameters()) == 23_508_032
    assert not any(name.startswith("fc") for name in trunk.state_dict())
    assert forward_features(trunk.eval(), torch.zeros(1, 3, 64, 64)).shape == (1, 2048, 2, 2)


@pytest.mark.usefixtures("float64")
def test_features_are_those_of_torchvisions_own_forward():
    trunk = build_trunk("resnet10", "random").eval()
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    maps = feature_maps(trunk, x, ["stem", "layer1", "layer2", "layer3", "layer4"])
    shapes = {name: tuple(fmap.shape[1:]) for name, fmap in maps.items()}
    assert shapes == {
        "stem": (64, 32, 48),
        "layer1": (64, 16, 24),
        "layer2": (128, 8, 12),
        "layer3": (256, 4, 6),
        "layer4": (512, 2, 3),
    }
    torch.testing.assert_close(maps["layer4"].mean((2, 3)), trunk(x))
    assert torch.equal(forward_features(trunk, x), maps["layer4"])


def test_random_start_depends_on_the_seed_alone():
    state = torch.get_rng_state()
    first = build_trunk("resnet10", "random", seed=1).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert same_weights(first, build_trunk("resnet10", "random", seed=1).state_dict())
    assert not same_weights(first, build_trunk("resnet10", "random", seed=2).state_dict())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file_with_or_without_fc(tmp_path, suffix):
    path = tmp_path / f"trunk{suffix}"
    source = build_trunk("resnet10", "random", seed=5).state_dict()
    given = dict(source, **{"fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)})
    if suffix == ".pth":
        torch.save(given, path)
    else:
        save_file({name: value.contiguous() for name, value in given.items()}, path)
    assert same_weights(build_trunk("resnet10", str(path), seed=1).state_dict(), source)


def test_keys_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "trunk.pth"
    state = build_trunk("resnet10", "random").state_dict()
    bad = {name: value for name, value in state.items() if name != "layer1.0.conv1.weight"}
    bad |= {"encoder.conv1.weight": torch.zeros(1), "bn1.weight": torch.zeros(7)}
    torch.save(bad, path)
    with pytest.raises(InputError) as error:
        build_trunk("resnet10", str(path))
    for part in (
        str(path),
        "1 missing (layer1.0.conv1.weight)",
        "1 unexpected (encoder.conv1.weight)",
        "bn1.weight (7,) instead of (64,)",
    ):
        assert part in str(error.value)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    path = tmp_path / "trunk.safetensors"
    state = build_trunk("resnet18", "random").state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    with pytest.raises(InputError, match="unexpected"):
        build_trunk("resnet10", str(path))


def test_old_files_without_batch_counters_are_accepted(tmp_path):
    path = tmp_path / "trunk.pth"
    state = build_trunk("resnet10", "random", seed=5).state_dict()
    torch.save({name: v for name, v in state.items() if "num_batches" not in name}, path)
    assert same_weights(build_trunk("resnet10", str(path)).state_dict(), state)


def test_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        build_trunk("resnet10", str(tmp_path / "none.pth"))
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights here")
        with pytest.raises(InputError, match="cannot be read"):
            build_trunk("resnet10", str(tmp_path / name))
    torch.save({"state_dict": {}}, tmp_path / "nested.pth")
    with pytest.raises(InputError, match="not a flat table"):
        build_trunk("resnet10", str(tmp_path / "nested.pth"))


def test_imagenet_names_load_torchvisions_weights(monkeypatch):
    source = resnet18().state_dict()
    asked = []

    def published(self, *args, **kwargs):
        asked.append((self, kwargs.get("check_hash")))
        return source

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", published)
    trunk = build_trunk("resnet18", "imagenet1k_v1").state_dict()
    assert asked == [(ResNet18_Weights.IMAGENET1K_V1, True)]
    assert all(torch.equal(trunk[name], source[name]) for name in trunk)


def test_weights_that_cannot_be_downloaded_end_in_advice(monkeypatch):
    def offline(self, *args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", offline)
    with pytest.raises(InputError, match="no route to host.*TORCH_HOME.*path of the file"):
        build_trunk("resnet50", "imagenet1k_v2")


@pytest.mark.parametrize("arch,weights", [("resnet10", "imagenet1k_v1"), ("resnet99", "random")])
def test_unknown_names_are_refused(arch, weights):
    with pytest.raises(InputError, match="expected"):
        build_trunk(arch, weights)


def test_spatial_layout_keeps_each_cell_in_its_region():
    height, width, channels = 3, 4, 5
    for row in range(height):
        for column in range(width):
            fmap = torch.zeros(1, channels, height, width)
            fmap[0, 2, row, column] = 1
            regions = local_regions(fmap)
            assert regions.nonzero().tolist() == [[0, width * row + column, 2]]
    fmap = torch.randn(2, channels, height, width)
    assert torch.equal(local_regions(fmap).mT.reshape(fmap.shape), fmap)


def test_channel_view_cuts_the_channel_major_array():
    fmap = torch.arange(24.0).reshape(1, 6, 2, 2)
    view = local_regions(fmap, "channel_view")
    assert view[0, 1].tolist() == [6, 7, 8, 9, 10, 11]  # flat elements C * p ... C * p + C - 1
    assert not torch.equal(view, local_regions(fmap))
    last = local_regions(fmap.contiguous(memory_format=torch.channels_last), "channel_view")
    assert torch.equal(view, last)  # whatever the memory format
    with pytest.raises(InputError, match="local_layout"):
        local_regions(fmap, "diagonal")
