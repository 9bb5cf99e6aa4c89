"""Writing pixels: JPEG, PNG of several kinds, JPEG-compressed DICOM; and run-length codes of masks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

QUALITY = 95


def encode_jpeg(grey: np.ndarray, quality: int = QUALITY) -> bytes:
    """Baseline JPEG of an (H, W) uint8 image."""
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_png(grey: np.ndarray, kind: str) -> bytes:
    """PNG of an (H, W) uint8 image; `kind` is grey, rgb, rgba or grey16 (12 bits in 16, not starting at zero)."""
    if kind == "grey16":
        image = Image.fromarray((grey.astype(np.uint16) * 15 + 200).astype(np.uint16))
    else:
        image = Image.fromarray(grey).convert({"grey": "L", "rgb": "RGB", "rgba": "RGBA"}[kind])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def enlarge(grey: np.ndarray, size: int) -> np.ndarray:
    """(H, W) uint8 -> (size, size), smoothly."""
    return np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC))


def enlarge_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """(H, W) bool -> (size, size) by the nearest pixel."""
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def encode_dicom(grey: np.ndarray, uids: tuple[str, str, str], patient: dict[str, str]) -> bytes:
    """A CR file with one baseline-JPEG frame (1.2.840.10008.1.2.4.50), as RSNA and SIIM publish (spec/data.md 3a).

    Args:
        uids: study, series and SOP instance.
        patient: PatientID, PatientSex, PatientAge, ViewPosition.
    """
    from pydicom.config import disable_value_validation  # RSNA's and SIIM's ages are not valid DICOM

    with disable_value_validation():
        data = _dataset(grey, uids, patient)
        buffer = io.BytesIO()
        data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _dataset(grey: np.ndarray, uids: tuple[str, str, str], patient: dict[str, str]) -> Dataset:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    storage = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture, as in the published files
    data = Dataset()
    data.SOPClassUID, data.Modality, data.ConversionType = storage, "CR", "WSD"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID = uids
    data.PatientName = data.PatientID = patient["PatientID"]
    data.PatientSex, data.PatientAge = patient["PatientSex"], patient["PatientAge"]
    data.BodyPartExamined, data.ViewPosition = "CHEST", patient["ViewPosition"]
    data.Rows, data.Columns = grey.shape
    data.PixelSpacing = ["0.143", "0.143"]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.LossyImageCompression, data.LossyImageCompressionMethod = "01", "ISO_10918_1"
    data.PixelData = encapsulate([encode_jpeg(grey, 90)])
    data["PixelData"].is_undefined_length = True
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID, data.file_meta.MediaStorageSOPInstanceUID = storage, uids[2]
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data.file_meta.ImplementationClassUID = "1.2.276.0.7230010.3.0.3.5.4"
    return data


def encode_rle(mask: np.ndarray) -> str:
    """SIIM's relative run-length code, `gap length gap length ...`, column by column (spec/data.md 5a)."""
    flat = np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat))  # start, end, start, end, ...
    return " ".join(map(str, np.diff(np.concatenate([[0], edges]))))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, its folders too. Not atomic: the manifest, written last, says that the world is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
