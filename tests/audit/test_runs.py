"""Copied runs and dead learning rates are found; honest runs are not."""

from __future__ import annotations

import json

import pytest

from cmcgns.audit.runs import audit_runs, dead_schedule, duplicate_runs

COSINE = [1e-3, 8.5e-4, 5e-4, 1.5e-4]


def run(primary, seed_of="classification-rsna", arm="moco", fraction=1):
    return {"arm": arm, "pair": seed_of, "fraction": fraction, "primary": primary}


def test_only_equal_scores_of_one_cell_are_copies():
    honest = [run(0.71), run(0.72), run(0.71, arm="clip"), run(0.71, fraction=10), run(None), run(None)]
    assert duplicate_runs(honest) == []
    (found,) = duplicate_runs([*honest, run(0.71), run(0.8), run(0.8)])
    assert (found.check, found.source, found.task) == ("A14-duplicate-runs", "rsna", "classification")
    assert (found.count, found.total, found.unit) == (4, 5, "runs")


def test_a_score_at_the_end_of_the_scale_may_repeat():
    assert duplicate_runs([run(0.0), run(0.0), run(1.0), run(1.0)]) == []


@pytest.mark.parametrize(
    ("rates", "schedule", "words"),
    [
        (COSINE, "cosine", None),
        ([1e-3] * 4, "constant", None),
        ([1e-3] * 4, "cosine", "ended at 0.001"),
        ([1e-5, 2e-5, 3e-5], "cosine", "reached 3e-05 of 0.001"),
        ([1e-3, 1e-3, 1e-4], "step", None),
        ([1e-3, 1e-3, 1e-3], "step", "its step schedule"),
        ([1e-7], "cosine", None),
        ([], "cosine", None),
    ],
)
def test_a_schedule_is_dead_if_it_never_rises_or_never_falls(rates, schedule, words):
    found = dead_schedule(rates, 1e-3, schedule, "moco, stage1", "mimic_cxr")
    assert bool(found) == bool(words)
    if words:
        assert words in found[0].detail and found[0].check == "A15-dead-schedule"


def test_runs_are_read_in_the_order_of_their_groups_and_seeds(tmp_path):
    files = [tmp_path / f"{i}.json" for i in range(6)]
    for i, score in enumerate((0.6, 0.7, 0.8, 0.5, 0.5, 0.6)):
        rates = COSINE if i else COSINE[:2]  # the first stopped early, at a rate that is high still
        history = [{"epoch": epoch, "lr": rate} for epoch, rate in enumerate(rates)]
        files[i].write_text(json.dumps({"primary": score, "history": history}))
    (tmp_path / "history.csv").write_text("epoch,lr\n1,0.1\n2,0.1\n3,0.1\n")
    findings, _ = audit_runs(
        groups=[["clip", "classification-rsna", 1], ["moco", "classification-rsna", 1]],
        seeds=[0, 1, 2],
        heads={"classification-rsna-1": {"lr": 1e-3, "schedule": "cosine", "max_epochs": 4}},
        phases=[{"arm": "moco", "phase": "stage1", "lr": 0.1, "schedule": "cosine"}],
        metrics=files,
        history=[tmp_path / "history.csv"],
        out=tmp_path / "runs.json",
    )
    assert [(f.check, f.count) for f in findings] == [("A14-duplicate-runs", 2), ("A15-dead-schedule", 3)]
    assert findings[0].detail.startswith("moco at 1 %")
    assert len(json.loads((tmp_path / "runs.json").read_text())["findings"]) == 2
