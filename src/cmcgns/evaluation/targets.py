"""What a classifier is to say of an image: labels of an index table -> targets (data specification 2c to 4c)."""

import numpy as np
import pandas as pd

from cmcgns.errors import InputError
from cmcgns.sources.vocabulary import COMPETITION, COVIDX_CLASSES, competition_labels


def targets(source: str, images: pd.DataFrame) -> tuple[str, tuple[str, ...], np.ndarray]:
    """The kind of task, the names of the classes, and the target of each image.

    Returns:
        multilabel: (n, classes) 0 or 1; binary: (n,) 0 or 1; multiclass: (n,) class numbers.
    """
    if source == "chexpert":
        return "multilabel", COMPETITION, competition_labels(images).to_numpy(np.int64)
    if source == "rsna":
        return "binary", ("pneumonia",), images["target"].to_numpy(np.int64)
    found = set(images["label"])
    names = next((n for n in COVIDX_CLASSES.values() if set(n) >= found), None)
    if names is None:
        raise InputError(
            f"unknown COVIDx classes {sorted(found)}", expected=" or ".join(map(str, COVIDX_CLASSES.values()))
        )
    return "multiclass", names, images["label"].map(names.index).to_numpy(np.int64)
