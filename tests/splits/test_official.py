"""Scheme `official` against scikit-learn and pandas, written as the specification tells the released code."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import model_selection

from cmcgns.sources.vocabulary import CHEXPERT_LABELS, COMPETITION
from cmcgns.splits import official
from cmcgns.splits.schemes import DEFAULTS, make_split

CHEXPERT = {"valid_images": 5000}
FINDINGS = CHEXPERT_LABELS[1:]  # the first says that there is none


def listed(n, held, test="test", seed=0, **columns):
    """n training and `held` test rows in a shuffled index table."""
    ids = [f"i{i:06d}" for i in np.random.default_rng(seed).permutation(n + held)]
    frame = pd.DataFrame({"image_id": ids, "group_id": ids, "frontal": True, **columns})
    frame["official_split"] = ["train"] * n + [test] * held
    frame["row"] = [*range(n), *range(held)]
    return frame.sample(frac=1, random_state=seed)


def chexpert(n, pools, seed=0, lateral=0.15, held=7):
    """n rows of train.csv, with `pools` the rows of each class that have its finding alone."""
    rng = np.random.default_rng(seed)
    frame = listed(n, held, "valid", seed).sort_values(["official_split", "row"], ignore_index=True)
    frame["group_id"] = [f"p{p}" for p in rng.integers(0, n // 3, n + held)]
    frame["frontal"] = rng.random(n + held) > lateral
    for name in FINDINGS:
        frame[name] = np.where(rng.random(n + held) < 0.5, -1.0, np.nan)
    frame["Fracture"] = -1.0  # nothing alone but what is planted
    for finding, rows in zip(COMPETITION, pools, strict=True):
        frame.loc[rows, list(FINDINGS)] = np.nan
        frame.loc[rows, finding] = 1.0
        frame.loc[rows, "frontal"] = True
    return frame.sample(frac=1, random_state=seed)


def siim(n, seed=0):
    """An index table of n CSV rows, images of 1 to 4 rows that do not lie together."""
    rng = np.random.default_rng(seed)
    rows, images, left = [], [], list(rng.permutation(n))
    while left:
        take = int(rng.integers(1, 5)) if rng.random() < 0.3 else 1
        rows.append(sorted(int(r) for r in left[:take]))
        left = left[take:]
        images.append(f"s{len(images):05d}")
    positive = np.array([len(r) > 1 or rng.random() < 0.2 for r in rows])
    rle = [[f"{r} 1" for r in group] if p else [] for group, p in zip(rows, positive, strict=True)]
    frame = pd.DataFrame({"image_id": images, "group_id": images, "positive": positive})
    return frame.assign(rle=rle, rows=rows, frontal=True, official_split="").sample(frac=1, random_state=seed)


def sizes(split):
    return tuple(int((split["split"] == part).sum()) for part in ("train", "valid", "test"))


@settings(max_examples=60, deadline=None)
@given(st.integers(10, 400), st.sampled_from([0.1, 0.15, 0.3, 0.4, 0.5]))
def test_split_is_scikit_learns(n, share):
    for size in ("test_size", "train_size"):
        expected = model_selection.train_test_split(np.arange(n), random_state=0, **{size: share})
        for ours, theirs in zip(official.train_test_split(n, **{size: share}), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 400), st.data())
def test_sample_is_pandas(n, data):
    number = data.draw(st.integers(1, n))
    expected = pd.Series(range(n)).sample(n=number, random_state=0)
    np.testing.assert_array_equal(official.sample(n, number), expected)


@pytest.mark.parametrize(
    ("task", "held_out", "expected"),
    [("classification", 0.3, (18_678, 4_003, 4_003)), ("detection", 10_674, (16_010, 5_337, 5_337))],
)
def test_rsna_sorts_exams_and_tests_on_the_first_half(task, held_out, expected):
    index = listed(26_684, 0).assign(official_split="")
    split = make_split("rsna", index, task, "official")
    assert sizes(split) == expected
    exams = sorted(index["image_id"])
    train, rest = model_selection.train_test_split(exams, test_size=held_out, random_state=0)
    test, valid = model_selection.train_test_split(rest, test_size=0.5, random_state=0)
    assert dict(zip(split["image_id"], split["split"], strict=True)) == (
        dict.fromkeys(train, "train") | dict.fromkeys(test, "test") | dict.fromkeys(valid, "valid")
    )


@pytest.mark.parametrize(
    ("name", "n", "held", "test", "size", "expected"),
    [
        ("covidx", 30_130, 400, "test", {"train_size": 0.8}, (24_104, 6_026, 400)),
        ("object_cxr", 8_000, 1_000, "dev", {"test_size": 0.1}, (7_200, 800, 1_000)),
    ],
)
def test_lists_are_cut_in_the_order_of_their_rows(name, n, held, test, size, expected):
    index = listed(n, held, test)
    split = make_split(name, index, {"covidx": "classification"}.get(name, "detection"), "official")
    assert sizes(split) == expected
    lines = index[index["official_split"] == "train"].sort_values("row")["image_id"].tolist()
    train, valid = model_selection.train_test_split(lines, random_state=0, **size)
    assert set(split.loc[split["split"] == "train", "image_id"]) == set(train)
    assert set(split.loc[split["split"] == "valid", "image_id"]) == set(valid)


def literal_chexpert(index):
    """As the released code has it: the CSV file as a DataFrame whose labels keep the holes of the 5x200 rows."""
    df = index[index["official_split"] == "train"].sort_values("row").set_index("row").fillna(0)
    frontal = df[df["frontal"]]
    shown = []
    for finding in COMPETITION:
        others = [name for name in FINDINGS if name != finding]
        pool = frontal[(frontal[finding] == 1) & (frontal[others] == 0).all(axis=1)]
        shown.append(pool.sample(n=200, random_state=0))
    df = df[~df["image_id"].isin(pd.concat(shown)["image_id"])]
    positions = np.random.RandomState(0).choice(len(df), size=5000, replace=False)
    return df.drop(positions, errors="ignore"), df.iloc[positions]


def test_chexpert_takes_positions_for_row_numbers():
    pools = np.random.default_rng(1).choice(12_000, 1_600, replace=False)
    index = chexpert(12_000, np.split(pools, [300, 500, 900, 1_200]))
    train, valid = literal_chexpert(index)
    rows = official.replay("chexpert", index, "classification", CHEXPERT)
    for part, expected in (("train", train), ("valid", valid)):
        found = rows.loc[rows["split"] == part, "image_id"]
        assert found.is_unique and set(found) == set(expected["image_id"])
    assert 0 < len(set(train["image_id"]) & set(valid["image_id"])) < 5_000
    split = make_split("chexpert", index, "classification", "official")
    frontal = set(index.loc[index["frontal"], "image_id"])
    assert set(split.loc[split["split"] == "train", "image_id"]) == set(train["image_id"]) & frontal
    assert set(split.loc[split["split"] == "valid", "image_id"]) == set(valid["image_id"]) & frontal
    assert (split["split"] == "test").sum() == index.query("official_split == 'valid' and frontal").shape[0]


def test_chexpert_has_the_published_sizes():
    """223,414 rows; 1,000 of them in 5x200, 19 of which have a row number that is among the drawn positions."""
    drawn = np.random.RandomState(0).choice(222_414, 5_000, replace=False)
    others = np.setdiff1d(np.arange(223_414), drawn)
    shown = np.concatenate([drawn[:19], np.random.default_rng(0).choice(others, 981, replace=False)])
    index = chexpert(223_414, np.split(shown, 5), held=202, lateral=0.0)
    rows = official.replay("chexpert", index, "classification", CHEXPERT)
    assert sizes(rows) == (217_433, 5_000, 202)
    in_both = rows[rows["split"] != "test"]["image_id"].duplicated().sum()
    # the rows of a position lie behind it by the 5x200 rows before it, and are seldom drawn themselves
    number = np.setdiff1d(np.arange(223_414), shown)[drawn]
    assert in_both == (~np.isin(number, drawn)).sum() > 4_800


def test_a_small_chexpert_is_cut_in_proportion():
    index = chexpert(1_000, [np.arange(5 * i, 5 * i + 5) for i in range(5)])
    rest, positions = official.chexpert_positions(index, 5000)
    # 200 x 1,000 / 223,414 = 0.9 of each class; 5,000 / 223,414 of 995 rows
    assert (len(rest), len(positions)) == (995, 22)
    assert len(official.chexpert_positions(index, 0.1)[1]) == 100  # 0.1 of 995, rounded


def literal_siim(index):
    """(image, split) -> the rows of the CSV file; a row at a time."""
    lines = {row: image for image, rows in zip(index["image_id"], index["rows"], strict=True) for row in rows}
    numbers = sorted(lines)
    train, rest = model_selection.train_test_split(numbers, test_size=0.3, random_state=0)
    test, valid = model_selection.train_test_split(rest, test_size=0.5, random_state=0)
    result = {}
    for part, drawn in (("train", train), ("valid", valid), ("test", test)):
        for row in drawn:
            result.setdefault((lines[row], part), set()).add(row)
    return result


@pytest.mark.parametrize("n", [40, 1_001, 12_954])
def test_siim_cuts_rows_and_a_row_takes_its_mask_along(n):
    index = siim(n)
    expected = literal_siim(index)
    split = make_split("siim", index, "segmentation", "official")
    assert len(split) == len(expected)
    rows_of = dict(zip(index["image_id"], index["rows"], strict=True))
    positive = dict(zip(index["image_id"], index["positive"], strict=True))
    for image, part, parts in split[["image_id", "split", "parts"]].itertuples(index=False):
        if not positive[image]:
            assert parts is None
        else:
            assert {rows_of[image][i] for i in parts} == expected[image, part]
    if n == 12_954:
        per_part = [
            sum(len(rows) for (_, p), rows in expected.items() if p == part)
            for part in ("train", "valid", "test")
        ]
        assert per_part == [9_067, 1_944, 1_943]


def test_mimic_merges_validation_and_test():
    index = listed(90, 10).assign(official_split=["train"] * 90 + ["validate"] * 4 + ["test"] * 6)
    assert sizes(make_split("mimic_cxr", index, "pretraining", "official")) == (90, 10, 0)


@pytest.mark.parametrize("name", ["chexpert", "covidx", "object_cxr", "siim", "rsna"])
def test_the_order_of_the_table_and_images_left_out_change_nothing(name):
    index = {
        "chexpert": chexpert(3_000, np.split(np.arange(1_250), 5)),
        "siim": siim(500),
        "object_cxr": listed(300, 30, "dev"),
    }.get(name, listed(300, 30))
    task = {"siim": "segmentation", "object_cxr": "detection"}.get(name, "classification")
    options = DEFAULTS[name] | ({"valid_images": 200} if name == "chexpert" else {})
    split = make_split(name, index, task, "official", options=options)
    again = make_split(name, index.sample(frac=1, random_state=5), task, "official", seed=3, options=options)
    pd.testing.assert_frame_equal(split, again)
    usable = set(index["image_id"][::2])
    some = make_split(name, index, task, "official", usable=usable, options=options)
    expected = split[split["image_id"].isin(usable)].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)
