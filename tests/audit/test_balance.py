import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cmcgns.audit.balance import auroc, class_balance, effective_size, trivial_baselines, two_proportions
from cmcgns.sources.vocabulary import COMPETITION


def rsna(n_train, p_train, n_test, p_test, views=None):
    n = n_train + n_test
    target = [1] * p_train + [0] * (n_train - p_train) + [1] * p_test + [0] * (n_test - p_test)
    ids = [f"i{i}" for i in range(n)]
    index = pd.DataFrame({"image_id": ids, "target": target, "view": views or ""})
    split = pd.DataFrame({"task": "classification", "image_id": ids, "group_id": ids})
    return split.assign(split=["train"] * n_train + ["test"] * n_test), index


def test_z_by_hand():
    # pooled 0.3, error sqrt(0.21 (1/100 + 1/100)) = 0.0648
    assert two_proportions(0.2, 100, 0.4, 100) == pytest.approx(0.2 / np.sqrt(0.21 * 0.02))
    assert two_proportions(1.0, 5, 1.0, 5) == 0
    assert effective_size(pd.Series(["a", "a", "a", "b"])) == 16 / 10


def test_balance_beyond_chance_is_found_and_within_is_not():
    findings, facts = class_balance(*rsna(1_000, 230, 300, 80), source="rsna", scheme="paper")
    assert findings == []
    assert facts[0].values == {"train": {"pneumonia": 0.23}, "test": {"pneumonia": 0.2667}}
    split, index = rsna(1_000, 230, 300, 150)
    (found,), _ = class_balance(split, index, source="rsna", scheme="paper")
    assert (found.severity, found.split_a, found.split_b, found.count, found.total) == (
        "warning",
        "train",
        "test",
        81,
        300,
    )
    # the same images of a few patients say little
    few = split.assign(group_id=[f"p{i // 100}" for i in range(1_300)])
    assert class_balance(few, index, source="rsna", scheme="paper")[0] == []
    # nobody can draw a published test part anew
    assert class_balance(split, index.assign(label=index["target"].astype(str), origin="x"),
                         source="covidx", scheme="paper")[0] == []  # fmt: skip


def test_views_are_compared_as_well():
    views = ["AP"] * 500 + ["PA"] * 500 + ["AP"] * 290 + ["PA"] * 10
    findings, _ = class_balance(*rsna(1_000, 230, 300, 70, views), source="rsna", scheme="paper")
    assert {f.detail.split(":")[0] for f in findings} == {"view AP", "view PA"}


def test_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 4, 200), rng.random(200) < 0.3
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert np.isnan(auroc(score, np.zeros(200, bool)))


def test_a_view_that_tells_the_label_by_hand():
    """Train: AP 3 of 4 positive, PA 1 of 4. Test: AP + + -, PA + - -: pairs won 4, tied 4, of 9: (4 + 2) / 9."""
    split, index = rsna(8, 4, 6, 3)
    index["view"] = ["AP"] * 3 + ["PA"] + ["AP"] + ["PA"] * 3 + ["AP", "AP", "PA"] + ["AP", "PA", "PA"]
    (fact,) = trivial_baselines(split, index, source="rsna", scheme="paper")
    assert fact.values["AUROC by view alone"] == pytest.approx(100 * 6 / 9)
    assert fact.values["prevalence pneumonia"] == 50
    (fact,) = trivial_baselines(split.assign(task="segmentation"), index, source="rsna", scheme="paper")
    assert fact.values["Dice of empty masks"] == 50


def test_covidx_origin_and_majority_by_hand():
    labels = ["a", "a", "b", "c", "a", "b", "c", "c"]
    origins = ["x", "x", "y", "y", "y", "y", "x", "new"]
    ids = [f"i{i}" for i in range(8)]
    index = pd.DataFrame({"image_id": ids, "label": labels, "origin": origins, "view": ""})
    split = pd.DataFrame({"task": "classification", "image_id": ids, "split": ["train"] * 4 + ["test"] * 4})
    (fact,) = trivial_baselines(split, index, source="covidx", scheme="paper")
    # train: x is a, y is b or c (b first), a the most: of the test's a b c c by y y x new, b alone is right
    assert fact.values["accuracy by origin alone"] == 25
    assert fact.values["accuracy of the majority class"] == 25


def test_uncertain_labels_count_as_the_protocol_says():
    ids = ["a", "b"]
    index = pd.DataFrame({"image_id": ids, "view": "AP"} | dict.fromkeys(COMPETITION, [-1.0, np.nan]))
    split = pd.DataFrame({"task": "classification", "image_id": ids, "split": ["test", "train"]})
    (fact,) = trivial_baselines(split, index, source="chexpert", scheme="paper")
    assert [fact.values[f"prevalence {n}"] for n in COMPETITION] == [100, 0, 0, 100, 100]
