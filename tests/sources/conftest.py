"""Tiny hand-written downloads, one per source."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
    "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices\n"
)
DICOM = "{}aaaaaaa-bbbbbbbb-cccccccc-dddddddd-eeeeeeee"


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file below `tmp_path`; text is UTF-8 with its line ends as given, `.gz` is compressed."""

    def write(name: str, content: str | bytes = b"") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


@pytest.fixture
def downloads(tmp_path: Path, put: Callable[[str, str | bytes], Path]) -> Path:
    """All six sources, small and complete, with an empty file for every image that is needed."""
    one, two, three = (DICOM.format(i) for i in (1, 2, 3))
    put(
        "mimic-cxr-jpg/2.0.0/mimic-cxr-2.0.0-metadata.csv.gz",
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows\n"
        f'{one},10000032,50414267,"CHEST (PA, LAT)",PA,3056\n'
        f"{two},10000032,50414267,NA,LATERAL,3056\n"
        f"{three},11000011,51000001,,AP,2544\n",
    )
    put(
        "mimic-cxr-jpg/2.0.0/mimic-cxr-2.0.0-split.csv.gz",
        f"dicom_id,study_id,subject_id,split\n{three},51000001,11000011,test\n"
        f"{two},50414267,10000032,train\n{one},50414267,10000032,train\n",
    )
    put(f"mimic-cxr-jpg/2.0.0/files/p10/p10000032/s50414267/{one}.jpg")
    put(f"mimic-cxr-jpg/2.0.0/files/p11/p11000011/s51000001/{three}.jpg")
    put("mimic-reports/files/p10/p10000032/s50414267.txt", " FINAL REPORT\n")
    blank = "," * 13
    put(
        "CheXpert-v1.0/train.csv",
        CHEXPERT_HEADER
        + f"CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0{blank}\n"
        + f"CheXpert-v1.0/train/patient00002/study1/view1_lateral.jpg,Male,9,Lateral,,{blank}\n",
    )
    put(
        "CheXpert-v1.0/valid.csv",
        CHEXPERT_HEADER
        + f"CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,PA,0.0{blank}\n",
    )
    put("CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg")
    put("CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg")
    put(
        "rsna/stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target\nexam-a,,,,,0\nexam-b,264.0,152.0,213.0,379.0,1\n",
    )
    put("rsna/stage_2_detailed_class_info.csv", "patientId,class\nexam-b,Lung Opacity\nexam-a,Normal\n")
    for name in ("train_images/exam-a", "train_images/exam-b", "test_images/exam-z"):
        put(f"rsna/stage_2_{name}.dcm")
    put("covidx/train_COVIDx9A.txt", "exam-a exam-a.png normal rsna\nS1 s1.png COVID-19 stonybrook\n")
    put("covidx/test_COVIDx9A.txt", "R1 r1.JPG COVID-19 ricord\n")
    for name in ("train/exam-a.png", "train/s1.png", "test/r1.JPG"):
        put(f"covidx/{name}")
    put("siim/train-rle.csv", "ImageId, EncodedPixels\n1.2.3, -1\n1.2.4, 5 2 3 1\n")
    put("siim/dicom-images-train/1.1/1.1.1/1.2.3.dcm")
    put("siim/dicom-images-train/2.1/2.1.1/1.2.4.dcm")
    put("object-CXR/train.csv", "image_name,annotation\n00001.jpg,0 1 2 30 40\n00002.jpg,\n")
    put("object-CXR/dev.csv", "image_name,annotation\n08001.jpg,\n")
    for name in ("train/00001.jpg", "train/00002.jpg", "dev/08001.jpg"):
        put(f"object-CXR/{name}")
    return tmp_path
