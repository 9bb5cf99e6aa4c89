"""The words every part of the synthetic world shares: labels, sides, zones."""

from typing import Literal

from cmcgns.sources.vocabulary import CHEXPERT_LABELS

Side = Literal["left", "right", "bilateral", "central"]
Zone = Literal["apex", "upper", "mid", "lower", "base", "whole"]

LABELS = CHEXPERT_LABELS

# What CheXpert's label hierarchy makes true when the key is true.
PARENTS = {
    "Cardiomegaly": ("Enlarged Cardiomediastinum",),
    "Lung Lesion": ("Lung Opacity",),
    "Edema": ("Lung Opacity",),
    "Consolidation": ("Lung Opacity",),
    "Pneumonia": ("Consolidation", "Lung Opacity"),
    "Atelectasis": ("Lung Opacity",),
}

# Height of a zone's centre in its lung: 0 is the apex, 1 the diaphragm.
ZONE_HEIGHT: dict[Zone, float] = {
    "apex": 0.10,
    "upper": 0.28,
    "mid": 0.50,
    "lower": 0.74,
    "base": 0.92,
    "whole": 0.5,
}
