"""The work of one of two processes: test_base.py is the first and runs this file as the second.

It imports no encoder, so that the second process starts in seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines, unit
from cmcgns.losses.report import report_loss
from cmcgns.models.kmeans import SentenceClusters
from cmcgns.objectives.base import gather, gather_uneven

PAIRS, SENTENCES, DIM = 8, 10, 4
SPLIT = 3  # the first process holds so many of the sentences


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def alignment(pairs: slice, sentences: slice) -> dict[str, Tensor]:
    """Global and report loss of all processes, and what this one adds to the gradients of two linear encoders."""
    encoders = nn.Linear(6, DIM), nn.Linear(6, DIM)
    for seed, encoder in enumerate(encoders):
        encoder.weight.data, encoder.bias.data = draw(DIM, 6, seed=seed), draw(DIM, seed=seed + 10)
    u_i, u_r = (gather(encoder(draw(PAIRS, 6, seed=20)[pairs])) for encoder in encoders)
    z1, z2 = (gather_uneven(unit(encoder(draw(SENTENCES, 6, seed=30)[sentences]))) for encoder in encoders)
    losses = {
        "global": sum(info_nce(cosines(u_i, u_r), 0.5)),
        "report": report_loss(cosines(z1, z2), cosines(z1, draw(5, DIM, seed=40)), tau=0.5),
    }
    sum(losses.values()).backward()
    gradients = {f"gradient {n}": p.grad for n, e in enumerate(encoders) for p in e.parameters()}
    return {name: loss.detach() for name, loss in losses.items()} | gradients


def clustering(sentences: slice, gather_rows: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The table after building it and three updates."""
    clusters = SentenceClusters(DIM, num_clusters=3, start={"threshold": 1.0}, reseed_after=1)
    for step in range(4):
        z = F.normalize(draw(2, SENTENCES, DIM, seed=50 + step), dim=-1)[:, sentences]
        clusters.update(z[0], z[1], gather_rows)
    return clusters.centroids


def work(rank: int, folder: Path) -> dict[str, Tensor]:
    """Join the other process; what this one finds, with gradients averaged as DDP does."""
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    try:
        sentences = slice(SPLIT) if rank == 0 else slice(SPLIT, None)
        x = torch.arange(10.0)[sentences].unsqueeze(1).requires_grad_()
        rows = gather_uneven(x)
        (rows.squeeze(1) * torch.arange(10.0)).sum().backward()
        found = alignment(slice(4 * rank, 4 * rank + 4), sentences)
        for name in found:
            if name.startswith("gradient"):
                dist.all_reduce(found[name])
                found[name] /= 2
        return found | {
            "integers": gather(torch.tensor([rank, 7])),
            "rows": rows.detach(),
            "rows' gradient": x.grad,
            "centroids": clustering(sentences, gather_uneven),
        }
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)  # as the test does
    torch.save(work(1, Path(sys.argv[1])), Path(sys.argv[1]) / "second.pt")
