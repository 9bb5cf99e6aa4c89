"""Spherical k-means over unit vectors: pure functions, and the state that lives through pre-training."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmcgns.errors import InputError
from cmcgns.randomness import torch_generator

START = {"rule": "mean_cos", "threshold": 0.4, "min_step": 0}
OPTIONS = {
    "kmeans_mode": ("ema", "minibatch"),
    "kmeans_init": ("chain", "kmeans++"),
    "kmeans_reduction": ("mean", "sum"),
    "kmeans_start rule": ("mean_cos", "z2_spread", "step"),
}


def chain_init(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Rows for k first centroids: a random one, then each time the one farthest from the last (method.md 4.4).

    Args:
        points: (N, D) unit vectors, N >= k.

    Returns:
        (k,) distinct row numbers.
    """
    taken = points.new_zeros(len(points))
    chosen = torch.randint(len(points), (1,), generator=generator).to(points.device)
    order = [chosen]
    for _ in range(k - 1):
        taken.index_fill_(0, chosen, torch.inf)
        chosen = (points @ points.index_select(0, chosen)[0] + taken).argmin(0, keepdim=True)
        order.append(chosen)
    return torch.cat(order)


def plus_plus_init(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Rows for k first centroids by k-means++: drawn with probability 1 - cos to the nearest one so far.

    Args:
        points: (N, D) unit vectors, N >= k.

    Returns:
        (k,) distinct row numbers.
    """
    nearest = points.new_full((len(points),), -1.0)
    free = torch.ones_like(nearest)
    order: list[Tensor] = []
    for _ in range(k):
        # the floor keeps the draw possible when all points coincide
        weights = ((1 - nearest).clamp(min=0) + 1e-12) * free
        chosen = torch.multinomial(weights.cpu(), 1, generator=generator).to(points.device)
        order.append(chosen)
        free.index_fill_(0, chosen, 0)
        nearest = torch.maximum(nearest, points @ points.index_select(0, chosen)[0])
    return torch.cat(order)


def move_centroids(
    centroids: Tensor, points: Tensor, lr: float, *, reduction: str = "mean", renorm: bool = True
) -> tuple[Tensor, Tensor]:
    """One step of online k-means: c <- (1 - lr) c + lr * (mean or sum of its points) (method.md 4.4).

    Args:
        centroids: (K, D); each point goes to the one with the largest cosine. One without points stays.
        points: (N, D) unit vectors.
        renorm: scale the moved centroids to norm 1.

    Returns:
        the new (K, D) centroids and (K,) how many points each got.
    """
    member = F.one_hot((points @ F.normalize(centroids, dim=-1).T).argmax(1), len(centroids)).to(points.dtype)
    counts = member.sum(0)
    target = member.T @ points
    if reduction == "mean":
        target = target / counts.clamp(min=1).unsqueeze(1)
    moved = (1 - lr) * centroids + lr * target
    if renorm:
        moved = F.normalize(moved, dim=-1)
    return torch.where(counts.unsqueeze(1) > 0, moved, centroids), counts


class SentenceClusters(nn.Module):
    """K centroids of cross-modal sentence features, updated by data and never by gradients (method.md 4.4, 4.6).

    All state is in persistent buffers. Random choices depend on (seed, step) only.

    Args:
        mode: "ema": one table, moved a little every step; "minibatch": clustered anew from every batch.
        lr, reduction, renorm: of `move_centroids`, in mode "ema".
        init: "chain" or "kmeans++".
        start: clustering begins once `min_step` training steps have passed and, by rule, the mean cosine of
            sentences and cross-modal features ("mean_cos") or of cross-modal features among each other
            ("z2_spread") is at most `threshold`; "step" has no further condition.
        init_pool: in mode "ema", collect at least max(K, init_pool) points before the table is built.
        iters: k-means iterations in mode "minibatch".
        reseed_after: put a centroid on a random point after that many steps without a member; None = never.
    """

    def __init__(
        self,
        dim: int,
        *,
        num_clusters: int = 128,
        mode: str = "ema",
        lr: float = 1e-3,
        reduction: str = "mean",
        renorm: bool = True,
        init: str = "chain",
        start: Mapping[str, object] | None = None,
        init_pool: int = 0,
        iters: int = 10,
        reseed_after: int | None = None,
        seed: int = 42,
    ):
        super().__init__()
        self.start = {**START, **(start or {})}
        chosen = (mode, init, reduction, self.start["rule"])
        for (name, allowed), value in zip(OPTIONS.items(), chosen, strict=True):
            if value not in allowed:
                raise InputError(f"unknown {name} {value!r}", expected=f"one of {', '.join(allowed)}")
        if num_clusters < 2:
            raise InputError(
                f"num_clusters is {num_clusters}", expected="2 or more: a second-best must exist"
            )
        self.mode, self.init, self.iters, self.reseed_after, self.seed = mode, init, iters, reseed_after, seed
        self.lr, self.reduction, self.renorm = lr, reduction, renorm
        self.pool_rows = max(num_clusters, init_pool)
        self.register_buffer("centroids", torch.zeros(num_clusters, dim))
        self.register_buffer("active", torch.zeros(num_clusters, dtype=torch.bool))
        self.register_buffer("counts", torch.zeros(num_clusters))
        self.register_buffer("idle", torch.zeros(num_clusters, dtype=torch.int64))
        self.register_buffer("initialized", torch.tensor(False))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("pool", torch.zeros(self.pool_rows if mode == "ema" else 0, dim))
        self.register_buffer("pooled", torch.tensor(0))
        self._seen_started = False
        self.register_load_state_dict_post_hook(_forget_started)

    @property
    def started(self) -> bool:
        """There is a table. Asks the device only until it says yes: asking stops the host."""
        if not self._seen_started:
            self._seen_started = bool(self.initialized)
        return self._seen_started

    def cosines(self, x: Tensor) -> Tensor:
        """Cosines of unit vectors x (N, D) with the centroids -> (N, K); -inf for one that is not in use."""
        return (x @ F.normalize(self.centroids, dim=-1).T).masked_fill(~self.active, -torch.inf)

    @torch.no_grad()
    def update(self, z1: Tensor, z2: Tensor, gather: Callable[[Tensor], Tensor] | None = None) -> bool:
        """Take in the batch's features; call it once a training step, and never in evaluation.

        Args:
            z1, z2: (N, D) fp32 unit vectors, sentences and their cross-modal features.
            gather: rows of this process -> rows of all processes in rank order, so that all hold one table.

        Returns:
            whether the table may be used for this batch. In mode "ema" the step that builds it may not.
        """
        z2 = z2 if gather is None else gather(z2)
        usable = True
        if not self.started:
            usable = self._begin(z1 if gather is None else gather(z1), z2)
        elif self.mode == "ema":
            self._move(z2)
        else:
            usable = self._cluster(z2)
        self.step += 1
        return usable

    def _begin(self, z1: Tensor, z2: Tensor) -> bool:
        may_start = self._may_start(z1, z2)
        if self.mode == "minibatch":
            return may_start and self._cluster(z2)
        points = torch.cat([self.pool[: int(self.pooled)], z2])
        if may_start and len(points) >= self.pool_rows:
            self._set_table(points, len(self.centroids))
            self.pool.zero_()
            self.pooled.zero_()
        else:
            points = points[-self.pool_rows :]
            self.pool[: len(points)] = points
            self.pooled.fill_(len(points))
        return False

    def _may_start(self, z1: Tensor, z2: Tensor) -> bool:
        if int(self.step) < self.start["min_step"]:
            return False
        if self.start["rule"] == "step":
            return True
        left = z1 if self.start["rule"] == "mean_cos" else z2
        return bool(left.mean(0) @ z2.mean(0) <= self.start["threshold"])

    def _set_table(self, points: Tensor, k: int) -> None:
        choose = chain_init if self.init == "chain" else plus_plus_init
        rows = choose(points, k, torch_generator(self.seed, "kmeans", int(self.step)))
        self.centroids[:k] = points[rows]
        self.active.copy_(torch.arange(len(self.active), device=self.active.device) < k)
        self.initialized.fill_(True)

    def _cluster(self, z2: Tensor) -> bool:
        """A fresh table of min(K, N) clusters; with fewer than two points the last table stays, unused."""
        k = min(len(self.centroids), len(z2))
        if k < 2:
            return False
        self._set_table(z2, k)
        table = self.centroids[:k].clone()
        for _ in range(self.iters):
            table, counts = move_centroids(table, z2, 1.0)
            self.counts.zero_()
            self.counts[:k] = counts
        self.centroids[:k] = table
        return True

    def _move(self, z2: Tensor) -> None:
        centroids, counts = move_centroids(
            self.centroids, z2, self.lr, reduction=self.reduction, renorm=self.renorm
        )
        self.counts.copy_(counts)
        self.idle.copy_(torch.where(counts > 0, 0, self.idle + 1))
        if self.reseed_after is not None:
            generator = torch_generator(self.seed, "kmeans", int(self.step))
            rows = torch.randint(len(z2), (len(centroids),), generator=generator).to(z2.device)
            dead = self.idle >= self.reseed_after
            centroids = torch.where(dead.unsqueeze(1), z2[rows], centroids)
            self.idle.masked_fill_(dead, 0)
        self.centroids.copy_(centroids)


def _forget_started(clusters: SentenceClusters, incompatible_keys: object) -> None:
    """The loaded table may be one that has not started."""
    clusters._seen_started = False
