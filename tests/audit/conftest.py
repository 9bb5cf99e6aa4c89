"""A small folder of the six label files in their published layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmcgns.sources.vocabulary import CHEXPERT_LABELS


def write_world(folder: Path, seed: int = 0) -> Path:
    """Write label files whose faults are only those that the schemes themselves make; returns the map of RSNA."""
    rng = np.random.default_rng(seed)

    def put(name: str, table: pd.DataFrame | list[str]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(table, list):
            path.write_text("\n".join(table) + "\n")
        else:
            table.to_csv(path, index=False)

    exams = [f"exam-{i:03d}" for i in rng.permutation(240)]
    boxes = rng.integers(0, 3, len(exams)) * (rng.random(len(exams)) < 0.4)
    rows = [
        (exam, *((10.0, 20.0, 30.0, 40.0, 1) if n else ("", "", "", "", 0)))
        for exam, n in zip(exams, boxes, strict=True)
        for _ in range(max(1, n))
    ]
    names = np.where(boxes > 0, "Lung Opacity", "Normal")
    put(
        "rsna/stage_2_train_labels.csv",
        pd.DataFrame(rows, columns=["patientId", "x", "y", "width", "height", "Target"]),
    )
    put("rsna/stage_2_detailed_class_info.csv", pd.DataFrame({"patientId": exams, "class": names}))
    groups = folder / "map.csv"
    pd.DataFrame({"image": exams, "group": [f"nih{p}" for p in rng.integers(0, 120, len(exams))]}).to_csv(
        groups, index=False
    )
    classes = ["normal", "pneumonia", "COVID-19"]
    lines = [f"{e} {e}.png {classes[i % 2]} rsna" for i, e in enumerate(exams[:150])]
    lines += [f"S{rng.integers(0, 30)} s{i}.png COVID-19 stonybrook" for i in range(150)]
    put("covidx/train_COVIDx9A.txt", [lines[i] for i in rng.permutation(300)])
    tests = [f"{e} {e}.png {classes[i % 2]} rsna" for i, e in enumerate(exams[150:180])]
    put("covidx/test_COVIDx9A.txt", tests + [f"R{i} r{i}.png COVID-19 ricord" for i in range(30)])
    masks = rng.integers(1, 4, 250) * (rng.random(250) < 0.4)
    siim = [
        (f"1.2.{i}", f" {1000 * (j + 1)} 5" if n else " -1")
        for i, n in enumerate(masks)
        for j in range(max(1, n))
    ]
    put(
        "siim/train-rle.csv",
        pd.DataFrame(siim, columns=["ImageId", " EncodedPixels"]).sample(frac=1, random_state=seed),
    )
    for name, first, count in (("train", 1, 200), ("dev", 8001, 40)):
        table = pd.DataFrame({"image_name": [f"{first + i:05d}.jpg" for i in range(count)]})
        put(f"object-CXR/{name}.csv", table.assign(annotation=["0 10 10 50 50", ""] * (count // 2)))
    for name, first, count in (("train", 0, 600), ("valid", 500, 40)):
        patient = first + rng.integers(0, count // 3, count)
        frontal = rng.random(count) < (0.8 if name == "train" else 2)
        table = pd.DataFrame(
            {
                "Path": [
                    f"CheXpert-v1.0/{name}/patient{p:05d}/study1/view{i}.jpg" for i, p in enumerate(patient)
                ],
                "Sex": "Male",
                "Age": 50,
                "Frontal/Lateral": np.where(frontal, "Frontal", "Lateral"),
                "AP/PA": np.where(frontal, rng.choice(["AP", "PA"], count), ""),
            }
        )
        for label in CHEXPERT_LABELS:
            table[label] = rng.choice(["1.0", "0.0", "-1.0", ""], count, p=[0.15, 0.1, 0.05, 0.7])
        put(f"chexpert/{name}.csv", table)
    subject = rng.integers(0, 100, 300)
    ids = {
        "dicom_id": [f"{i:08x}-aaaaaaaa-bbbbbbbb-cccccccc-dddddddd" for i in rng.permutation(300)],
        "study_id": 50_000_000 + np.arange(300),
        "subject_id": 10_000_000 + subject,
    }
    split = np.select([subject < 80, subject < 90], ["train", "validate"], "test")
    put("mimic/mimic-cxr-2.0.0-split.csv", pd.DataFrame(ids | {"split": split}))
    put(
        "mimic/mimic-cxr-2.0.0-metadata.csv.gz",
        pd.DataFrame(ids | {"ViewPosition": rng.choice(["AP", "PA", "LATERAL", ""], 300)}),
    )
    return groups


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """(folder, map of RSNA)."""
    folder = tmp_path_factory.mktemp("world")
    return folder, write_world(folder)


@pytest.fixture
def make_world():
    """`write_world`."""
    return write_world
