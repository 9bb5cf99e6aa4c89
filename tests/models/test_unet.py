"""The U-Net head equals segmentation-models-pytorch's U-Net with the same weights."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, ResNet

from cmcgns.models.image import feature_maps
from cmcgns.models.unet import LAYERS, UnetHead


@pytest.mark.usefixtures("float64")
def test_equals_the_library():
    trunk = resnet18().eval()
    head = UnetHead((64, 64, 128, 256, 512), (32, 16, 16, 8, 8)).eval()
    unet = smp.Unet("resnet18", encoder_weights=None, decoder_channels=(32, 16, 16, 8, 8)).eval()
    unet.encoder.load_state_dict(trunk.state_dict())
    unet.decoder.load_state_dict(head.decoder.state_dict())
    unet.segmentation_head.load_state_dict(head.head.state_dict())
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = head(list(feature_maps(trunk, images, LAYERS).values()))
        torch.testing.assert_close(ours, unet(images)[:, 0])
    assert ours.shape == (2, 64, 96)


@pytest.mark.parametrize(
    ("channels", "size"), [((64, 256, 512, 1024, 2048), 224), ((64, 64, 128, 256, 512), 64)]
)
def test_default_decoder_and_sizes(channels, size):
    with torch.device("meta"):
        head = UnetHead(channels)
        maps = [torch.empty(2, c, size >> k, size >> k) for k, c in enumerate(channels, 1)]
        assert head(maps).shape == (2, size, size)
    assert [block.conv2[0].out_channels for block in head.decoder.blocks] == [256, 128, 64, 32, 16]


def test_a_resnet10_trunk_fits():
    trunk = ResNet(BasicBlock, [1, 1, 1, 1]).eval()
    maps = list(feature_maps(trunk, torch.zeros(1, 3, 64, 64), LAYERS).values())
    head = UnetHead([part.shape[1] for part in maps], (8, 8, 8, 8, 8))
    assert head(maps).shape == (1, 64, 64)
