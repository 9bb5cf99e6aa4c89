"""Cross-modal prototype alignment: balanced assignments of one modality supervise the other (MGCA)."""

from torch import Tensor

from cmcgns.losses.precision import fp32


@fp32
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Soft assignments of samples to prototypes that use all prototypes about equally.

    Rows and columns of exp(scores / epsilon) are scaled in turn, in the logarithm: the plain form overflows in fp16
    and divides by 0 where a prototype is far from all samples.

    Args:
        scores: (B, K) cosines of samples with prototypes.

    Returns:
        (B, K), rows that sum to 1.
    """
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0, keepdim=True)
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.softmax(1)


@fp32
def prototype_loss(
    a: Tensor, b: Tensor, prototypes: Tensor, *, tau: float, epsilon: float, iterations: int
) -> Tensor:
    """Mean of both directions of the cross entropy between one side's assignments and the other's softmax.

    Args:
        a, b: (B, D) images and reports of unit length.
        prototypes: (K, D) of unit length.
        tau: temperature of the softmax.
        epsilon, iterations: of the assignments, which carry no gradient (`sinkhorn`).

    Returns:
        a scalar, the mean over samples.
    """

    def one_way(teacher: Tensor, student: Tensor) -> Tensor:
        target = sinkhorn(teacher.detach(), epsilon, iterations)
        return -(target * (student / tau).log_softmax(1)).sum(1).mean()

    image, report = a @ prototypes.T, b @ prototypes.T
    return (one_way(image, report) + one_way(report, image)) / 2
