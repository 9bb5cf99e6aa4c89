"""MIMIC-CXR-JPG and its report files, as downloaded (spec/data.md 1a, 1d)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.layouts.plan import Plan, csv_text
from cmcgns.synthetic.report_text import (
    CUSTOM_EMPTY,
    CUSTOM_RANGE,
    CUSTOM_SECTION,
    VARIANTS,
    choose_variant,
    write_report,
    written,
)
from cmcgns.synthetic.reporter import Statement, labeler, report_study
from cmcgns.synthetic.terms import LABELS
from cmcgns.synthetic.world import Study, make_population

REPORTS = "mimic-reports"
SPLITS = {"train": 0.86, "validate": 0.06, "test": 0.08}
# The first studies are one of each kind, so that even a very small world has every quirk.
CUSTOM = {"custom range": CUSTOM_RANGE[0], "custom empty": CUSTOM_EMPTY, "custom section": CUSTOM_SECTION[0]}
FORCED = (*CUSTOM, *VARIANTS)


@dataclass(frozen=True)
class Visit:
    """A study under its MIMIC names."""

    study: Study
    subject: str
    number: str  # the study's id, 8 digits
    split: str
    text: str
    labels: dict[str, float | None]

    @property
    def folder(self) -> str:
        return f"files/p{self.subject[:2]}/p{self.subject}/s{self.number}"


def plan_mimic(n_studies: int, *, seed: int, size: int, omission: float) -> Plan:
    """Plan `n_studies` studies: one to three frontal films each, laterals for many, one report."""
    visits, sentences = _visits(make_population("mimic", n_studies, seed=seed), seed, omission)
    films, rows = [], []
    for visit in visits:
        for film, row in _films_of(visit, seed, size):
            films.append(film)
            rows.append(row)

    def label_files(shots: list[Shot]) -> dict[str, str]:
        measured = zip(rows, shots, strict=True)
        table = pd.DataFrame([{**row, "Rows": s.height, "Columns": s.width} for row, s in measured])
        return _label_files(table, visits)

    reports = {f"{REPORTS}/{visit.folder}.txt": visit.text for visit in visits}
    return Plan("mimic_cxr", "mimic", films, label_files, sentences, reports)


def _visits(
    studies: tuple[Study, ...], seed: int, omission: float
) -> tuple[list[Visit], dict[str, list[Statement]]]:
    subjects = list(dict.fromkeys(s.patient.patient_id for s in studies))
    rng = numpy_rng(seed, "mimic ids")
    names = dict(zip(subjects, _distinct(rng, 10_000_000, 20_000_000, len(subjects)), strict=True))
    numbers = _distinct(rng, 50_000_000, 60_000_000, len(studies), avoid=tuple(CUSTOM.values()))
    splits = _split_of(subjects, rng)
    visits, sentences = [], {}
    for index, study in enumerate(studies):
        own = numpy_rng(seed, "report", study.study_id)
        variant = FORCED[index] if index < len(FORCED) else choose_variant(own)
        said = report_study(study, own, omission=omission)
        number = CUSTOM.get(variant, f"s{numbers[index]}")[1:]
        variant = "standard" if variant == "custom empty" else variant
        text = write_report(study, study.view, said, variant, own)
        sentences[study.study_id] = written(said, variant)
        person = study.patient.patient_id
        labels = labeler(sentences[study.study_id], own)
        visits.append(Visit(study, names[person], number, splits[person], text, labels))
    return visits, sentences


def _distinct(
    rng: np.random.Generator, low: int, high: int, n: int, avoid: tuple[str, ...] = ()
) -> list[str]:
    drawn = np.unique(rng.integers(low, high, 2 * n + 20)).astype(str)
    drawn = drawn[~np.isin(drawn, [name[1:] for name in avoid])]
    return [str(name) for name in rng.permutation(drawn)[:n]]


def _split_of(subjects: list[str], rng: np.random.Generator) -> dict[str, str]:
    ends = np.round(np.cumsum(list(SPLITS.values())) * len(subjects)).astype(int)
    order = rng.permutation(len(subjects))
    return {
        subjects[i]: list(SPLITS)[int(np.searchsorted(ends, place, side="right"))]
        for place, i in enumerate(order)
    }


def _films_of(visit: Visit, seed: int, size: int) -> list[tuple[Film, dict[str, object]]]:
    rng = numpy_rng(seed, "mimic films", visit.study.study_id)
    frontal = 1 + int(rng.choice(3, p=[0.76, 0.20, 0.04]))
    views = [visit.study.view] * frontal
    if rng.random() < (0.7 if visit.study.view == "PA" else 0.1):
        views.append("LATERAL")
    made = []
    for number, view in enumerate(views):
        dicom_id = "-".join(rng.bytes(4).hex() for _ in range(5))
        film = Film(
            source="mimic_cxr",
            image_id=dicom_id,
            path=f"{visit.folder}/{dicom_id}.jpg",
            film_id=f"{visit.study.study_id}-{number}",
            study=visit.study,
            view=view,
            style="mimic_cxr",
            size=size,
        )
        made.append((film, _metadata(visit, dicom_id, view, rng)))
    return made


def _metadata(visit: Visit, dicom_id: str, view: str, rng: np.random.Generator) -> dict[str, object]:
    named = view if view != "LATERAL" or rng.random() < 0.7 else "LL"
    named = "" if rng.random() < 0.04 else named
    names = {
        "AP": "antero-posterior",
        "PA": "postero-anterior",
        "LATERAL": "lateral",
        "LL": "left lateral",
        "": "",
    }
    portable = view == "AP"
    day = 2_110 * 365 + int(visit.subject) % 9_000 + 200 * visit.study.number
    return {
        "dicom_id": dicom_id,
        "subject_id": visit.subject,
        "study_id": visit.number,
        "PerformedProcedureStepDescription": "CHEST (PORTABLE AP)" if portable else "CHEST (PA AND LAT)",
        "ViewPosition": named,
        "Rows": 0,
        "Columns": 0,
        "StudyDate": f"{day // 365}{day % 12 + 1:02d}{day % 28 + 1:02d}",
        "StudyTime": f"{rng.integers(0, 24) * 10000 + rng.integers(0, 60) * 100 + rng.integers(0, 60)}.{rng.integers(1000):03d}",
        "ProcedureCodeSequence_CodeMeaning": "CHEST (PORTABLE AP)" if portable else "CHEST (PA AND LAT)",
        "ViewCodeSequence_CodeMeaning": names[named],
        "PatientOrientationCodeSequence_CodeMeaning": "Erect" if view != "AP" else "",
    }


def _label_files(table: pd.DataFrame, visits: list[Visit]) -> dict[str, str]:
    """The label files of MIMIC-CXR-JPG, and the two lists that come with the reports."""
    split = {v.number: v.split for v in visits}
    splits = table[["dicom_id", "study_id", "subject_id"]].assign(split=table["study_id"].map(split))
    # as published, a few studies have no row here
    labels = pd.DataFrame(
        [
            {"subject_id": v.subject, "study_id": v.number, **{k: v.labels[k] for k in sorted(LABELS)}}
            for v in visits[:-1]
        ]
    )
    folder = {v.number: v.folder for v in visits}
    record = table[["subject_id", "study_id", "dicom_id"]]
    record = record.assign(path=[f"{folder[r.study_id]}/{r.dicom_id}.dcm" for r in record.itertuples()])
    study = pd.DataFrame(
        [{"subject_id": v.subject, "study_id": v.number, "path": f"{v.folder}.txt"} for v in visits]
    )
    frames = {
        "mimic/mimic-cxr-2.0.0-metadata": table,
        "mimic/mimic-cxr-2.0.0-split": splits,
        "mimic/mimic-cxr-2.0.0-chexpert": labels,
        f"{REPORTS}/cxr-record-list": record,
        f"{REPORTS}/cxr-study-list": study,
    }
    return {f"{name}.csv.gz": csv_text(frame) for name, frame in frames.items()}
