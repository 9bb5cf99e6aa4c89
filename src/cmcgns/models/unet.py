"""The U-Net decoder of segmentation-models-pytorch on the maps of a ResNet (data.md 7.3)."""

from collections.abc import Sequence

from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

LAYERS = ("stem", "layer1", "layer2", "layer3", "layer4")  # what the decoder reads: strides 2, 4, 8, 16, 32


class UnetHead(nn.Module):
    """All of `smp.Unet` behind its encoder, so that the trunk stays one object that no training step can touch.

    Args:
        in_channels: channels of the five maps: (64, 256, 512, 1024, 2048) for ResNet-50.
        decoder_channels: channels of the five decoder blocks, coarse first.
    """

    def __init__(self, in_channels: Sequence[int], decoder_channels: Sequence[int] = (256, 128, 64, 32, 16)):
        super().__init__()
        # the library's first encoder map is the image itself, which gives the output's size and nothing else
        self.decoder = UnetDecoder(encoder_channels=(3, *in_channels), decoder_channels=decoder_channels)
        self.head = SegmentationHead(decoder_channels[-1], 1, kernel_size=3)
        initialize_decoder(self.decoder)
        initialize_head(self.head)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Five maps (B, C, H / 2, W / 2) ... (B, C, H / 32, W / 32) -> logits (B, H, W)."""
        height, width = maps[0].shape[-2:]
        image = maps[0].new_empty(1).expand(1, 1, 2 * height, 2 * width)
        return self.head(self.decoder([image, *maps])).squeeze(1)
