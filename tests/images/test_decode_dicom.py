"""DICOM files, odd ones included: values as stored, grey as displayed, failures as one clear error."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from cmcgns.errors import InputError
from cmcgns.images import decode
from cmcgns.images.decode import read_grey8, read_view

# small files that come with pydicom: one image in many transfer syntaxes
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
RAMP8 = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RAMP16 = np.array([[100, 200], [300, 1120]], np.uint16)
# (x - 100) / 1020 * 255 = 0, 25, 50, 255
RAMP16_GREY = [[0, 25], [50, 255]]


def read_pixels(path):
    """The values as they are stored, before they are made grey."""
    return decode._dicom_pixels(decode._open_dicom(Path(path).read_bytes()))


def jpeg(grey):
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def smooth(height=32, width=40):
    return (np.add.outer(np.arange(height), np.arange(width)) * 3).astype(np.uint8)


def test_eight_bits_are_kept_as_they_are(write_dicom):
    path = write_dicom(RAMP8, RescaleSlope=2, RescaleIntercept=-5, WindowCenter=50, WindowWidth=10)
    np.testing.assert_array_equal(read_pixels(path), RAMP8)
    np.testing.assert_array_equal(read_grey8(path), RAMP8)
    assert read_grey8(path).dtype == np.uint8


@pytest.mark.parametrize(
    ("photometric", "slope", "inverted"),
    [
        ("MONOCHROME1", 1, True),
        ("MONOCHROME2", -1, True),
        ("MONOCHROME1", -1, False),
        ("MONOCHROME2", 1, False),
    ],
)
def test_inversion(write_dicom, photometric, slope, inverted):
    for pixels, grey in ((RAMP8, RAMP8), (RAMP16, np.array(RAMP16_GREY, np.uint8))):
        path = write_dicom(pixels, PhotometricInterpretation=photometric, RescaleSlope=slope)
        np.testing.assert_array_equal(read_pixels(path), pixels)
        np.testing.assert_array_equal(read_grey8(path), 255 - grey if inverted else grey)


def test_deep_pixels_are_stretched(write_dicom):
    np.testing.assert_array_equal(read_grey8(write_dicom(RAMP16)), RAMP16_GREY)
    twelve = write_dicom(RAMP16, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_grey8(twelve), RAMP16_GREY)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_constant_deep_image_is_black(write_dicom, photometric):
    path = write_dicom(np.full((2, 3), 700, np.uint16), PhotometricInterpretation=photometric)
    np.testing.assert_array_equal(read_grey8(path), np.zeros((2, 3)))


def test_signed_pixels(write_dicom):
    pixels = np.array([[-500, -400], [-300, 520]], np.int16)
    path = write_dicom(pixels)
    np.testing.assert_array_equal(read_pixels(path), pixels)
    np.testing.assert_array_equal(read_grey8(path), RAMP16_GREY)


def test_bits_above_the_stored_ones_are_no_part_of_the_value(write_dicom):
    garbage = RAMP16 | np.uint16(0xA000)
    path = write_dicom(garbage, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_pixels(path), RAMP16)
    signed = np.array([[-5, 7], [2047, -2048]], np.int16)
    dirty = (signed.astype(np.uint16) & np.uint16(0x0FFF)) | np.uint16(0x5000)
    path = write_dicom(dirty, BitsStored=12, HighBit=11, PixelRepresentation=1)
    np.testing.assert_array_equal(read_pixels(path), signed)


def test_eight_bits_in_sixteen_are_kept(write_dicom):
    path = write_dicom(RAMP8.astype(np.uint16) | np.uint16(0x7700), BitsStored=8, HighBit=7)
    np.testing.assert_array_equal(read_grey8(path), RAMP8)


@pytest.mark.parametrize(
    "missing",
    [
        ["PhotometricInterpretation"],
        ["SamplesPerPixel"],
        ["PixelRepresentation"],
        ["BitsStored", "HighBit"],
        ["PhotometricInterpretation", "SamplesPerPixel", "PixelRepresentation", "BitsStored", "HighBit"],
    ],
)
def test_missing_elements_have_their_usual_values(write_dicom, missing):
    np.testing.assert_array_equal(read_grey8(write_dicom(RAMP8, drop=missing)), RAMP8)


def test_without_preamble_or_meta_or_the_right_name(write_dicom):
    np.testing.assert_array_equal(read_grey8(write_dicom(RAMP8, preamble=False)), RAMP8)
    np.testing.assert_array_equal(
        read_grey8(write_dicom(RAMP8, meta=False, syntax=ImplicitVRLittleEndian)), RAMP8
    )
    np.testing.assert_array_equal(read_grey8(write_dicom(RAMP8, meta=False)), RAMP8)
    np.testing.assert_array_equal(read_grey8(write_dicom(RAMP8, name="x.png")), RAMP8)


def test_odd_length_and_deflated(write_dicom):
    odd = RAMP8.ravel()[:9].reshape(3, 3)
    np.testing.assert_array_equal(read_grey8(write_dicom(odd)), odd)
    path = write_dicom(RAMP8, syntax=DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(read_grey8(path), RAMP8)


def test_jpeg_baseline_as_pillow_reads_it(write_dicom):
    stream = jpeg(smooth())
    path = write_dicom(smooth(), syntax=JPEGBaseline8Bit, stream=stream)
    np.testing.assert_array_equal(read_grey8(path), np.asarray(Image.open(io.BytesIO(stream))))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_changes_nothing(write_dicom, tmp_path, syntax):
    ds = pydicom.dcmread(write_dicom(smooth().astype(np.uint16) * 5))
    ds.compress(syntax)
    ds.save_as(tmp_path / "c.dcm")
    np.testing.assert_array_equal(read_pixels(tmp_path / "c.dcm"), smooth().astype(np.uint16) * 5)


@pytest.mark.parametrize(
    "kind", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"]
)
def test_one_image_in_all_transfer_syntaxes(kind):
    np.testing.assert_array_equal(
        read_grey8(SAMPLES / f"MR_small_{kind}.dcm"), read_grey8(SAMPLES / "MR_small.dcm")
    )


def test_jpeg_lossless():
    reference = read_pixels(SAMPLES / "SC_rgb_rle.dcm")
    np.testing.assert_array_equal(read_pixels(SAMPLES / "SC_rgb_jpeg_gdcm.dcm"), reference)


def test_colour_becomes_luminance(write_dicom):
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [100, 100, 100]]], np.uint8)
    path = write_dicom(colours)
    assert read_pixels(path).shape == (2, 2, 3)
    np.testing.assert_array_equal(read_grey8(path), [[76, 150], [29, 100]])
    ybr, rgb = (
        read_grey8(SAMPLES / f"{n}.dcm") for n in ("SC_ybr_full_422_uncompressed", "SC_rgb_dcmtk_+eb+cr")
    )
    assert np.abs(ybr.astype(int) - rgb).max() <= 3
    palette = read_grey8(SAMPLES / "examples_palette.dcm")
    assert palette.shape == (350, 800) and palette.max() > 200


def test_more_than_one_frame_is_refused(write_dicom):
    assert read_grey8(write_dicom(RAMP8, NumberOfFrames=1)).shape == (3, 4)
    assert read_grey8(write_dicom(RAMP8, NumberOfFrames=None)).shape == (3, 4)
    with pytest.raises(InputError, match="holds 2 frames"):
        read_grey8(SAMPLES / "SC_rgb_rle_2frame.dcm")


@pytest.mark.parametrize("cut", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["jpeg", "jpeg2000", "rle"])
def test_cut_off_compressed_pixels_are_refused(write_dicom, tmp_path, kind, cut):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    if kind == "jpeg":
        stream, syntax = jpeg(noise), JPEGBaseline8Bit
    else:
        syntax = JPEG2000Lossless if kind == "jpeg2000" else RLELossless
        ds = pydicom.dcmread(write_dicom(noise))
        ds.compress(syntax, generate_instance_uid=False)
        stream = pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
    whole = write_dicom(noise, syntax=syntax, stream=stream)
    assert read_grey8(whole).shape == (64, 64)
    with pytest.raises(InputError):
        read_grey8(write_dicom(noise, "cut.dcm", syntax=syntax, stream=stream[: int(len(stream) * cut)]))


def test_cut_off_plain_pixels_are_refused(write_dicom):
    path = write_dicom(np.zeros((64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"x\.dcm: the image cannot be decoded"):
        read_grey8(path)


def test_what_is_no_image_is_told(write_dicom, tmp_path):
    with pytest.raises(InputError, match="no pixel data"):
        read_grey8(write_dicom(RAMP8, drop=["PixelData"]))
    with pytest.raises(InputError, match="Rows"):
        read_grey8(write_dicom(RAMP8, drop=["Rows"]))
    nameless = write_dicom(smooth(), syntax=JPEGBaseline8Bit, stream=jpeg(smooth()))
    ds = pydicom.dcmread(nameless)
    del ds.file_meta.TransferSyntaxUID
    ds.save_as(nameless, implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(InputError, match="compressed pixels but no transfer syntax"):
        read_grey8(nameless)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_give_an_image_or_an_input_error(data):
    name = data.draw(
        st.sampled_from(["MR_small.dcm", "MR_small_RLE.dcm", "SC_rgb_small_odd_jpeg.dcm", "693_J2KI.dcm"])
    )
    content = bytearray((SAMPLES / name).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(content)))
    try:
        grey = read_grey8(name, bytes(content[:cut]))
    except InputError as error:
        assert error.file == name and error.problem
    else:
        assert grey.dtype == np.uint8 and grey.ndim == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_view_position(write_dicom, tmp_path):
    assert read_view(write_dicom(RAMP8)) == "PA"
    assert read_view(write_dicom(RAMP8, ViewPosition="ap", preamble=False)) == "AP"
    assert read_view(write_dicom(RAMP8, ViewPosition=None)) == ""
    assert read_view(write_dicom(RAMP8, drop=["ViewPosition"])) == ""
    (tmp_path / "x.jpg").write_bytes(jpeg(smooth()))
    assert read_view(tmp_path / "x.jpg") == ""
    with pytest.raises(InputError, match="does not exist"):
        read_view(tmp_path / "none.dcm")
