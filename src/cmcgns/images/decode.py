"""Image files to pixels: JPEG and PNG by Pillow, DICOM by pydicom; the content tells which, not the name."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, ImageOps

from cmcgns.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

_PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF")
_ENCAPSULATED = b"\xfe\xff\x00\xe0"
# Only these are parsed, so that a broken element elsewhere in the header cannot spoil a good image.
_TAGS = [
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "NumberOfFrames", "RescaleSlope", "PixelData"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
]


def read_bytes(path: str | Path) -> bytes:
    """The file's bytes, or `InputError` when it is missing, empty or not readable."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError("the image file does not exist", file=path) from None
    except OSError as error:
        raise InputError(f"the image file cannot be read ({error.strerror})", file=path) from None
    if not data:
        raise InputError("the image file is empty", file=path)
    return data


def read_grey8(path: str | Path, data: bytes | None = None) -> np.ndarray:
    """The image in grey as it is meant to be seen: 0 is black.

    * DICOM, 8 bits stored: kept as it is. Any other depth: (x - min) / (max - min) * 255, a constant image
      gives 0. No window is applied (spec data.md 3a: none needed). A rescale with a positive slope changes
      neither; MONOCHROME1 or a negative slope inverts, both together do not.
    * PNG and TIFF with 16 bits: x / 257, the full range, as 8-bit readers show them - unless no value is
      above 255.
    * Colour: ITU-R 601 luminance. Transparent parts are black. EXIF orientation is applied, as viewers and
      the official code's reader do.

    Args:
        path: the file; only its name is used when `data` holds its bytes.

    Returns:
        (H, W) uint8.

    Raises:
        InputError: with the file and the reason, for anything that is not one complete image.
    """
    data = read_bytes(path) if data is None else data
    try:
        # Decoders warn about every oddity they cope with; 300,000 files would bury the log.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _is_dicom(data):
                return _dicom_grey8(_open_dicom(data))
            with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
                # An MPO is a JPEG that holds its own preview as well.
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    raise InputError(f"the file holds {image.n_frames} frames", expected="one image")
                image.load()
                return _pillow_grey8(image)
    except InputError as error:
        raise InputError(error.problem, file=path, expected=error.expected) from None
    except MemoryError:
        raise  # the machine's fault: must not put a good image into quarantine
    except Image.UnidentifiedImageError:
        raise InputError("the file is neither JPEG, PNG nor DICOM", file=path) from None
    except Exception as error:  # decoders are many, and each has its own exceptions
        raise InputError(f"the image cannot be decoded ({_short(error)})", file=path) from None


def read_view(path: str | Path, data: bytes | None = None) -> str:
    """The DICOM ViewPosition in capitals (`PA`, `AP`, ...), `""` when there is none; reads no pixels.

    A file that is no DICOM has none. Arguments as for `read_grey8`; `InputError` when the file or its header
    cannot be read.
    """
    try:
        with io.BytesIO(data) if data is not None else Path(path).open("rb") as stream:
            return _view(stream)
    except FileNotFoundError:
        raise InputError("the image file does not exist", file=path) from None
    except Exception as error:
        raise InputError(f"the DICOM header cannot be read ({_short(error)})", file=path) from None


def _view(stream: BinaryIO) -> str:
    from pydicom import dcmread

    if not _is_dicom(stream.read(132)):
        return ""
    stream.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = dcmread(stream, stop_before_pixels=True, force=True, specific_tags=["ViewPosition"])
        return str(header.get("ViewPosition") or "").strip().upper()


def _short(error: Exception) -> str:
    """The last line of an exception's text: where pydicom puts the decoder's own words."""
    lines = str(error).strip().splitlines()
    return (lines[-1].strip() if lines else type(error).__name__)[:200]


# ---- DICOM ----


def _is_dicom(head: bytes) -> bool:
    """With the preamble, or without it: then the file begins with an element of group 2 or 8."""
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")


