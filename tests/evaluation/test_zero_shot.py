"""Zero-shot classification: the prompts, the score, and the five-way draw."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cmcgns.evaluation.zero_shot import PROMPTS, class_scores, five_classes, prompts
from cmcgns.reports.sentences import split_sentences
from cmcgns.sources.vocabulary import CHEXPERT_LABELS, COMPETITION


def test_prompts_are_written_as_the_reports_are_stored():
    for stating, denying in PROMPTS.values():
        assert all(split_sentences(text) == [text] for text in (*stating, *denying))
        assert not any({"no", "not", "without"} & set(text.split()) for text in stating)
    assert tuple(PROMPTS) == COMPETITION
    texts = prompts()[0]
    assert len(texts) == len(set(texts))


def test_the_score_is_the_mean_of_stating_minus_the_mean_of_denying_sentences():
    texts, weights = prompts()
    rng = np.random.default_rng(1)
    images, sentences = rng.normal(size=(3, 6)), rng.normal(size=(len(texts), 6))
    at = dict(zip(texts, sentences, strict=True))
    scores = class_scores(images, sentences, weights)
    for i, image in enumerate(images):
        for c, name in enumerate(COMPETITION):
            stating, denying = ([image @ at[text] for text in group] for group in PROMPTS[name])
            assert scores[i, c] == pytest.approx(np.mean(stating) - np.mean(denying))


def label_rows(counts: dict[str, int]) -> pd.DataFrame:
    rows = [
        dict.fromkeys(CHEXPERT_LABELS, np.nan) | {name: 1.0} for name, n in counts.items() for _ in range(n)
    ]
    rows.append(dict.fromkeys(CHEXPERT_LABELS, np.nan) | {"Edema": 1.0, "Cardiomegaly": 1.0})
    rows.append(dict.fromkeys(CHEXPERT_LABELS, np.nan) | {"Edema": 1.0, "Pneumonia": -1.0})
    frame = pd.DataFrame(rows).assign(frontal=True, official_split="train")
    return frame.assign(image_id=[f"i{n}" for n in range(len(frame))])


def test_five_classes_are_as_many_as_the_rarest_has_and_only_of_images_with_one_finding():
    index = label_rows(dict(zip(COMPETITION, (7, 4, 9, 3, 250), strict=True)))
    drawn = five_classes(index, seed=2)
    assert np.bincount(drawn["target"]).tolist() == [3] * 5
    for row in drawn.itertuples():
        alone = index.set_index("image_id").loc[row.image_id, list(CHEXPERT_LABELS)].fillna(0)
        assert alone[COMPETITION[row.target]] == 1 and alone.abs().sum() == 1
    assert set(five_classes(index, seed=3)["image_id"]) != set(drawn["image_id"])


def test_a_class_without_an_image_leaves_none():
    assert five_classes(label_rows(dict.fromkeys(COMPETITION[:3], 4)), seed=0).empty
