from __future__ import annotations

import numpy as np
import pytest

from cmcgns.sources.vocabulary import COMPETITION
from cmcgns.synthetic.disease import make_finding
from cmcgns.synthetic.terms import LABELS
from cmcgns.synthetic.world import labels_of, make_population


@pytest.fixture(scope="module")
def population():
    return make_population("mimic", 3000, seed=1)


def test_labels_follow_the_hierarchy():
    rng = np.random.default_rng(0)
    truth = labels_of((make_finding("Pneumonia", rng), make_finding("Cardiomegaly", rng)))
    positive = {label for label, value in truth.items() if value}
    assert positive == {
        "Pneumonia", "Consolidation", "Lung Opacity", "Cardiomegaly", "Enlarged Cardiomediastinum",
    }  # fmt: skip
    assert tuple(truth) == LABELS


def test_no_finding_is_what_remains_and_devices_leave_it():
    device = make_finding("Support Devices", np.random.default_rng(0), kind="port")
    assert labels_of(())["No Finding"] == 1
    assert labels_of((device,))["No Finding"] == 1
    assert labels_of((make_finding("Edema", np.random.default_rng(0)),))["No Finding"] == 0


def test_prevalences_are_useful(population):
    truth = [labels_of(s.findings) for s in population]
    for label in COMPETITION:
        assert 0.15 <= np.mean([t[label] for t in truth]) <= 0.30, label
    assert 0.25 <= np.mean([t["No Finding"] for t in truth]) <= 0.36


def test_portable_films_are_of_the_sick(population):
    rate = {
        view: np.mean([labels_of(s.findings)["Pneumonia"] for s in population if s.view == view])
        for view in ("AP", "PA")
    }
    assert rate["AP"] > 2 * rate["PA"] > 0


def test_findings_come_together_as_in_a_clinic(population):
    truth = [labels_of(s.findings) for s in population]
    with_heart = np.mean([t["Edema"] for t in truth if t["Cardiomegaly"]])
    without = np.mean([t["Edema"] for t in truth if not t["Cardiomegaly"]])
    assert with_heart > 2 * without


def test_findings_persist_over_visits(population):
    later = [s for s in population if s.before]
    kept = [{f.seed for f in s.findings} & {f.seed for f in s.before} for s in later]
    assert 0.5 < np.mean([bool(k) for k in kept]) < 1.0


def test_a_patient_keeps_the_body_and_a_smaller_world_is_a_prefix(population):
    small = make_population("mimic", 40, seed=1)
    assert small[:39] == population[:39]
    bodies = {s.patient.patient_id: s.patient.body for s in population}
    assert all(bodies[s.patient.patient_id] == s.patient.body for s in population)
