"""The image encoder: a torchvision ResNet without its classifier, and the features that methods read from it."""

import pickle
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet18_Weights, ResNet50_Weights
from torchvision.models.resnet import BasicBlock, Bottleneck

from cmcgns.errors import InputError
from cmcgns.models.seeding import seeded

STRIDE = 32  # input pixels per cell of the layer4 map


class LocalBlock(BasicBlock):
    """A BasicBlock whose second convolution is 1x1, as BagNets do it (arXiv 1904.00760), so that a cell sees less."""

    def __init__(self, inplanes: int, planes: int, *args: Any, **kwargs: Any):
        super().__init__(inplanes, planes, *args, **kwargs)
        self.conv2 = nn.Conv2d(planes, planes, 1, bias=False)


ARCHITECTURES = {  # block, blocks of each layer, channels of the stem
    "resnet50": (Bottleneck, [3, 4, 6, 3], 64),
    "resnet18": (BasicBlock, [2, 2, 2, 2], 64),
    "resnet10": (BasicBlock, [1, 1, 1, 1], 64),
    "resnet10_half": (BasicBlock, [1, 1, 1, 1], 32),  # at 128 px the price of resnet10 at 64, with a 4x4 map
    "bagnet10_half": (LocalBlock, [1, 1, 1, 1], 32),  # a cell sees 75 px, one of resnet10_half 195
}
IMAGENET = {
    ("resnet50", "imagenet1k_v1"): ResNet50_Weights.IMAGENET1K_V1,
    ("resnet50", "imagenet1k_v2"): ResNet50_Weights.IMAGENET1K_V2,
    ("resnet18", "imagenet1k_v1"): ResNet18_Weights.IMAGENET1K_V1,
}


def build_trunk(arch: str = "resnet50", weights: str = "imagenet1k_v2", *, seed: int = 42) -> ResNet:
    """A torchvision ResNet with `fc` replaced by the identity.

    Args:
        arch: a key of `ARCHITECTURES`.
        weights: "random" (drawn from `seed`), "imagenet1k_v1", "imagenet1k_v2", or the path of a .pth or
            .safetensors file with torchvision's names (`fc` is ignored).

    Raises:
        InputError: unknown `arch` or `weights`, weights that cannot be had, or keys that do not fit.
    """
    if arch not in ARCHITECTURES:
        raise InputError(f"unknown image encoder {arch!r}", expected=f"one of {', '.join(ARCHITECTURES)}")
    with seeded(seed, "trunk", arch):
        trunk = _resnet(*ARCHITECTURES[arch])
    trunk.fc = nn.Identity()
    # on a CPU 1.8 times as fast forward and 1.5 times in training, with tensor cores faster, too
    trunk = trunk.to(memory_format=torch.channels_last)
    if weights == "random":
        return trunk
    if weights.startswith("imagenet"):
        source, state = f"{arch} {weights}", _imagenet_state(arch, weights)
    else:
        source, state = weights, _file_state(weights)
    _load_exactly(trunk, state, source)
    return trunk


def _resnet(block: type[BasicBlock | Bottleneck], depths: list[int], width: int) -> ResNet:
    trunk = ResNet(block, depths)
    if width == trunk.conv1.out_channels:
        return trunk
    # torchvision's own width is that of bottlenecks only; the stem and the layers are made again with its names
    trunk.inplanes = width
    trunk.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    trunk.bn1 = nn.BatchNorm2d(width)
    for i, blocks in enumerate(depths):
        layer = trunk._make_layer(block, width * 2**i, blocks, stride=1 if i == 0 else 2)
        setattr(trunk, f"layer{i + 1}", layer)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk


