"""Sentences with the regions they speak of: from the synthetic world's truth, or from MS-CXR."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cmcgns.parquet import read_parquet
from cmcgns.randomness import hash_order
from cmcgns.reports.sentences import split_sentences
from cmcgns.sources import ms_cxr

COLUMNS = ["image_id", "label", "phrase", "boxes"]
# How reports name what a figure should show; used where nobody has drawn boxes.
_WORDS = {
    "Pleural Effusion": "effusion",
    "Cardiomegaly": "cardiomegaly",
    "Consolidation": "consolidation",
    "Atelectasis": "atelectasis",
    "Edema": "edema",
    "Pneumothorax": "pneumothorax",
    "Pneumonia": "pneumonia",
    "Lung Opacity": "opacity",
}
_DENIALS = {"no", "not", "without", "resolved", "clear", "free", "absence", "negative", "evaluate", "rule"}


def synthetic_phrases(findings: Path, sentences: Path, images: Path) -> pd.DataFrame:
    """The synthetic world's findings that a sentence states, alone and without doubt; one row a finding and image.

    Args:
        findings, sentences, images: the tables of a synthetic world's truth.

    Returns:
        `COLUMNS`; of several sentences the first; `boxes` are all places of the finding (both lungs, say).
    """
    said = read_parquet(sentences)
    alone = said.groupby(["source", "study_id", "order"])["label"].transform("size") == 1
    said = said[(said["source"] == "mimic_cxr") & (said["state"] == "positive") & alone]
    said = said[said["findings"].map(len) == 1].sort_values("order")
    said = said.assign(finding=said["findings"].map(lambda numbers: int(numbers[0])))
    said = said.drop_duplicates(["study_id", "finding"])
    study = read_parquet(images, columns=["source", "image_id", "study_id"])
    found = read_parquet(findings).dropna(subset=["x1"])
    found = found[found["source"] == "mimic_cxr"].merge(study, on=["source", "image_id"])
    found["boxes"] = found[["x1", "y1", "x2", "y2"]].to_numpy().tolist()
    boxes = found.groupby(["image_id", "study_id", "finding", "label"], sort=False)["boxes"].agg(list)
    phrases = boxes.reset_index().merge(said[["study_id", "finding", "label", "sentence"]])
    return _tidy(phrases.rename(columns={"sentence": "phrase"}))


def load_phrases(files: Mapping[str, Path]) -> pd.DataFrame:
    """Phrases with boxes of the synthetic world whose `sentences` are given, else of MS-CXR where it lies in `raw`, else none."""
    if "sentences" in files:
        return synthetic_phrases(files["findings"], files["sentences"], files["images"])
    root = ms_cxr.find(files["raw"]) if "raw" in files else None
    return pd.DataFrame(columns=COLUMNS) if root is None else _tidy(ms_cxr.read(root))


def said_phrases(reports: Path, index: pd.DataFrame) -> pd.DataFrame:
    """Sentences of the reports that state a finding, without boxes: what a figure shows of data nobody has marked.

    Args:
        reports: the table of `reports extract`.
        index: images with their `study_id`.

    Returns:
        `COLUMNS`; a report's first sentence with the finding's name and without a denial, one row a label and image.
    """
    table = read_parquet(reports, columns=["study_id", "sentences", "kept"])
    rows = [
        (study, label, sentence)
        for study, sentences in table.loc[table["kept"], ["study_id", "sentences"]].itertuples(index=False)
        for label, word in _WORDS.items()
        for sentence in sentences
        if word in (tokens := sentence.split()) and not _DENIALS & set(tokens)
    ]
    said = pd.DataFrame(rows, columns=["study_id", "label", "phrase"]).drop_duplicates(["study_id", "label"])
    found = index[["image_id", "study_id"]].merge(said, on="study_id")
    found["boxes"] = [[] for _ in range(len(found))]
    return _tidy(found)


def choose(phrases: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """`count` phrases for a figure, of different images and, while there are enough, different labels; from `seed` alone."""
    keys = phrases["image_id"] + "\n" + phrases["label"] + "\n" + phrases["phrase"]
    shuffled = phrases.iloc[hash_order(keys, seed, "figure").argsort()]
    rank = shuffled.groupby("label").cumcount()  # the first of every label, then the second, ...
    return shuffled.iloc[rank.argsort(kind="stable")].drop_duplicates("image_id").head(count)


def _tidy(phrases: pd.DataFrame) -> pd.DataFrame:
    """Phrases as the stored reports write sentences (de-identification marks say nothing), sorted.

    Two findings of an image with the same sentence become one phrase with the boxes of both.
    """
    text = phrases["phrase"].map(lambda phrase: " ".join(split_sentences(phrase, min_tokens=1, deid="drop")))
    phrases = phrases.assign(phrase=text)[text != ""]
    joined = phrases.groupby(COLUMNS[:3])["boxes"].agg(
        lambda lists: [box for boxes in lists for box in boxes]
    )
    return joined.reset_index()
