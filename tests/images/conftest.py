"""A writer of small DICOM files, odd ones included."""

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian


def _bits(ds, pixels):
    depth = 8 * pixels.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = depth, depth, depth - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")


@pytest.fixture
def write_dicom(tmp_path):
    """write_dicom(pixels, name=..., syntax=..., stream=..., preamble=..., drop=[...], **elements) -> path."""

    def write(
        pixels,
        name="x.dcm",
        *,
        syntax=ExplicitVRLittleEndian,
        stream=None,
        preamble=True,
        meta=True,
        drop=(),
        **elements,
    ):
        pixels = np.asarray(pixels)
        ds = Dataset()
        ds.Modality, ds.PatientName, ds.ViewPosition = "CR", "Nobody", "PA"
        ds.Rows, ds.Columns = pixels.shape[:2]
        ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        if pixels.ndim == 3:
            ds.PlanarConfiguration = 0
        _bits(ds, pixels)
        ds.PixelData = pixels.tobytes() if stream is None else encapsulate([stream])
        ds["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
        ds["PixelData"].is_undefined_length = stream is not None
        for element, value in elements.items():
            setattr(ds, element, value)
        for element in drop:
            delattr(ds, element)
        path = tmp_path / name
        if meta:
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = syntax
            ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
            ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
            ds.preamble = b"\0" * 128 if preamble else None
            ds.save_as(path, enforce_file_format=preamble)
        else:
            ds.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        return path

    return write
