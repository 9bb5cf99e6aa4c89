"""Orders of groups and the parts cut from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.errors import InputError
from cmcgns.splits.draws import group_order, hold_out, three_ways


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from("ab")), min_size=1, max_size=60), st.integers(0, 3)
)
def test_order_is_one_place_a_group_and_ignores_row_order(pairs, seed):
    units = np.array([f"g{g}" for g, _ in pairs])
    strata = np.array([s for _, s in pairs])
    order = group_order(units, strata, seed, "x")
    place = {}
    for unit, position in zip(units, order, strict=True):
        assert place.setdefault(unit, position) == position
    assert sorted(place.values()) == list(range(len(set(units))))
    back = group_order(units[::-1], strata[::-1], seed, "x")[::-1]
    np.testing.assert_array_equal(order, back)


def test_every_beginning_and_end_holds_the_strata_in_proportion():
    n = 1_000
    units = np.array([f"i{i}" for i in range(n)])
    strata = np.where(np.arange(n) < 230, "positive", "negative")
    for seed in range(5):
        by_place = strata[np.argsort(group_order(units, strata, seed, "x"))] == "positive"
        for ordered in (by_place, by_place[::-1]):
            drift = np.cumsum(ordered) - 0.23 * np.arange(1, n + 1)
            assert np.abs(drift).max() < 2


def test_a_rare_stratum_reaches_the_test_part_as_often_as_its_share():
    units = np.array([f"i{i}" for i in range(40)])
    strata = np.where(np.arange(40) == 0, "rare", "common")
    shares = [0.7, 0.15, 0.15]
    hits = sum(
        three_ways(units, group_order(units, strata, s, "x"), shares, "x")[0] == "test" for s in range(100)
    )
    assert 4 <= hits <= 28  # binomial, n 100, p 0.15: mean 15, standard deviation 3.6


def test_a_group_counts_for_the_stratum_of_most_of_its_images():
    # one group of 2 a + 1 b: as if it were 3 a
    units = np.array(["g", "g", "g", "h", "i", "j"])
    mixed = group_order(units, np.array(["a", "b", "a", "b", "b", "a"]), 0, "x")
    pure = group_order(units, np.array(["a", "a", "a", "b", "b", "a"]), 0, "x")
    np.testing.assert_array_equal(mixed, pure)


def test_parts_come_from_both_ends_and_round_up():
    units = np.array([f"i{i}" for i in range(11)])
    # 11 x 0.3 = 3.3 -> 4 held out, 2 for validation (end), 2 for test (start)
    expected = ["test"] * 2 + ["train"] * 7 + ["valid"] * 2
    assert three_ways(units, np.arange(11), [0.7, 0.15, 0.15], "x").tolist() == expected
    assert np.flatnonzero(hold_out(units, np.arange(11), 0.1, "x")).tolist() == [9, 10]


def test_a_group_at_the_edge_goes_where_its_middle_is():
    units = np.array(["a", "b", "b", "b", "b", "c", "d", "e", "f", "g"])
    order = np.array([0, 1, 1, 1, 1, 2, 3, 4, 5, 6])
    # 10 images, test share 2: a lies inside, the middle of b at 3 does not
    assert three_ways(units, order, [0.6, 0.2, 0.2], "x").tolist() == ["test"] + ["train"] * 7 + ["valid"] * 2


def test_one_big_group_still_leaves_three_parts():
    units = np.array(["a"] * 50 + ["b", "c"])
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        places = np.repeat(order, [50, 1, 1])
        assert set(three_ways(units, places, [0.6, 0.2, 0.2], "x")) == {"train", "valid", "test"}


@pytest.mark.parametrize("shares", [[0.7, 0.3], [0.7, 0.2, 0.2], [1.0, 0.0, 0.0], [1.2, -0.1, -0.1]])
def test_shares_that_are_none_are_told(shares):
    with pytest.raises(InputError, match="sum 1"):
        three_ways(np.array(list("abcdef")), np.arange(6), shares, "x")


def test_too_few_groups_are_told():
    with pytest.raises(InputError, match="1 group\\(s\\) of usable images cannot fill 2 splits"):
        hold_out(np.array(["a", "a"]), np.array([0, 0]), 0.5, "x")