def _open_dicom(data: bytes) -> Dataset:
    """Parse the header and fill in what odd files leave out."""
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    ds = pydicom.dcmread(io.BytesIO(data), force=True, specific_tags=_TAGS)
    if "PixelData" not in ds or not ds.PixelData:
        raise InputError("the DICOM file holds no pixel data")
    if int(ds.get("NumberOfFrames") or 1) > 1:
        raise InputError(f"the file holds {ds.NumberOfFrames} frames", expected="one image")
    ds.NumberOfFrames = 1
    ds.SamplesPerPixel = ds.get("SamplesPerPixel") or 1
    default = "MONOCHROME2" if ds.SamplesPerPixel == 1 else "RGB"
    ds.PhotometricInterpretation = str(ds.get("PhotometricInterpretation") or default).strip().upper()
    ds.PixelRepresentation = ds.get("PixelRepresentation") or 0
    ds.BitsStored = ds.get("BitsStored") or ds.get("BitsAllocated")
    if ds.SamplesPerPixel > 1 and ds.get("PlanarConfiguration") is None:
        ds.PlanarConfiguration = 0
    if "TransferSyntaxUID" not in ds.file_meta:
        if ds.PixelData[:4] == _ENCAPSULATED:
            raise InputError("the DICOM file holds compressed pixels but no transfer syntax")
        implicit, little = ds.original_encoding
        uncompressed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        ds.file_meta.TransferSyntaxUID = uncompressed if little else ExplicitVRBigEndian
    return ds


def _dicom_pixels(ds: Dataset) -> np.ndarray:
    """Decode the only frame: (H, W) or (H, W, 3) in native byte order."""
    from pydicom.pixels import pixel_array
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    syntax = ds.file_meta.TransferSyntaxUID
    plugin = ""  # pydicom itself
    if syntax.is_compressed and syntax.is_encapsulated and syntax != RLELossless:
        _refuse_truncated(ds)
        # One named decoder, so that pixels do not depend on what else is installed. libjpeg-turbo for
        # baseline: faster, and it refuses damaged data that pylibjpeg decodes to rubbish.
        plugin = "pillow" if syntax == JPEGBaseline8Bit else "pylibjpeg"
    pixels = pixel_array(ds, index=0, decoding_plugin=plugin)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _refuse_truncated(ds: Dataset) -> None:
    """Refuse a JPEG-family stream without its end-of-image marker: decoders may fill the rest in silence."""
    from pydicom.encaps import get_frame

    if not get_frame(ds.PixelData, 0, number_of_frames=1).rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise InputError("the compressed pixel data are cut off (no end-of-image marker)")


def _dicom_grey8(ds: Dataset) -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    pixels = _dicom_pixels(ds)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, ds)
        ds.BitsStored = 8 * pixels.dtype.itemsize
    if pixels.ndim == 3:
        pixels = np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(pixels.dtype)
    invert = (ds.PhotometricInterpretation == "MONOCHROME1") != (float(ds.get("RescaleSlope") or 1) < 0)
    if ds.BitsStored == 8 and ds.PixelRepresentation == 0:
        grey = pixels.astype(np.uint8)
        return 255 - grey if invert else grey
    return _stretch(pixels, invert)


def _stretch(pixels: np.ndarray, invert: bool = False) -> np.ndarray:
    """Map [min, max] to [0, 255], or to [255, 0]; a constant image gives zeros."""
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(high - low):
        raise InputError("the image holds values that are not finite")
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    grey = (pixels.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(255 - grey if invert else grey).astype(np.uint8)


# ---- JPEG, PNG and the like ----


def _pillow_grey8(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        return _deep_grey8(np.array(image))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image.convert("RGBA"))
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return np.array(image.convert("L"))


def _deep_grey8(pixels: np.ndarray) -> np.ndarray:
    """16 bits by their full range, so that equal values stay equal across files; others stretched."""
    low, high = pixels.min(), pixels.max()
    if low >= 0 and high <= 255:
        return np.rint(pixels).astype(np.uint8)
    if low >= 0 and high <= 65535 and np.issubdtype(pixels.dtype, np.integer):
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _stretch(pixels)
