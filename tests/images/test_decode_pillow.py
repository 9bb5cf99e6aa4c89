"""JPEG and PNG files of every mode."""

import io

import numpy as np
import pytest
from PIL import Image

from cmcgns.errors import InputError
from cmcgns.images.decode import read_bytes, read_grey8

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [100, 100, 100]]], np.uint8)
LUMINANCE = [[76, 150], [29, 100]]


def save(tmp_path, image, name="x.png", **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(tmp_path / name, **options)
    return tmp_path / name


def test_grey_png_under_a_jpg_name(tmp_path):
    path = save(tmp_path, GREY, "x.jpg", format="PNG")
    np.testing.assert_array_equal(read_grey8(path), GREY)


def test_sixteen_bits_use_their_full_range(tmp_path):
    pixels = np.array([[0, 257, 514], [65_535, 128, 129]], np.uint16)
    path = save(tmp_path, pixels)
    np.testing.assert_array_equal(read_grey8(path), [[0, 1, 2], [255, 0, 1]])


def test_sixteen_bits_that_hold_eight_are_kept(tmp_path):
    np.testing.assert_array_equal(read_grey8(save(tmp_path, GREY.astype(np.uint16))), GREY)


def test_one_bit_is_black_and_white(tmp_path):
    path = save(tmp_path, Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1"))
    np.testing.assert_array_equal(read_grey8(path), [[0, 255], [255, 0]])


def test_colour_and_palette(tmp_path):
    image = Image.fromarray(COLOURS)
    for variant in (image, image.convert("P", palette=Image.Palette.ADAPTIVE)):
        path = save(tmp_path, variant)
        np.testing.assert_array_equal(read_grey8(path), LUMINANCE)


def test_transparent_is_black(tmp_path):
    opaque = np.dstack([COLOURS, np.full((2, 2), 255, np.uint8)])
    np.testing.assert_array_equal(read_grey8(save(tmp_path, opaque)), LUMINANCE)
    opaque[0, 1, 3] = 0
    path = save(tmp_path, opaque)
    np.testing.assert_array_equal(read_grey8(path), [[76, 0], [29, 100]])
    la = np.dstack([GREY, np.full_like(GREY, 255)])
    np.testing.assert_array_equal(read_grey8(save(tmp_path, la)), GREY)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([200, 200, 200, 90, 90, 90])
    np.testing.assert_array_equal(read_grey8(save(tmp_path, palette, transparency=0)), [[0, 90]])


def test_cmyk_jpeg(tmp_path):
    path = save(
        tmp_path, Image.fromarray(np.full((16, 16, 3), 120, np.uint8)).convert("CMYK"), "x.jpg", quality=95
    )
    assert Image.open(path).mode == "CMYK"
    assert np.abs(read_grey8(path).astype(int) - 120).max() <= 2


def test_float_tiff_is_stretched(tmp_path):
    path = save(tmp_path, np.array([[-1.0, 0.0], [1.0, 4.0]], np.float32), "x.tif")
    np.testing.assert_array_equal(read_grey8(path), [[0, 51], [102, 255]])
    with pytest.raises(InputError, match="not finite"):
        read_grey8(save(tmp_path, np.array([[np.nan, 1e3]], np.float32), "x.tif"))


def test_exif_orientation_is_applied_to_grey_only(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    path = save(tmp_path, GREY, exif=exif)
    np.testing.assert_array_equal(read_grey8(path), np.rot90(GREY, -1))


def test_bytes_given_are_not_read_again(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(GREY).save(stream, "PNG")
    np.testing.assert_array_equal(read_grey8(tmp_path / "not there", stream.getvalue()), GREY)


def test_failures_name_the_file_and_the_reason(tmp_path):
    path = tmp_path / "x.jpg"
    with pytest.raises(InputError, match=r"x\.jpg: the image file does not exist"):
        read_grey8(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_bytes(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_grey8(path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match="neither JPEG, PNG nor DICOM"):
        read_grey8(path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    save(tmp_path, noise, "x.jpg")
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(InputError, match=r"x\.jpg: the image cannot be decoded .*truncated"):
        read_grey8(path)
    frames = [Image.fromarray(noise), Image.fromarray(255 - noise)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="2 frames"):
        read_grey8(tmp_path / "x.gif")
