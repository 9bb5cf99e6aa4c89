import pytest
import torch

from cmcgns.models.kmeans import SentenceClusters
from cmcgns.objectives.cm_cgns_logs import statistics


@pytest.fixture
def last():
    return {
        "mask": torch.tensor([[True, True], [True, False]]),
        "gates": torch.tensor([[[0.2], [0.4]], [[0.6], [0.0]]]),
        "f_i": torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]]),
        "f_ri": torch.ones(2, 2, 2),
        "u_i": torch.eye(2),
        "u_r": torch.tensor([[1.0, 0.0], [1.0, 0.1]]),
        "z2": torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]),
        "s": torch.tensor([[0.5, 0.1, 0.0], [0.2, 0.7, 0.1], [0.0, 0.2, 0.3]]),
    }


@pytest.mark.usefixtures("float64")
def test_values_by_hand(last):
    clusters = SentenceClusters(2, num_clusters=4)
    logs = {name: value.item() for name, value in statistics(last, clusters).items()}
    assert logs == pytest.approx(
        {
            "gate_mean": 0.4,
            "gate_std": 0.2,
            "f_i_spread": (2 / 3) ** 0.5,
            "f_i_cosine": -1 / 3,
            "f_ri_spread": 0,
            "f_ri_cosine": 1,
            "retrieval_top1": 75,  # image 0 finds its report, image 1 too, report 1 prefers image 0
            "retrieval_top5": 100,
            "pair_cosine": 0.5,
            "negative_cosine": 0.1,
            "crossmodal_cosine_within": 0.6,
            "crossmodal_cosine_across": 0.4,
            "clustering_started": 0,
        },
        abs=1e-6,
    )


@pytest.mark.usefixtures("float64")
def test_cluster_statistics(last):
    clusters = SentenceClusters(2, num_clusters=4)
    clusters.counts.copy_(torch.tensor([2.0, 1.0, 0.0, 0.0]))
    last["q"] = torch.tensor([[0.9, 0.5, 0.1, 0.0], [0.1, 0.2, 0.3, 0.0], [0.8, 0.1, 0.1, 0.0]])
    last["pairs"] = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=torch.bool)
    logs = statistics(last, clusters)
    assert logs["hard_negative_cosine"].item() == pytest.approx((0.5 + 0.2 + 0.1) / 3)
    assert logs["false_negatives_per_anchor"].item() == pytest.approx(2 / 3)
    assert logs["clusters_used"].item() == 0.5
    assert logs["largest_cluster_share"].item() == pytest.approx(2 / 3)


def test_collapsed_embeddings_do_not_look_like_perfect_retrieval(last):
    last["u_i"] = last["u_r"] = torch.eye(2)[
        [0, 0]
    ]  # cosines are 1 to the bit, so that they tie on every CPU
    assert statistics(last, SentenceClusters(2))["retrieval_top1"] == 0
