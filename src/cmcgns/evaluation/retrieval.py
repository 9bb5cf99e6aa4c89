"""Image-report retrieval: how often a right answer is among the k most similar ones."""

import numpy as np

RANKS = (1, 5, 10)
DIRECTIONS = ("image to report", "report to image")
TIE = 1e-6  # cosines closer than this are equal: float32 products of equal vectors differ by about 1e-7


def retrieval_scores(
    u: np.ndarray, v: np.ndarray, groups: np.ndarray, *, chunk: int = 1024
) -> dict[str, float]:
    """Recall at 1, 5 and 10 both ways, fractions.

    The right answers of an image are all reports of its own study, and the other way round. Ties are broken against
    the model: a wrong answer as similar as the best right one counts as better, so that a collapsed model finds nothing.

    Args:
        u, v: (N, D) image and report embeddings of N pairs, of unit length.
        groups: (N,) the study of each pair.
        chunk: queries at a time; memory grows with chunk x N.

    Returns:
        "image to report R@1" and so on, six numbers.

    Raises:
        ValueError: an embedding is not finite.
    """
    if not (np.isfinite(u).all() and np.isfinite(v).all()):
        raise ValueError("an embedding is not finite: it would win every comparison")
    numbers = np.unique(groups, return_inverse=True)[1]
    scores = {}
    for direction, queries, answers in zip(DIRECTIONS, (u, v), (v, u), strict=True):
        better = np.concatenate(
            [
                _better(queries[start : start + chunk], answers, numbers[start : start + chunk], numbers)
                for start in range(0, len(u), chunk)
            ]
        )
        scores |= {f"{direction} R@{k}": float((better < k).mean()) for k in RANKS}
    return scores


def _better(queries: np.ndarray, answers: np.ndarray, own: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(n,) how many wrong answers are at least as similar to each query as its best right one."""
    similarity = queries.astype(np.float64) @ answers.astype(np.float64).T
    right = own[:, None] == numbers
    best = np.where(right, similarity, -np.inf).max(1)
    return (~right & (similarity >= best[:, None] - TIE)).sum(1)


def chance_scores(groups: np.ndarray) -> dict[str, float]:
    """What `retrieval_scores` is on average if the answers come in random order.

    Of N answers m are right: none of k drawn ones is with probability C(N - m, k) / C(N, k).
    """
    total = len(groups)
    sizes = np.unique(groups, return_counts=True)[1]
    scores = {}
    for k in RANKS:
        drawn = np.arange(min(k, total))
        miss = np.prod(np.clip(total - sizes[:, None] - drawn, 0, None) / (total - drawn), axis=1)
        scores[k] = float((sizes * (1 - miss)).sum() / total)
    return {f"{direction} R@{k}": scores[k] for direction in DIRECTIONS for k in RANKS}
