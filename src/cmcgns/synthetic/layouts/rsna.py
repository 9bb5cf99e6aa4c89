"""RSNA Pneumonia Detection, stage 2 (spec/data.md 3a), with the mapping of exams to NIH patients."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.films import DICOM_SIZE, Film, Shot
from cmcgns.synthetic.layouts.plan import Plan, csv_text, make_uuid
from cmcgns.synthetic.world import Study, labels_of

MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
DRAWN = 256  # pixels; enlarged to 1024


def plan_rsna(population: Sequence[Study], n_train: int, *, seed: int) -> Plan:
    """Plan `n_train` labelled exams and a few unlabelled ones from the NIH population.

    Boxes are the drawn consolidations; 'Normal' is a study without any finding.
    """
    n_test = max(2, n_train // 50)
    rng = numpy_rng(seed, "rsna ids")
    chosen = sorted(rng.permutation(len(population))[: n_train + n_test])
    studies = [population[i] for i in chosen]
    films = [_film(study, "train" if i < n_train else "test", rng) for i, study in enumerate(studies)]

    def label_files(shots: list[Shot]) -> dict[str, str]:
        labels, classes = ["patientId,x,y,width,height,Target"], ["patientId,class"]
        for film, shot in zip(films[:n_train], shots, strict=False):
            boxes = boxes_of(film.study, shot)
            rows = [f"{x:.1f},{y:.1f},{w:.1f},{h:.1f},1" for x, y, w, h in boxes] or [",,,,0"]
            name = class_of(film.study, bool(boxes))
            labels += [f"{film.image_id},{row}" for row in rows]
            classes += [f"{film.image_id},{name}" for _ in rows]
        submission = pd.DataFrame(
            {"patientId": [f.image_id for f in films[n_train:]], "PredictionString": "0.5 0 0 100 100"}
        )
        return {
            "rsna/stage_2_train_labels.csv": "\n".join(labels) + "\n",
            "rsna/stage_2_detailed_class_info.csv": "\n".join(classes) + "\n",
            "rsna/stage_2_sample_submission.csv": csv_text(submission),
            f"rsna/{MAPPING}": json.dumps(_mapping(films), indent=1) + "\n",
        }

    return Plan("rsna", "rsna", films, label_files)


def boxes_of(study: Study, shot: Shot) -> list[tuple[int, int, int, int]]:
    """(x, y, width, height) of every consolidation, whole pixels of the 1024 film, at least 40 wide and 45 high."""
    boxes = []
    for number, finding in enumerate(study.findings):
        if finding.label == "Consolidation":
            for _, x1, y1, x2, y2 in shot.boxes[number]:
                boxes.append((*_at_least(x1, x2, 40), *_at_least(y1, y2, 45)))
    return [(x, y, w, h) for x, w, y, h in boxes]


def _at_least(low: float, high: float, least: int) -> tuple[int, int]:
    """Start and length in pixels of an interval that is widened to `least` and kept on the film."""
    start, end = round(low * DICOM_SIZE), round(high * DICOM_SIZE)
    if end - start < least:
        start = (start + end - least) // 2
        end = start + least
    start = min(max(start, 0), DICOM_SIZE - (end - start))
    return start, end - start


def class_of(study: Study, boxes: bool) -> str:
    """The text of the class info file."""
    if boxes:
        return "Lung Opacity"
    return "Normal" if labels_of(study.findings)["No Finding"] else "No Lung Opacity / Not Normal"


def uid(rng: np.random.Generator, kind: int) -> str:
    """A UID in the style of the published films."""
    return f"1.2.276.0.7230010.3.1.{kind}.8323329.{rng.integers(1000, 32000)}.1517874{rng.integers(100, 999)}.{rng.integers(100000, 999999)}"


def _film(study: Study, part: str, rng: np.random.Generator) -> Film:
    exam = make_uuid(rng)
    return Film(
        source="rsna",
        image_id=exam,
        path=f"stage_2_{part}_images/{exam}.dcm",
        film_id=f"{study.study_id}-0",
        study=study,
        view=study.view,
        style="nih",
        size=DRAWN,
        form="dicom",
        uids=(uid(rng, 2), uid(rng, 3), uid(rng, 4)),
        dicom_id=exam,
    )


def _mapping(films: list[Film]) -> list[dict[str, object]]:
    """The public file that ties every exam to an NIH image, and so to an NIH patient."""
    people = {p: i for i, p in enumerate(sorted({f.study.patient.patient_id for f in films}), 1)}
    return [
        {
            "img_id": f"{people[f.study.patient.patient_id]:08d}_{f.study.number - 1:03d}.png",
            "subset_img_id": f.image_id,
            "StudyInstanceUID": f.uids[0],
            "SeriesInstanceUID": f.uids[1],
            "SOPInstanceUID": f.uids[2],
            "orig_labels": [k for k, v in labels_of(f.study.findings).items() if v],
        }
        for f in films
    ]
