"""Splits: the paper's sizes on tables of the published counts, and what `audited` promises."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.errors import InputError
from cmcgns.splits.schemes import DEFAULTS, TASKS, draw_5x200, make_split

COMPETITION = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
OTHERS = [
    "Enlarged Cardiomediastinum",
    "Lung Opacity",
    "Lung Lesion",
    "Pneumonia",
    "Pneumothorax",
    "Pleural Other",
]
OTHERS += ["Fracture", "Support Devices"]


def table(n, *, groups=None, official="", **columns):
    """An index table of n frontal images; `groups` gives each image's group."""
    ids = [f"i{i:06d}" for i in range(n)]
    frame = pd.DataFrame({"image_id": ids, "group_id": ids if groups is None else [f"g{g}" for g in groups]})
    return frame.assign(view="", frontal=True, official_split=official, **columns)


def rsna(n=26_684, positives=6_012, groups=None, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.arange(n) < positives).astype(int)
    return table(n, groups=groups, target=target).assign(view=rng.choice(["AP", "PA"], n))


def mixed_sources(seed=0):
    """A small index table of every source, with groups of 1 to 5 images."""
    rng = np.random.default_rng(seed)
    n = 120
    groups = rng.integers(0, 50, n)
    official = {
        "mimic_cxr": rng.choice(["train", "validate", "test"], n, p=[0.8, 0.1, 0.1]),
        "chexpert": rng.choice(["train", "valid"], n, p=[0.9, 0.1]),
        "covidx": rng.choice(["train", "test"], n, p=[0.8, 0.2]),
        "object_cxr": rng.choice(["train", "dev"], n, p=[0.8, 0.2]),
    }
    labels = {name: rng.choice([0.0, 1.0, np.nan], n) for name in COMPETITION + OTHERS}
    extra = {
        "mimic_cxr": {"study_id": [f"s{i}" for i in range(n)]},
        "chexpert": labels,
        "rsna": {"target": rng.integers(0, 2, n)},
        "covidx": {"label": rng.choice(["normal", "pneumonia", "COVID-19"], n)},
        "siim": {"positive": rng.random(n) < 0.3},
        "object_cxr": {"boxes": [[[0.0, 0.0, 1.0, 1.0]] * int(k) for k in rng.integers(0, 3, n)]},
    }
    return {name: table(n, groups=groups, official=official.get(name, ""), **extra[name]) for name in TASKS}


SMALL = {"chexpert": {"valid_images": 12}}
CASES = [(name, task, scheme) for name in TASKS for task in TASKS[name] for scheme in ("paper", "audited")]


def counts(split):
    return tuple(int((split["split"] == part).sum()) for part in ("train", "valid", "test"))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("classification", (18_678, 4_003, 4_003)),
        ("detection", (16_010, 5_337, 5_337)),
        ("segmentation", (16_010, 5_337, 5_337)),
    ],
)
def test_rsna_paper_has_the_papers_sizes(task, expected):
    assert counts(make_split("rsna", rsna(), task, "paper")) == expected


def test_rsna_audited_keeps_sizes_patients_and_strata():
    rng = np.random.default_rng(1)
    index = rsna(groups=rng.integers(0, 10_000, 26_684))
    split = make_split("rsna", index, "classification", "audited")
    assert np.abs(np.array(counts(split)) - [18_678, 4_003, 4_003]).max() <= 3
    assert split.groupby("group_id")["split"].nunique().max() == 1
    merged = split.merge(index[["image_id", "target", "view"]])
    share = pd.crosstab(merged["split"], merged["target"].astype(str) + merged["view"], normalize="index")
    assert (share.max() - share.min()).max() < 0.02


@pytest.mark.parametrize("scheme", ["paper", "audited"])
def test_rsna_tasks_are_nested(scheme):
    index = rsna(3_000, 700, groups=np.random.default_rng(2).integers(0, 1_000, 3_000))
    one, two = (
        make_split("rsna", index, t, scheme).set_index("image_id")["split"]
        for t in ("classification", "detection")
    )
    for part in ("valid", "test"):
        assert set(one.index[one == part]) < set(two.index[two == part])
    assert set(two.index[two == "train"]) < set(one.index[one == "train"])


