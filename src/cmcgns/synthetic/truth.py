"""The tables that say what is true, for measuring grounding and leakage."""

import pandas as pd

from cmcgns.synthetic.films import Shot
from cmcgns.synthetic.layouts.plan import Plan
from cmcgns.synthetic.world import labels_of

IDS = ("source", "image_id", "film_id")


def images_table(plans: list[Plan], shots: dict[str, list[Shot]]) -> pd.DataFrame:
    """One row per image: its file, the true patient, study and exposure, the view as drawn, and the 14 true labels."""
    rows = []
    for plan in plans:
        for film, shot in zip(plan.films, shots[plan.source], strict=True):
            rows.append(
                {
                    **{name: getattr(film, name) for name in IDS},
                    "path": film.path,
                    "patient_id": film.study.patient.patient_id,
                    "study_id": film.study.study_id,
                    "view": film.view,
                    "style": film.style,
                    "height": shot.height,
                    "width": shot.width,
                    "exists": True,
                    "objects": len(shot.objects),
                    **labels_of(film.study.findings),
                }
            )
    return pd.DataFrame(rows)


def findings_table(plans: list[Plan], shots: dict[str, list[Shot]]) -> pd.DataFrame:
    """One row per finding and place on a frontal film.

    Columns: ids, `finding` (position in the study), label, side (as reported), zone, severity 1..3, kind, `part` (the
    side of this box), x1, y1, x2, y2 relative to the film (NaN when nothing is to be seen), and `sentences`: all report
    sentences that state or doubt it.
    """
    rows = []
    for plan in plans:
        for film, shot in zip(plan.films, shots[plan.source], strict=True):
            said = plan.sentences.get(film.study.study_id, [])
            if film.view == "LATERAL":
                continue
            for number, finding in enumerate(film.study.findings):
                sentences = [s.sentence for s in said if number in s.findings]
                nothing = (finding.side, *[float("nan")] * 4)
                for part, x1, y1, x2, y2 in shot.boxes[number] or [nothing]:
                    rows.append(
                        {
                            **{name: getattr(film, name) for name in IDS},
                            "patient_id": film.study.patient.patient_id,
                            "finding": number,
                            "label": finding.label,
                            "side": finding.side,
                            "zone": finding.zone,
                            "severity": finding.severity,
                            "kind": finding.kind,
                            "part": part,
                            "x1": x1,
                            "y1": y1,
                            "x2": x2,
                            "y2": y2,
                            "sentences": sentences,
                        }
                    )
    return pd.DataFrame(rows)


def sentences_table(plans: list[Plan]) -> pd.DataFrame:
    """One row per sentence and label: study, section, state (positive, uncertain, negative, none), label, findings."""
    rows = [
        {
            "source": plan.source,
            "study_id": study,
            "order": order,
            "section": said.section,
            "state": said.state,
            "label": label,
            "findings": list(said.findings),
            "sentence": said.sentence,
        }
        for plan in plans
        for study, statements in plan.sentences.items()
        for order, said in enumerate(statements)
        for label in said.labels or ("",)
    ]
    return pd.DataFrame(rows)
