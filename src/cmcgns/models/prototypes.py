"""A bank of sentence prototypes (PRIOR)."""

import torch
from torch import Tensor, nn


class SentencePrototypes(nn.Module):
    """Replaces a sentence by a mixture of learned prototypes, chosen by dot product.

    Args:
        count: K, number of prototypes.
        tau: temperature of the mixture.
    """

    def __init__(self, dim: int, count: int, tau: float):
        super().__init__()
        self.tau = tau
        self.vectors = nn.Parameter(torch.randn(count, dim))

    def forward(self, sentences: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Mixtures (..., D) of sentences (..., D) and the logits of their choice (..., K), without noise.

        Args:
            generator: of Gumbel noise on the logits; None = no noise.
        """
        with torch.autocast(sentences.device.type, enabled=False):  # fp32: choices among hundreds are close
            logits = sentences.float() @ self.vectors.T
            noisy = logits
            if generator is not None:
                waits = torch.empty(logits.shape, device=generator.device).exponential_(generator=generator)
                noisy = logits - waits.log().to(logits.device)
            return (noisy / self.tau).softmax(-1) @ self.vectors, logits