def test_covidx_paper_sizes_and_audited_groups():
    n, test = 30_130, 400
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.minimum(rng.zipf(1.6, n), 16_000), 20_000 + np.arange(test)])
    groups[:7] = 20_003  # a patient of the test list with films in the training list
    official = np.array(["train"] * n + ["test"] * test)
    index = table(n + test, groups=groups, official=official, label=rng.choice(["a", "b", "c"], n + test))
    assert counts(make_split("covidx", index, "classification", "paper")) == (27_117, 3_013, 400)
    audited = make_split("covidx", index, "classification", "audited")
    assert counts(audited)[2] == 400 and len(audited) == n + test - 7
    assert audited.groupby("group_id")["split"].nunique().max() == 1
    assert not set(audited["image_id"]) & {f"i{i:06d}" for i in range(7)}


@pytest.mark.parametrize("scheme", ["paper", "audited"])
def test_siim_sizes_and_positives(scheme):
    index = table(12_047, positive=np.arange(12_047) < 2_669)
    split = make_split("siim", index, "segmentation", scheme)
    assert counts(split) == (8_432, 1_808, 1_807)
    positive = split.merge(index[["image_id", "positive"]]).groupby("split")["positive"].sum()
    # 2,669 / 12,047 of 8,432 / 1,808 / 1,807 = 1,868.1 / 400.6 / 400.3
    assert (
        abs(positive["train"] - 1868.1) <= 2
        and abs(positive["valid"] - 400.6) <= 2
        and abs(positive["test"] - 400.3) <= 2
    )


def test_object_cxr_sizes_and_positives():
    boxes = [[[0.0, 0.0, 5.0, 5.0]]] * 4_000 + [[]] * 4_000 + [[]] * 1_000
    index = table(9_000, official=["train"] * 8_000 + ["dev"] * 1_000, boxes=boxes)
    split = make_split("object_cxr", index, "detection", "paper")
    assert counts(split) == (6_400, 1_600, 1_000)
    valid = split.loc[split["split"] == "valid", "image_id"]
    assert abs(valid.isin(index["image_id"][:4_000]).sum() - 800) <= 1


def chexpert(n=191_027, test=202):
    groups = np.concatenate([np.random.default_rng(3).integers(0, 64_534, n), 70_000 + np.arange(test)])
    return table(n + test, groups=groups, official=["train"] * n + ["valid"] * test)


def test_chexpert_paper_is_exact_and_audited_is_whole_patients():
    index = chexpert()
    paper = make_split("chexpert", index, "classification", "paper")
    assert counts(paper) == (186_027, 5_000, 202)
    crossing = paper[paper["split"] != "test"].groupby("group_id")["split"].nunique()
    assert (crossing > 1).sum() <= 1  # drawn by patient: only the last one may be cut
    audited = make_split("chexpert", index, "classification", "audited")
    valid = audited[audited["split"] == "valid"]
    assert 5_000 <= len(valid) < 5_000 + index["group_id"].value_counts().max()
    assert not set(valid["group_id"]) & set(audited.loc[audited["split"] == "train", "group_id"])
    assert len(audited) == len(index)


