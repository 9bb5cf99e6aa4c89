"""Image reconstruction."""

from torch import Tensor

from cmcgns.losses.precision import fp32


@fp32
def reconstruction_loss(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error over all pixels and channels, both (B, 3, H, W) (paper eq. 12, divided by all elements)."""
    return (image - target).abs().mean()
