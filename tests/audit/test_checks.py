"""Planted leaks are counted to the image, and nothing else is found."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.audit import checks
from cmcgns.sources.index import match
from cmcgns.splits.subsets import rank_subset

ABOUT = {"source": "rsna", "scheme": "paper", "key": "k"}
few = settings(max_examples=40, deadline=None)


def clean(sizes, seed=0, per_group=1):
    """A split of distinct images; every group has `per_group` images and stays in one split."""
    rows = []
    for part, groups in zip(checks.PARTS, sizes, strict=True):
        for g in range(groups):
            rows += [("t", f"{part}{g}-{i}", f"{part}-group{g}", part) for i in range(per_group)]
    table = pd.DataFrame(rows, columns=["task", "image_id", "group_id", "split"])
    return table.sample(frac=1, random_state=seed)


def plant(split, a, b, k, seed, column):
    """Give k rows of b the `column` of distinct rows of a."""
    split = split.reset_index(drop=True)
    rng = np.random.default_rng(seed)
    rows, donors = (rng.choice(np.flatnonzero(split["split"] == part), k, replace=False) for part in (b, a))
    split.loc[rows, column] = split.loc[donors, column].to_numpy()
    return split


pairs = st.sampled_from([("train", "valid"), ("train", "test"), ("valid", "test")])


@few
@given(st.integers(0, 8), pairs, st.integers(0, 99))
def test_planted_images_in_two_splits_are_counted(k, pair, seed):
    split = plant(clean((20, 12, 9), seed), *pair, k, seed, "image_id")
    split["group_id"] = split["image_id"]
    found = checks.image_overlap(split, **ABOUT)
    expected = [(*pair, k, {"valid": 12, "test": 9}[pair[1]])] if k else []
    assert [(f.split_a, f.split_b, f.count, f.total) for f in found] == expected
    assert all(f.severity == "critical" and len(f.ids) == k for f in found)
    assert checks.group_overlap(split, **ABOUT) == []  # nobody knows the patients


@few
@given(st.integers(0, 8), pairs, st.integers(0, 99))
def test_planted_patients_in_two_splits_are_counted_by_image(k, pair, seed):
    split = plant(clean((20, 12, 9), seed, per_group=2), *pair, k, seed, "group_id")
    assert checks.image_overlap(split, **ABOUT) == []
    found = checks.group_overlap(split, **ABOUT)
    expected = [(*pair, k, {"valid": 24, "test": 18}[pair[1]], "t")] if k else []
    assert [(f.split_a, f.split_b, f.count, f.total, f.task) for f in found] == expected


@few
@given(st.data())
def test_overlaps_equal_a_slow_loop_for_any_table(data):
    rows = data.draw(
        st.lists(
            st.tuples(st.sampled_from("xy"), st.integers(0, 9), st.sampled_from(checks.PARTS)), unique=True
        )
    )
    split = pd.DataFrame(rows, columns=["task", "image_id", "split"]).astype({"image_id": str})
    split["group_id"] = split["image_id"].map(lambda i: f"g{int(i) // 3}").astype(str)
    expected = {}
    for task, image, part in rows:
        for other, image2, part2 in rows:
            before = checks.PARTS.index(part2) < checks.PARTS.index(part)
            if task == other and before and image // 3 == image2 // 3:
                expected.setdefault((task, part2, part), set()).add(image)
    found = {(f.task, f.split_a, f.split_b): f.count for f in checks.group_overlap(split, **ABOUT)}
    assert found == {key: len(images) for key, images in expected.items()}


@few
@given(st.lists(st.tuples(st.sampled_from(checks.PARTS), st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_cut_masks_are_counted_among_positive_images(images):
    """Each image: its split, its masks, and how many of them its split lacks."""
    index = pd.DataFrame(
        {"image_id": [f"i{n}" for n in range(len(images))], "rle": [["1 1"] * n for _, n, _ in images]}
    )
    parts = [list(range(max(0, n - lost))) if n else None for _, n, lost in images]
    split = pd.DataFrame({"image_id": index["image_id"], "split": [p for p, *_ in images], "parts": parts})
    found = checks.mask_cut(split, index, source="siim", scheme="official", key="k")
    expected = []
    for part in checks.PARTS:
        of = [(n, lost) for p, n, lost in images if p == part and n]
        if cut := sum(lost > 0 for _, lost in of):
            expected.append((part, cut, len(of)))
    assert [(f.split_b, f.count, f.total) for f in found] == expected


@few
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 9))
def test_missing_files_are_counted(missing, extra, seed):
    names = [f"i{n:02d}.jpg" for n in range(40)]
    labels = pd.DataFrame({"image_id": names, "path": names, "frontal": True})
    kept = set(np.random.default_rng(seed).permutation(names)[missing:])
    _, rest = match(labels, [*kept, *(f"other{n}.png" for n in range(extra))])
    findings, facts = checks.unmatched_files(rest, len(names), source="rsna", key="k")
    assert [(f.count, f.total, f.severity) for f in findings] == (
        [(missing, 40, "warning")] if missing else []
    )
    assert len(facts) == (extra > 0)


def test_the_published_test_part_used_for_selection_is_told():
    index = pd.DataFrame({"image_id": list("abcdef"), "official_split": ["train"] * 3 + ["test"] * 3})
    split = pd.DataFrame(
        {"task": "c", "image_id": list("abcdef"), "split": ["train"] * 3 + ["valid", "valid", "test"]}
    )
    (found,) = checks.published_test_used(split, index, source="covidx", scheme="x", key="k")
    assert (found.split_a, found.split_b, found.count, found.total) == ("valid", "test", 2, 3)
    assert checks.published_test_used(split, index, source="siim", scheme="x", key="k") == []


def ranked(seed=0):
    split = clean((300, 5, 5)).assign(group_id=lambda t: t["image_id"])
    index = split[["image_id"]]
    return rank_subset(split, index, "t", seed), split, index


def test_subsets_of_the_seed_are_right_and_of_another_are_not():
    ranks, split, index = ranked()
    assert checks.subset_faults(ranks, split, index, 0, **ABOUT) == []
    (found,) = checks.subset_faults(ranks, split, index, 1, **ABOUT)
    both = ranks.merge(ranked(1)[0], on="image_id")
    moved = (both["rank_x"] != both["rank_y"]).sum()
    assert found.check == "A7-subsets" and (found.count, found.total) == (moved, 300)


@few
@given(st.integers(1, 100))
def test_ranked_images_of_other_parts_are_counted(k):
    ranks, split, index = ranked()
    split.loc[split["image_id"].isin(ranks["image_id"][:k]), "split"] = "valid"
    found = checks.subset_faults(ranks, split, index, 0, **ABOUT)
    outside = [f for f in found if "not in the training part" in f.detail]
    assert [(f.count, f.total) for f in outside] == [(k, 300)]


def source_tables(rsna_train, covidx_test, covidx_patients):
    exams = [*rsna_train, "r-test"]
    rsna = pd.DataFrame({"image_id": exams, "group_id": [f"p-{e}" for e in exams]})
    covidx = pd.DataFrame({"image_id": [f"{e}.png" for e in covidx_test], "patient_id": covidx_test})
    covidx = covidx.assign(group_id=covidx_patients, origin=["rsna"] * len(covidx_test))
    splits = {
        "rsna": rsna.assign(task="c", split=["train"] * len(rsna_train) + ["test"]),
        "covidx": covidx.assign(task="c", split="test"),
    }
    return splits, {"rsna": rsna, "covidx": covidx}


def test_films_and_patients_are_followed_from_covidx_to_rsna():
    # e1: the same exam; e9: another exam of e2's patient; e8: neither
    splits, tables = source_tables(["e1", "e2", "e3"], ["e1", "e9", "e8"], ["p-e1", "p-e2", "p-e8"])
    keys = {"rsna": "a", "covidx": "b"}
    for resolved, count in ((True, 2), (False, 1)):
        names = {name: checks.identities(name, table, resolved) for name, table in tables.items()}
        findings, facts = checks.across_sources(splits, names, scheme="paper", keys=keys)
        assert findings == [] and [fact.values for fact in facts] == [{"count": count, "total": 3}]


@few
@given(st.integers(0, 6))
def test_pretraining_on_test_images_is_critical(k):
    test = [f"e{i}" for i in range(6)]
    splits, tables = source_tables(["x"], test, test)
    mimic = pd.DataFrame({"image_id": [*test[:k], "m"], "group_id": "s"}).assign(
        task="pretraining", split="train"
    )
    splits["mimic_cxr"] = tables["mimic_cxr"] = mimic
    names = {name: checks.identities(name, table, False) for name, table in tables.items()}
    findings, _ = checks.across_sources(splits, names, scheme="paper", keys=dict.fromkeys(splits, "k"))
    expected = [("covidx", "mimic_cxr:train", "critical", k, 6)] if k else []
    assert [(f.source, f.split_a, f.severity, f.count, f.total) for f in findings] == expected


def test_tasks_that_test_on_what_others_train_on_are_a_fact():
    split = pd.DataFrame(
        {"task": list("aabb"), "image_id": list("xyxy"), "split": ["train", "train", "test", "valid"]}
    )
    (fact,) = checks.across_tasks(split, source="rsna", scheme="paper")
    assert fact.values == {"count": 1, "total": 1}
