"""Nested subsets: ranks, fractions and the balanced pool of SIIM."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.errors import InputError
from cmcgns.splits.subsets import rank_subset, take


def split_of(n, task="classification"):
    parts = ["train"] * n + ["valid", "test"]
    return pd.DataFrame({"task": task, "image_id": [f"i{i}" for i in range(n + 2)], "split": parts})


def index_of(split, positives=None):
    frame = split[["image_id"]].copy()
    return frame if positives is None else frame.assign(positive=[i < positives for i in range(len(frame))])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(0, 9))
def test_one_in_ten_in_hundred_percent(n, seed):
    split = split_of(n)
    ranks = rank_subset(split, index_of(split), "classification", seed)
    one, ten, all_ = (set(take(ranks, f)) for f in (0.01, 0.1, 1.0))
    assert one <= ten <= all_ == {f"i{i}" for i in range(n)}
    assert [len(one), len(ten)] == [max(1, n // 100), max(1, n // 10)]
    assert sorted(ranks["rank"]) == list(range(n))


def test_ranks_depend_on_seed_and_task_but_not_on_row_order():
    split = pd.concat([split_of(50), split_of(50, "detection")], ignore_index=True)
    index = index_of(split)
    first = rank_subset(split, index, "classification", 0)
    pd.testing.assert_frame_equal(first, rank_subset(split[::-1], index, "classification", 0))
    assert first["image_id"].tolist() != rank_subset(split, index, "classification", 1)["image_id"].tolist()
    assert first["image_id"].tolist() != rank_subset(split, index, "detection", 0)["image_id"].tolist()
    assert first["rank"].tolist() == list(range(50)) and set(first["task"]) == {"classification"}


def test_siim_draws_from_all_positives_and_as_many_negatives():
    split = split_of(8_432, "segmentation")
    index = index_of(split, positives=1_860)
    ranks = rank_subset(split, index, "segmentation", 0)
    assert len(ranks) == 3_720  # spec data.md 5c: 37 and 372 images
    assert (len(take(ranks, 0.01)), len(take(ranks, 0.1))) == (37, 372)
    positive = set(index.loc[index["positive"], "image_id"])
    assert len(positive & set(ranks["image_id"])) == 1_860
    others = rank_subset(split, index, "segmentation", 1)
    assert set(others["image_id"]) - positive != set(ranks["image_id"]) - positive
    assert len(rank_subset(split, index, "segmentation", 0, siim_subset_of="all")) == 8_432


def test_siim_with_few_negatives_takes_them_all():
    split = split_of(10, "segmentation")
    assert len(rank_subset(split, index_of(split, positives=8), "segmentation", 0)) == 10


def test_bad_requests_are_told():
    split = split_of(5)
    ranks = rank_subset(split, index_of(split), "classification", 0)
    for fraction in (0, 1.5, -0.1):
        with pytest.raises(InputError, match="above 0, at most 1"):
            take(ranks, fraction)
    with pytest.raises(InputError, match="no training image for task 'detection'"):
        rank_subset(split, index_of(split), "detection", 0)
    with pytest.raises(InputError, match="unknown siim_subset_of"):
        rank_subset(split, index_of(split), "classification", 0, siim_subset_of="half")
    with pytest.raises(ValueError, match="one task"):
        take(pd.concat([ranks, ranks.assign(task="detection")]), 0.5)
