"""What the published label files contain, version by version (data.md sections 1 to 6), and how to recognise them."""

import pandas as pd

PUBLISHED: dict[str, dict[str, dict[str, int]]] = {
    "mimic_cxr": {
        "2.0.0": {
            "images": 377_110,
            "frontal": 243_334,
            "studies": 227_835,
            "subjects": 65_379,
            "train": 368_960,
            "validate": 2_991,
            "test": 5_159,
        }
    },
    "chexpert": {
        "v1.0": {
            "images": 223_648,
            "frontal": 191_229,
            "train": 223_414,
            "train frontal": 191_027,
            "train patients": 64_540,
            "valid": 234,
            "valid frontal": 202,
            "valid patients": 200,
        }
    },
    "rsna": {
        "stage 2": {
            "images": 26_684,
            "rows": 30_227,
            "boxes": 9_555,
            "Lung Opacity": 6_012,
            "No Lung Opacity / Not Normal": 11_821,
            "Normal": 8_851,
        }
    },
    "covidx": {
        "9A": {
            "images": 30_530,
            "train": 30_130,
            "train patients": 16_424,
            "train COVID-19": 16_490,
            "train normal": 8_085,
            "train pneumonia": 5_555,
            "test": 400,
            "test patients": 378,
            "test COVID-19": 200,
            "test normal": 100,
            "test pneumonia": 100,
        },
        "9B": {
            "images": 30_882,
            "train": 30_482,
            "train patients": 16_648,
            "train positive": 16_490,
            "train negative": 13_992,
            "test": 400,
            "test positive": 200,
            "test negative": 200,
        },
    },
    "siim": {
        "stage 1": {"images": 10_675, "rows": 11_582, "positive": 2_379},
        "stage 2 (merged copy)": {"images": 12_047, "rows": 12_954, "positive": 2_669},
    },
    "object_cxr": {
        "MIDL 2020": {
            "images": 9_000,
            "train": 8_000,
            "train positive": 4_000,
            "train objects": 8_223,
            "dev": 1_000,
            "dev positive": 500,
            "dev objects": 1_015,
        }
    },
}

# relative; the sum of MIMIC's AP and PA films comes from a run log, all other numbers were counted in the files
TOLERANCE = {"mimic_cxr": 0.001}

SHA256 = {
    "stage_2_train_labels.csv": "bb40b7e956e9922a6b275ed4a158197568cf9ab618017d53db6159b1b624bb65",
    "stage_2_detailed_class_info.csv": "c004c12dea2042cc23e3b848f65e8cb2e725799afaa90f13ee81f854bcc9614d",
}


def count(name: str, index: pd.DataFrame) -> dict[str, int]:
    """What an index table holds: images, frontal ones, each published split, and the source's own numbers."""
    counts = {
        "images": len(index),
        "frontal": int(index["frontal"].sum()),
        "groups": index["group_id"].nunique(),
    }
    parts = {split: part for split, part in index.groupby("official_split", sort=False) if split}
    counts |= {split: len(part) for split, part in parts.items()}
    return counts | {key: int(value) for key, value in _OWN[name](index, parts).items()}


def identify(name: str, counts: dict[str, int]) -> tuple[str | None, dict[str, int]]:
    """The published version that `counts` fit, or None, and the expected counts of it or of the nearest one."""
    tolerance = TOLERANCE.get(name, 0.0)

    def differences(expected: dict[str, int]) -> dict[str, int]:
        return {k: counts.get(k, 0) for k, n in expected.items() if abs(counts.get(k, 0) - n) > tolerance * n}

    versions = PUBLISHED[name]

    def distance(version: str) -> tuple[int, int, int]:
        expected = versions[version]
        strange = sum(key not in counts for key in expected)  # classes of another version
        return strange, len(differences(expected)), abs(expected["images"] - counts["images"])

    nearest = min(versions, key=distance)
    return (None if differences(versions[nearest]) else nearest), versions[nearest]


def _mimic(index: pd.DataFrame, parts: dict) -> dict:
    return {"studies": index["study_id"].nunique(), "subjects": index["subject_id"].nunique()}


def _chexpert(index: pd.DataFrame, parts: dict) -> dict:
    frontal = {f"{split} frontal": part["frontal"].sum() for split, part in parts.items()}
    return frontal | {f"{split} patients": part["group_id"].nunique() for split, part in parts.items()}


def _rsna(index: pd.DataFrame, parts: dict) -> dict:
    boxes = index["boxes"].map(len)
    return {"rows": boxes.clip(lower=1).sum(), "boxes": boxes.sum(), **index["finding"].value_counts()}


def _covidx(index: pd.DataFrame, parts: dict) -> dict:
    patients = {f"{split} patients": part["patient_id"].nunique() for split, part in parts.items()}
    classes = index.groupby(["official_split", "label"]).size()
    return patients | {f"{split} {label}": n for (split, label), n in classes.items()}


def _siim(index: pd.DataFrame, parts: dict) -> dict:
    return {"rows": index["rle"].map(len).clip(lower=1).sum(), "positive": index["positive"].sum()}


def _object_cxr(index: pd.DataFrame, parts: dict) -> dict:
    shapes = {split: part["shapes"].map(len) for split, part in parts.items()}
    positive = {f"{split} positive": (n > 0).sum() for split, n in shapes.items()}
    return positive | {f"{split} objects": n.sum() for split, n in shapes.items()}


_OWN = {
    "mimic_cxr": _mimic,
    "chexpert": _chexpert,
    "rsna": _rsna,
    "covidx": _covidx,
    "siim": _siim,
    "object_cxr": _object_cxr,
}
