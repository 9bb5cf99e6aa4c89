"""Area averaging against a slow, obvious reference; placement against the spec's vectors."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.images.place import Placement, fit, letterbox, resize_area


def slow_area(grey, height, width):
    """The mean over each new pixel's area, exactly, pixel by pixel."""

    def parts(old, new, i):
        low, high = Fraction(i * old, new), Fraction((i + 1) * old, new)
        for j in range(old):
            covered = min(high, j + 1) - max(low, j)
            if covered > 0:
                yield j, covered

    result = np.zeros((height, width), np.uint8)
    area = Fraction(grey.shape[0] * grey.shape[1], height * width)
    for y in range(height):
        for x in range(width):
            total = sum(
                int(grey[j, i]) * a * b
                for j, a in parts(grey.shape[0], height, y)
                for i, b in parts(grey.shape[1], width, x)
            )
            result[y, x] = int(total / area + Fraction(1, 2))  # half up
    return result


@settings(max_examples=60, deadline=None)
@given(*[st.integers(1, 12)] * 4, st.integers(0, 10**6))
def test_resize_is_the_exact_area_mean(old_height, old_width, height, width, seed):
    grey = np.random.default_rng(seed).integers(0, 256, (old_height, old_width), dtype=np.uint8)
    np.testing.assert_array_equal(resize_area(grey, height, width), slow_area(grey, height, width))


def test_resize_by_hand():
    grey = np.array([[0, 10, 20], [40, 50, 60]], np.uint8)
    # columns cover 1.5 old ones: (0 + 10/2) / 1.5 = 3.33, (10/2 + 20) / 1.5 = 16.67; rows are kept
    np.testing.assert_array_equal(resize_area(grey, 2, 2), [[3, 17], [43, 57]])
    np.testing.assert_array_equal(
        resize_area(np.array([[0, 1], [0, 1]], np.uint8), 1, 1), [[1]]
    )  # 0.5 goes up
    assert resize_area(grey, 2, 3) is not grey


def test_large_bright_images_do_not_overflow():
    assert resize_area(np.full((9_000, 7_000), 255, np.uint8), 256, 199).min() == 255


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (512, 256, (0, 64, 256, 128)),  # method.md 11.8
        (256, 301, (19, 0, 217, 256)),  # 217 rows, 19 above and 20 below
        (100, 100, (0, 0, 256, 256)),
        (64, 64, (0, 0, 256, 256)),
        (3000, 5, (0, 127, 256, 1)),  # at least one column
        (2, 3000, (127, 0, 1, 256)),
    ],
)
def test_fit(height, width, expected):
    placement = fit(height, width)
    assert (placement.top, placement.left, placement.new_height, placement.new_width) == expected
    assert (placement.height, placement.width) == (height, width)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(2, 300))
def test_fit_stays_inside_and_is_centred(height, width, size):
    p = fit(height, width, size)
    assert max(p.new_height, p.new_width) == size
    below, right = size - p.top - p.new_height, size - p.left - p.new_width
    assert 0 <= below - p.top <= 1 and 0 <= right - p.left <= 1


def test_letterbox_puts_the_resized_image_on_black():
    grey = np.random.default_rng(0).integers(1, 256, (256, 301), dtype=np.uint8)
    square, placement = letterbox(grey)
    assert isinstance(placement, Placement) and square.shape == (256, 256) and square.dtype == np.uint8
    np.testing.assert_array_equal(square[19:236], resize_area(grey, 217, 256))
    assert not square[:19].any() and not square[236:].any()
