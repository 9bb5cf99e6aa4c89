"""The words of the published label files, which a reader and its table's schema share."""

import pandas as pd

# in the order of the CSV files
CHEXPERT_LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
COMPETITION = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
UNCERTAIN_IS_POSITIVE = (
    "Atelectasis",
    "Edema",
    "Pleural Effusion",
)  # a label of -1; of the others it is absent
RSNA_FINDINGS = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")
COVIDX_CLASSES = {"9A": ("normal", "pneumonia", "COVID-19"), "9B": ("negative", "positive")}


def competition_labels(table: pd.DataFrame) -> pd.DataFrame:
    """(n, 5) bool, whether each label of CheXpert's competition counts as present (data specification 2c)."""
    present = {name: [1.0, -1.0] if name in UNCERTAIN_IS_POSITIVE else [1.0] for name in COMPETITION}
    return pd.DataFrame({name: table[name].isin(values) for name, values in present.items()})
