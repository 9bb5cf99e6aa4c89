"""SimSiam between image regions and the sentences they attend to."""

from torch import Tensor

from cmcgns.losses.precision import fp32, unit


@fp32
def simsiam_loss(predicted_x: Tensor, predicted_y: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """-1/2 mean cos(h(x), sg(y)) - 1/2 mean cos(h(y), sg(x)) (paper eq. 10).

    Args:
        predicted_x, predicted_y: (..., D), h(x) and h(y).
        x, y: (..., D), the targets; no gradient flows into them from here.

    Returns:
        a scalar in [-1, 1].
    """
    return (_negative_cosine(predicted_x, y) + _negative_cosine(predicted_y, x)) / 2


def _negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    return -(unit(prediction) * unit(target.detach())).sum(-1).mean()
