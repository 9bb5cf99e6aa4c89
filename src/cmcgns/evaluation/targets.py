"""What a classifier is to say of an image: labels of an index table -> targets (data specification 2c to 4c)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cmcgns.errors import InputError

# In this order; a label of -1 (uncertain) counts as present for the first group and as absent for the others.
CHEXPERT = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
CHEXPERT_UNCERTAIN_IS_POSITIVE = {"Atelectasis", "Edema", "Pleural Effusion"}
COVIDX = {3: ("normal", "pneumonia", "COVID-19"), 2: ("negative", "positive")}


def targets(source: str, images: pd.DataFrame) -> tuple[str, tuple[str, ...], np.ndarray]:
    """The kind of task, the names of the classes, and the target of each image.

    Returns:
        multilabel: (n, classes) 0 or 1; binary: (n,) 0 or 1; multiclass: (n,) class numbers.
    """
    if source == "chexpert":
        columns = []
        for name in CHEXPERT:
            uncertain = 1.0 if name in CHEXPERT_UNCERTAIN_IS_POSITIVE else 0.0
            columns.append(images[name].fillna(0.0).replace(-1.0, uncertain).to_numpy())
        return "multilabel", CHEXPERT, np.stack(columns, axis=1).astype(np.int64)
    if source == "rsna":
        return "binary", ("pneumonia",), images["target"].to_numpy(np.int64)
    found = set(images["label"])
    names = next((n for n in COVIDX.values() if set(n) >= found), None)
    if names is None:
        raise InputError(
            f"unknown COVIDx classes {sorted(found)}", expected=" or ".join(map(str, COVIDX.values()))
        )
    return "multiclass", names, images["label"].map(names.index).to_numpy(np.int64)
