"""A small population: patients with a body, studies over time, and what is truly to be seen in each."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cmcgns.randomness import derive, numpy_rng
from cmcgns.synthetic.disease import Finding, first_findings, later_findings, sickness
from cmcgns.synthetic.terms import LABELS, PARENTS


@dataclass(frozen=True)
class Body:
    """How one patient is built; lengths in body units (half the width of the chest film is 1).

    `seed` names the patient's own vessel and bone pattern: two films of one patient look alike, as in life.
    """

    width: float  # of the rib cage, 1 = average
    apex: float  # y of the lungs' top, negative is up
    base: float  # y of the right diaphragm's dome at full inspiration
    heart: float  # cardio-thoracic ratio without disease
    heart_shift: float
    girth: float  # 0 slim .. 1 obese: soft tissue over the lower lungs
    rib_spacing: float
    rib_phase: float
    rib_slope: float
    bone: float  # visibility of the bones
    seed: int


@dataclass(frozen=True)
class Patient:
    """One true person; `age` at the first study, in years."""

    patient_id: str
    sex: str
    age: int
    body: Body


@dataclass(frozen=True)
class Study:
    """One visit: what is truly there, and how the film was taken."""

    study_id: str
    patient: Patient
    number: int  # 1 is the patient's first
    findings: tuple[Finding, ...]
    before: tuple[Finding, ...] | None  # the previous visit's findings, None at the first visit
    view: str  # AP or PA


def labels_of(findings: tuple[Finding, ...]) -> dict[str, int]:
    """The 14 true labels (0/1) of a set of findings; parents follow, 'No Finding' is what remains.

    Devices alone leave 'No Finding' true, as in CheXpert.
    """
    present = {f.label for f in findings}
    for label in tuple(present):
        present.update(PARENTS.get(label, ()))
    if not present - {"Support Devices"}:
        present.add("No Finding")
    return {label: int(label in present) for label in LABELS}


def _normal(rng: np.random.Generator, mean: float, spread: float, low: float, high: float) -> float:
    return float(np.clip(rng.normal(mean, spread), low, high))


def make_body(rng: np.random.Generator) -> Body:
    """Draw a habitus; the spreads are wide, so that size and exposure alone do not tell a disease."""
    return Body(
        width=_normal(rng, 1.0, 0.055, 0.87, 1.13),
        apex=_normal(rng, -0.72, 0.035, -0.80, -0.64),
        base=_normal(rng, 0.50, 0.06, 0.36, 0.62),
        heart=_normal(rng, 0.44, 0.035, 0.36, 0.50),
        heart_shift=_normal(rng, 0, 0.05, -0.11, 0.11),
        girth=float(rng.beta(1.6, 2.2)),
        rib_spacing=_normal(rng, 0.165, 0.012, 0.14, 0.19),
        rib_phase=float(rng.uniform(0, 1)),
        rib_slope=_normal(rng, 0.34, 0.07, 0.18, 0.50),
        bone=float(rng.uniform(0.5, 1.3)),
        seed=int(rng.integers(2**31)),
    )


def make_patient(patient_id: str, rng: np.random.Generator) -> Patient:
    """Draw one patient."""
    age = int(_normal(rng, 60, 17, 18, 90))
    return Patient(patient_id, str(rng.choice(["M", "F"], p=[0.54, 0.46])), age, make_body(rng))


def draw_view(findings: tuple[Finding, ...], rng: np.random.Generator) -> str:
    """AP for the sick, who cannot stand, and PA for the well: the shortcut of real collections (spec 3a)."""
    chance = 1 / (1 + np.exp(-(-1.45 + 0.42 * sickness(findings))))
    return "AP" if rng.random() < chance else "PA"


def make_population(
    name: str,
    n_studies: int,
    *,
    seed: int = 0,
    per_patient: tuple[float, ...] = (0.5, 0.3, 0.2),
    rates: Mapping[str, float] | None = None,
    healthy: float = 0.40,
) -> tuple[Study, ...]:
    """Draw the patients of a hospital until there are `n_studies` studies.

    Args:
        name: the hospital; patient ids are `<name>-000000`, study ids `<patient>-s1`, ...
        per_patient: chances of 1, 2, 3 ... studies.
        rates: base rates of labels that differ from `disease.BASE_RATES`.
        healthy: chance that a first study shows no disease.
    """
    studies: list[Study] = []
    number = 0
    while len(studies) < n_studies:
        rng = numpy_rng(seed, "patient", name, number)
        patient = make_patient(f"{name}-{number:06d}", rng)
        before: tuple[Finding, ...] | None = None
        visits = 1 + int(rng.choice(len(per_patient), p=per_patient))
        for visit in range(1, min(visits, n_studies - len(studies)) + 1):
            seed_of_study = derive(seed, "study", patient.patient_id, visit)
            study_rng = np.random.default_rng(seed_of_study)
            if before is None:
                findings = first_findings(study_rng, patient.age, rates or {}, healthy)
            else:
                findings = later_findings(study_rng, before, patient.age, rates or {}, healthy)
            studies.append(
                Study(
                    f"{patient.patient_id}-s{visit}",
                    patient,
                    visit,
                    findings,
                    before,
                    draw_view(findings, study_rng),
                )
            )
            before = findings
        number += 1
    return tuple(studies)
