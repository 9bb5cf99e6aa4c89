"""Zero-shot classification: an image against sentences that state or deny a finding."""

import numpy as np
import pandas as pd

from cmcgns.sources.vocabulary import COMPETITION
from cmcgns.splits.schemes import draw_5x200

# Class -> sentences that state it and sentences that deny it, in the form the reports are stored in: lower case, no
# punctuation. Kinds, grades and places are those in which radiographs are read.
PROMPTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Atelectasis": (
        (
            "mild bibasilar atelectasis",
            "left basilar atelectasis",
            "right basilar atelectasis",
            "linear atelectasis at the left lung base",
            "plate like atelectasis in the right lower lung",
            "partial collapse of the left lower lobe",
            "low lung volumes with moderate bibasilar atelectasis",
        ),
        ("no atelectasis", "there is no atelectasis or collapse", "the lungs are well expanded and clear"),
    ),
    "Cardiomegaly": (
        (
            "mild cardiomegaly",
            "moderate cardiomegaly",
            "severe cardiomegaly",
            "the heart is mildly enlarged",
            "the heart is severely enlarged",
            "the cardiac silhouette is moderately enlarged",
        ),
        ("no cardiomegaly", "the heart is normal in size", "the cardiac silhouette is not enlarged"),
    ),
    "Consolidation": (
        (
            "focal consolidation in the right lower lobe",
            "focal consolidation in the left lower lobe",
            "right upper lobe consolidation",
            "left mid lung airspace consolidation",
            "dense consolidation in the right mid lung",
            "multifocal consolidations",
        ),
        ("no consolidation", "there is no focal consolidation", "the lungs are clear without consolidation"),
    ),
    "Edema": (
        (
            "mild pulmonary edema",
            "moderate pulmonary edema",
            "severe pulmonary edema",
            "mild interstitial edema",
            "pulmonary vascular congestion with interstitial edema",
            "bilateral perihilar haze due to pulmonary edema",
        ),
        ("no pulmonary edema", "there is no edema", "no pulmonary vascular congestion or edema"),
    ),
    "Pleural Effusion": (
        (
            "small left pleural effusion",
            "small right pleural effusion",
            "moderate left pleural effusion",
            "large right pleural effusion",
            "small bilateral pleural effusions",
            "blunting of the left costophrenic angle due to an effusion",
        ),
        ("no pleural effusion", "there is no effusion", "the costophrenic angles are sharp without effusion"),
    ),
}


def prompts() -> tuple[list[str], np.ndarray]:
    """All sentences, and (sentences, classes) their weights: a class's score is the weighted sum of similarities.

    Stating sentences of a class share the weight 1, denying ones -1; columns are in the order of `COMPETITION`.
    """
    texts, weights = [], []
    for number, name in enumerate(COMPETITION):
        for sign, sentences in zip((1, -1), PROMPTS[name], strict=True):
            texts += sentences
            weights += [np.eye(len(COMPETITION))[number] * sign / len(sentences)] * len(sentences)
    return texts, np.array(weights)


def class_scores(images: np.ndarray, sentences: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(n, classes): mean similarity to a class's stating sentences minus the mean to its denying ones.

    Args:
        images: (n, D) and sentences: (m, D), of unit length.
        weights: (m, classes), of `prompts`.
    """
    return images.astype(np.float64) @ (sentences.astype(np.float64).T @ weights)


def five_classes(index: pd.DataFrame, seed: int) -> pd.DataFrame:
    """CheXpert 5x200, or 5 x the smallest class where one has fewer: rows of `index` with their class number `target`.

    Args:
        index: CheXpert's index, only images that are in the store.
        seed: of the draw (`splits.schemes.draw_5x200`).
    """
    drawn = _with_target(index, draw_5x200(index, seed))
    smallest = int(np.bincount(drawn["target"], minlength=len(COMPETITION)).min())
    return _with_target(index, draw_5x200(index, seed, smallest))


def _with_target(index: pd.DataFrame, ids: list[str]) -> pd.DataFrame:
    rows = index.set_index("image_id").loc[ids].reset_index()
    return rows.assign(target=(rows[list(COMPETITION)] == 1).to_numpy().argmax(1))
