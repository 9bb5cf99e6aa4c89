"""CheXpert-v1.0-small (spec/data.md 2a)."""

import numpy as np
import pandas as pd

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.layouts.plan import Plan, csv_text
from cmcgns.synthetic.reporter import Statement, labeler, report_study
from cmcgns.synthetic.terms import LABELS
from cmcgns.synthetic.world import Study, labels_of, make_population

FOLDER = "CheXpert-v1.0-small"
FIRST_VALID_PATIENT = 64541
LATERALS = 0.15  # of the frontal films


def plan_chexpert(n_train: int, n_valid: int, *, seed: int, size: int, omission: float) -> Plan:
    """Plan `n_train` and `n_valid` frontal films, and laterals on top, as in the published counts.

    Train labels are a labeler's reading of reports that are not published; valid labels are the truth.
    """
    films: list[Film] = []
    rows: list[dict[str, object]] = []
    sentences: dict[str, list[Statement]] = {}
    for part, count in (("train", n_train), ("valid", n_valid)):
        studies = make_population(f"chexpert_{part}", count, seed=seed)
        first = 1 if part == "train" else FIRST_VALID_PATIENT
        people = {p: first + i for i, p in enumerate(dict.fromkeys(s.patient.patient_id for s in studies))}
        frontal = 0
        for study in studies:
            own = numpy_rng(seed, "report", study.study_id)
            said = report_study(study, own, omission=omission)
            sentences[study.study_id] = said
            labels = labeler(said, own) if part == "train" else labels_of(study.findings)
            views = _views(study, count - frontal, part, own)
            frontal += sum(view != "LATERAL" for view in views)
            for number, view in enumerate(views, 1):
                film = _film(study, part, people[study.patient.patient_id], number, view, size)
                films.append(film)
                rows.append({**_row(film, study, view), **{k: _number(labels[k]) for k in LABELS}})
            if frontal == count:
                break
    rows[0]["Sex"] = "Unknown"
    if len(rows) > 3:
        rows[3]["Age"] = 0
    if ap := [row for row in rows if row["AP/PA"] == "AP"]:
        ap[-1]["AP/PA"] = "LL"
    n_rows = sum(film.path.startswith(f"{FOLDER}/train") for film in films)

    def label_files(shots: list[Shot]) -> dict[str, str]:
        parts = {"train": rows[:n_rows], "valid": rows[n_rows:]}
        return {
            f"chexpert/{FOLDER}/{part}.csv": csv_text(pd.DataFrame(chosen)) for part, chosen in parts.items()
        }

    return Plan("chexpert", "chexpert", films, label_files, sentences)


def _views(study: Study, left: int, part: str, rng: np.random.Generator) -> list[str]:
    second = part == "train" and left > 1 and rng.random() < 0.06
    views = [study.view] * (2 if second else 1)
    return [*views, "LATERAL"] if rng.random() < LATERALS * (1.7 if study.view == "PA" else 0.5) else views


def _film(study: Study, part: str, person: int, number: int, view: str, size: int) -> Film:
    kind = "lateral" if view == "LATERAL" else "frontal"
    inner = f"{part}/patient{person:05d}/study{study.number}/view{number}_{kind}.jpg"
    return Film(
        source="chexpert",
        image_id=inner,
        path=f"{FOLDER}/{inner}",
        film_id=f"{study.study_id}-{number}",
        study=study,
        view=view,
        style="chexpert",
        size=size,
    )


def _row(film: Film, study: Study, view: str) -> dict[str, object]:
    lateral = view == "LATERAL"
    return {
        "Path": film.path,
        "Sex": {"M": "Male", "F": "Female"}[study.patient.sex],
        "Age": study.patient.age,
        "Frontal/Lateral": "Lateral" if lateral else "Frontal",
        "AP/PA": "" if lateral else view,
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