def test_chexpert_5x200_takes_one_finding_alone_and_its_patients_leave():
    n = 60
    labels = pd.DataFrame(np.nan, index=range(n), columns=COMPETITION + OTHERS)
    labels.loc[0:9, "Edema"] = 1.0
    labels.loc[0, "Fracture"] = 1.0  # another finding
    labels.loc[1, "Atelectasis"] = -1.0  # uncertain
    labels.loc[2, "Atelectasis"] = 1.0  # two competition labels
    labels.loc[10:12, "Pleural Effusion"] = 1.0
    index = table(n, groups=np.arange(n) // 2, official=["train"] * 50 + ["valid"] * 10)
    index = pd.concat([index, labels], axis=1)
    assert set(draw_5x200(index)) == {f"i{i:06d}" for i in (3, 4, 5, 6, 7, 8, 9, 10, 11, 12)}
    assert len(draw_5x200(index, per_class=2)) == 4
    options = {"valid_images": 5, "exclude_5x200": True}
    split = make_split("chexpert", index, "classification", "audited", options=options)
    # patients 1..6 (images 2..13) have a film in the set
    assert not set(split["image_id"]) & {f"i{i:06d}" for i in range(2, 14)}
    assert {"i000000", "i000001"} <= set(split["image_id"])


@pytest.mark.parametrize("scheme", ["paper", "audited"])
def test_mimic_merges_the_test_part_only_in_paper(scheme):
    index = table(100, official=["train"] * 90 + ["validate"] * 4 + ["test"] * 6)
    expected = (90, 10, 0) if scheme == "paper" else (90, 4, 6)
    assert counts(make_split("mimic_cxr", index, "pretraining", scheme)) == expected
    unmerged = make_split("mimic_cxr", index, "pretraining", scheme, options={"merge_test_into_valid": False})
    assert counts(unmerged) == (90, 4, 6)


@pytest.mark.parametrize(("name", "task", "scheme"), CASES)
def test_splits_do_not_depend_on_row_order_and_are_disjoint(name, task, scheme):
    index = mixed_sources()[name]
    index.loc[::10, "frontal"] = False
    split = make_split(name, index, task, scheme, options=SMALL.get(name))
    shuffled = make_split(name, index.sample(frac=1, random_state=1), task, scheme, options=SMALL.get(name))
    pd.testing.assert_frame_equal(split, shuffled)
    assert split["image_id"].is_unique and split["image_id"].is_monotonic_increasing
    assert set(split["image_id"]) <= set(index.loc[index["frontal"], "image_id"])
    assert list(split.columns) == ["task", "image_id", "group_id", "split"]
    if scheme == "audited":
        assert split.groupby("group_id")["split"].nunique().max() == 1
    else:
        assert len(split) == index["frontal"].sum()


@pytest.mark.parametrize(("name", "task"), [(n, t) for n, t, s in CASES if s == "paper" and n != "mimic_cxr"])
@pytest.mark.parametrize("scheme", ["paper", "audited"])
def test_seeds_differ(name, task, scheme):
    index = mixed_sources()[name]
    one, two = (make_split(name, index, task, scheme, seed=s, options=SMALL.get(name)) for s in (0, 1))
    assert not one["split"].equals(two["split"])


def test_only_usable_images_are_split():
    index = rsna(300, 100)
    usable = set(index["image_id"][::2])
    assert set(make_split("rsna", index, "detection", "paper", usable=usable)["image_id"]) == usable


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 8), min_size=3, max_size=40),
    st.integers(0, 5),
    st.sampled_from(["paper", "audited"]),
)
def test_every_split_is_filled_from_three_groups_on(groups, seed, scheme):
    index = table(len(groups), groups=groups, positive=[g % 3 == 0 for g in groups])
    units = len(set(groups)) if scheme == "audited" else len(groups)
    if units < 3:
        with pytest.raises(InputError, match="cannot fill 3 splits"):
            make_split("siim", index, "segmentation", scheme, seed=seed)
        return
    split = make_split("siim", index, "segmentation", scheme, seed=seed)
    assert set(split["split"]) == {"train", "valid", "test"} and len(split) == len(index)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mimic", "pretraining", "paper", {}), "unknown source: 'mimic'"),
        (("rsna", "pretraining", "paper", {}), "unknown task of rsna"),
        (("rsna", "detection", "none", {}), "unknown scheme: 'none'"),
        (("rsna", "detection", "paper", {"valid_images": 3}), "unknown option of the rsna split"),
        (("rsna", "detection", "paper", {"detection": [0.6, 0.2, 0.1]}), "sum 1"),
        (("chexpert", "classification", "paper", {"valid_images": 500}), "lower chexpert_valid_images"),
        (("covidx", "classification", "paper", {"valid_fraction": 1.0}), "between 0 and 1"),
    ],
)
def test_bad_requests_are_told(arguments, message):
    name, task, scheme, options = arguments
    index = mixed_sources().get(name, table(3))
    with pytest.raises(InputError, match=message):
        make_split(name, index, task, scheme, options=options)


def test_a_missing_official_part_is_told():
    index = mixed_sources()["covidx"]
    with pytest.raises(InputError, match="no image for test"):
        make_split("covidx", index[index["official_split"] == "train"], "classification", "paper")


def test_defaults_are_the_tasks_sizes():
    assert set(DEFAULTS) == set(TASKS)
    assert DEFAULTS["rsna"].keys() == set(TASKS["rsna"])