def _imagenet_state(arch: str, weights: str) -> dict[str, Tensor]:
    if (arch, weights) not in IMAGENET:
        known = ", ".join(f"{name} for {a}" for a, name in IMAGENET)
        raise InputError(
            f"no weights {weights!r} for {arch}", expected=f"{known}, 'random' or the path of a file"
        )
    member = IMAGENET[arch, weights]
    try:
        return dict(member.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError, HTTPException) as error:
        raise InputError(
            f"the weights {weights} of {arch} cannot be had ({error})",
            remedy=f"on a machine with a network, download {member.url} into $TORCH_HOME/hub/checkpoints, "
            "or give the path of the file instead of its name",
        ) from None


def _file_state(path: str) -> dict[str, Tensor]:
    expected = "'random', an ImageNet name, or a .pth or .safetensors file with torchvision's ResNet names"
    if not Path(path).is_file():
        raise InputError("the weights file does not exist", file=path, expected=expected)
    try:
        if path.endswith(".safetensors"):
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the weights cannot be read ({reason})", file=path, expected=expected) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError("not a flat table of tensors", file=path, expected=expected)
    return state


def _load_exactly(trunk: ResNet, state: dict[str, Tensor], source: str) -> None:
    """Load `state`, or raise naming what does not fit: a silent random start would look like a bad method."""
    given = {name: value for name, value in state.items() if not name.startswith("fc.")}
    wanted = trunk.state_dict()
    # files older than torch 0.4.1 lack the batch counters, which inference and training here never read
    missing = [name for name in wanted if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in wanted]
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "mis-shaped": shapes}
    told = [f"{len(names)} {kind} ({_shorten(names)})" for kind, names in faults.items() if names]
    if told:
        raise InputError(
            f"the weights do not fit the image encoder: {'; '.join(told)}",
            file=source,
            expected="exactly torchvision's names for this architecture, with or without fc",
        )
    trunk.load_state_dict(given, strict=False)


def _shorten(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def feature_dim(trunk: ResNet) -> int:
    """Channels of the layer4 map: 2048 for ResNet-50, 512 for the smaller ones, 256 for the narrow one."""
    return trunk.inplanes


def feature_maps(
    trunk: ResNet, x: Tensor, layers: Sequence[str] = ("layer2", "layer3", "layer4")
) -> dict[str, Tensor]:
    """The maps of `layers` ("stem" before max pooling at stride 2, "layer1" ... "layer4" at 4, 8, 16, 32).

    Args:
        x: (B, 3, H, W)

    Returns:
        layer name -> (B, C, H / stride, W / stride)
    """
    x = trunk.relu(trunk.bn1(trunk.conv1(x)))
    maps = {"stem": x}
    x = trunk.maxpool(x)
    for name in ("layer1", "layer2", "layer3", "layer4"):
        x = maps[name] = getattr(trunk, name)(x)
    return {name: maps[name] for name in layers}


def upsampled(images: Tensor, size: int | None) -> Tensor:
    """(B, 3, H, W) -> (B, 3, size, size) bilinearly, corners on corners as GLoRIA and MGCA do; None = unchanged."""
    if size is None:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=True)


def forward_features(trunk: ResNet, x: Tensor) -> Tensor:
    """The layer4 map (B, C, h, w) of images (B, 3, H, W), without pooling."""
    return feature_maps(trunk, x, ["layer4"])["layer4"]


def local_regions(fmap: Tensor, layout: str = "spatial") -> Tensor:
    """The P = h * w local vectors of a feature map (method.md 1.1).

    Args:
        fmap: (B, C, h, w)
        layout: "spatial": vector w * row + column is the cell (row, column). "channel_view": the channel-major
            array cut into pieces of C numbers, as the released code does; a "region" is then a group of channels.

    Returns:
        (B, P, C)
    """
    if layout == "spatial":
        return fmap.flatten(2).transpose(1, 2)
    if layout == "channel_view":
        return fmap.reshape(fmap.shape[0], -1, fmap.shape[1])
    raise InputError(f"unknown local_layout {layout!r}", expected="'spatial' or 'channel_view'")
