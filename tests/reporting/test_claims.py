"""The claims: planted scores give the verdicts they must."""

from __future__ import annotations

import json

import pytest

from cmcgns.reporting import claims

PAIR = "classification-chexpert"


def scores(values: dict[str, list[float]], pair: str = PAIR) -> dict:
    return {(arm, pair, 10, seed): v for arm, found in values.items() for seed, v in enumerate(found)}


def test_families_are_compared_in_the_paper_s_order_as_means_of_their_members():
    found = claims.families(
        scores(
            {"random": [50, 52], "moco": [60, 50], "simclr": [60, 50], "clip": [70, 70], "cm_cgns": [69, 69]}
        )
    )
    assert [(f.what, f.differences, f.verdict) for f in found] == [
        ("image only - initialisation", (10, -2), "in the mean only"),
        ("global image-text - image only", (10, 20), "holds"),
        ("CM-CGNS - global image-text", (-1, -1), "does not hold"),
    ]


def test_the_ablation_looks_at_its_own_cells_only():
    arms = {"cm_cgns-baseline": [10], "cm_cgns-cgns": [12], "cm_cgns-mir": [9], "cm_cgns": [13]}
    found = claims.ablation(scores(arms) | scores({"cm_cgns": [99]}, "classification-rsna"))
    assert {f.what: f.differences[0] for f in found} == {
        "cgns - baseline": 2, "mir - baseline": -1, "both - baseline": 3, "both - cgns": 1, "both - mir": 4,
    }  # fmt: skip
    assert claims.ablation(scores({"cm_cgns": [1.0]})) == []


def test_the_best_other_is_chosen_for_each_cell_by_its_mean():
    here = scores({"random": [10, 30], "moco": [18, 18], "cm_cgns": [21, 21]})
    there = scores({"random": [50, 50], "moco": [60, 60], "cm_cgns": [55, 55]}, "classification-rsna")
    (found,) = claims.best(here | there)
    # random (20) beats moco (18) in the first cell, moco wins the second: means of the rivals (10 + 60) / 2, (30 + 60) / 2
    assert found.differences == ((21 + 55) / 2 - 35, (21 + 55) / 2 - 45)
    assert found.verdict == "does not hold"  # +3 and -7


def test_cells_that_not_all_methods_have_do_not_count():
    here = scores({"random": [10], "cm_cgns": [20]})
    extra = scores({"cm_cgns": [90]}, "segmentation-siim") | scores({"cm_cgns": [95]}, "classification-rsna")
    assert [(f.task, f.differences) for f in claims.families(here | extra)] == [("classification", (10,))]
    assert [(f.task, f.differences) for f in claims.best(here | extra)] == [("classification", (10,))]


@pytest.fixture
def write(tmp_path):
    """Writes the claims about four runs; returns the text of an output."""
    metrics = [tmp_path / f"{i}.json" for i in range(4)]
    for file, value in zip(metrics, (0.5, 0.25, 0.75, 0.5), strict=True):
        file.write_text(json.dumps({"primary": value}))
    comparisons = tmp_path / "comparisons.csv"
    comparisons.write_text("table,dataset,fraction,method,reference,difference,low,high\n")
    outputs = {name: tmp_path / f"claims.{name}" for name in ("csv", "md")}

    def made(**more):
        cells = [[arm, PAIR, 10] for arm in ("random", "cm_cgns")]
        claims.write_claims(
            cells=cells, seeds=[3, 4], metrics=metrics, comparisons=comparisons, **more, **outputs
        )
        return lambda name: outputs[name].read_text()

    return made


def test_the_tables_are_written(write):
    text = write(grounding_arms=[])
    lines = text("csv").splitlines()
    assert lines[1] == "C1,classification,CM-CGNS - initialisation,+25.00,+25.00 +25.00,holds"
    assert len(text("md").splitlines()) == len(lines) + 1


def test_a_file_of_grounding_belongs_to_its_arm(write, tmp_path):
    files = [tmp_path / "clip.json", tmp_path / "cm_cgns.json"]
    for file, own in zip(files, (0.1, 0.6), strict=True):
        scores = {seed: {"pointing": own, "pointing (other film)": 0.2} for seed in "01"}
        file.write_text(json.dumps({"seeds": scores}))
    lines = write(grounding_arms=["clip", "cm_cgns"], grounding=files)("csv").splitlines()
    assert [line for line in lines if line.startswith("C4")] == [
        'C4,grounding,"cm_cgns: pointing, own film - other film",+40.00,+40.00 +40.00,holds'
    ]


def test_better_than_random_means_an_interval_on_one_side_and_none_on_the_other(tmp_path):
    path = tmp_path / "comparisons.csv"
    path.write_text(
        "table,dataset,fraction,method,reference,difference,low,high\n"
        "I,CheXpert,1%,Random Init,CM-CGNS,-20.0,-25.0,-15.0\n"
        "I,RSNA,1%,Random Init,CM-CGNS,-1.0,-5.0,3.0\n"
        "I,RSNA,1%,Random Init,MoCo,7.0,6.0,8.0\n"
        "I,CheXpert,10%,Random Init,CM-CGNS,-1.0,-5.0,3.0\n"
        "I,CheXpert,1%,MoCo,CM-CGNS,-20.0,-25.0,-15.0\n"
        "II,RSNA,10%,Random Init,CM-CGNS,-9.0,-12.0,-1.0\n"
        "II,Object-CXR,10%,Random Init,CM-CGNS,4.0,1.0,9.0\n"
    )
    found = [(f.task, f.what.split(":")[0], f.differences, f.verdict) for f in claims.against_random(path)]
    assert found == [
        ("classification", "CM-CGNS - random at 1%", (20.0, 1.0), "holds"),
        ("classification", "CM-CGNS - random at 10%", (1.0,), "does not hold"),
        ("detection", "CM-CGNS - random at 10%", (9.0, -4.0), "does not hold"),
    ]


def test_attention_must_beat_another_film_clearly_and_the_channel_view_must_not():
    def document(*pairs):
        raw = [{"pointing": own, "pointing (other film)": other} for own, other in pairs]
        relative = [
            {"pointing (relative)": own, "pointing (relative, other film)": other}
            for own, other in reversed(pairs)
        ]
        return {"seeds": {seed: a | b for seed, (a, b) in enumerate(zip(raw, relative, strict=True))}}

    good, bad = document((0.5, 0.2), (0.6, 0.2)), document((0.3, 0.2), (0.1, 0.2), (None, 0.2))
    found = claims.attention({"cm_cgns": good, "cm_cgns-channel_view": bad})
    assert [(f.claim, f.verdict) for f in found] == [(c, "holds") for c in ("C4", "C4", "C5", "C5")]
    assert found[0].differences == pytest.approx((30, 40)) and found[1].differences == pytest.approx((40, 30))
    found = claims.attention({"cm_cgns": bad, "cm_cgns-channel_view": good})
    assert {f.verdict for f in found} == {"does not hold"}
    assert claims.attention({"cm_cgns": {"seeds": {}}}) == []
