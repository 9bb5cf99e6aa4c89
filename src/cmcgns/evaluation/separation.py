"""How well classes are apart in a space of features, as numbers: t-SNE shows it and cannot say how much."""

import numpy as np
from sklearn.metrics import silhouette_score

NEIGHBOURS = 10


def separation(features: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Silhouette and agreement with the nearest neighbours, both by cosine in the space of the features.

    An image's neighbours are of other patients: another film of the same one is near for other reasons.

    Args:
        features: (n, C), none of them 0.
        targets: (n,) class numbers, two classes or more.
        groups: (n,) the patient of each image.

    Returns:
        `silhouette` in [-1, 1]; `knn_purity`, the mean share of the k nearest in the same class; `knn_accuracy`, that of
        their majority vote (tied classes share the vote); `knn_chance`, the purity of neighbours drawn at random; `k`.
    """
    x = features.astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    other = groups[:, None] != groups
    k = min(NEIGHBOURS, int(other.sum(1).min()))
    nearest = np.argsort(np.where(other, -(x @ x.T), np.inf), axis=1, kind="stable")[:, :k]
    classes = np.unique(targets)
    votes = (targets[nearest][:, :, None] == classes).sum(1)  # (n, classes)
    own = targets[:, None] == classes
    winners = votes == votes.max(1, keepdims=True)
    same = (targets[:, None] == targets) & other
    return {
        "silhouette": float(silhouette_score(x, targets, metric="cosine")),
        "knn_purity": float((votes * own).sum(1).mean() / k),
        "knn_accuracy": float(((winners & own).sum(1) / winners.sum(1)).mean()),
        "knn_chance": float((same.sum(1) / other.sum(1)).mean()),
        "k": k,
    }
