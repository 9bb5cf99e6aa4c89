import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cmcgns.errors import InputError
from cmcgns.sources import siim
from cmcgns.sources.schema import validate
from cmcgns.sources.siim import decode_rle
from cmcgns.synthetic.files import encode_rle


def slow_decode(text, height, width):
    """Walk pixel by pixel down the columns."""
    mask = np.zeros((height, width), bool)
    position = 0
    numbers = [int(word) for word in text.split()]
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        position += gap
        for _ in range(length):
            mask[position % height, position // height] = True
            position += 1
    return mask


def test_the_published_code_starts_where_the_spec_says():
    mask = decode_rle("810584 20 1003 22 1001 25", (1024, 1024))
    # 810584 = 791 * 1024 + 600: column 791, rows 600 to 619; then 1003 on, in the next column, at row 599
    assert mask[600:620, 791].all() and not mask[599, 791] and not mask[620, 791]
    assert mask[599:621, 792].all() and mask[598:623, 793].all()
    assert mask.sum() == 20 + 22 + 25


def test_decoding_agrees_with_a_slow_loop_on_a_mask_that_is_not_square():
    text = "3 2 0 4 7 1 1 6"
    np.testing.assert_array_equal(decode_rle(text, (5, 7)), slow_decode(text, 5, 7))
    # 3 rows, 2 columns: pixel 1 and 2 are the first column's end, 4 is in the middle of the second
    np.testing.assert_array_equal(
        decode_rle("1 2 1 1", (3, 2)), [[False, False], [True, True], [True, False]]
    )


@pytest.mark.parametrize("text", ["-1", " -1", "", "  "])
def test_empty_codes(text):
    mask = decode_rle(text, (4, 6))
    assert mask.shape == (4, 6) and mask.dtype == bool and not mask.any()


@pytest.mark.parametrize(
    "text", ["5", "1 2 3", "1 -2", "-1 2", "a 1", "1.5 2", "20 5", "0 25", f"1 {10**30}", f"{2**62} {2**62}"]
)
def test_malformed_codes_are_refused(text):
    with pytest.raises(InputError, match="malformed run-length code. expected pairs .* 4 x 6 pixels"):
        decode_rle(text, (4, 6))


def test_a_run_may_end_on_the_last_pixel():
    assert decode_rle("23 1", (4, 6))[3, 5] and decode_rle("0 24", (4, 6)).all()


@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_encoding_is_the_inverse_and_maximal_runs_are_unique(mask):
    text = encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(text, mask.shape), mask)
    if mask.any():
        np.testing.assert_array_equal(slow_decode(text, *mask.shape), mask)
        assert 0 not in [int(word) for word in text.split()][1:]


STAGE_1 = "ImageId, EncodedPixels\n1.2.1, -1\n1.2.2, 5 2 3 1\n1.2.3, 0 1\n1.2.2, 6 3\n"
DIALECTS = {
    "stage 1": STAGE_1,
    "merged copy": STAGE_1.replace("\n1.2.1, ", "\n1.2.1,").replace("2, ", "2,").replace("3, ", "3,"),
    "stage 2": STAGE_1.replace(", ", ","),
    "mixed blanks": STAGE_1.replace(" -1", "-1"),
    "no header": "\ufeff" + STAGE_1.split("\n", 1)[1].replace(", ", ",").replace("\n", "\r\n"),
}


@pytest.mark.parametrize("text", DIALECTS.values(), ids=DIALECTS)
def test_all_dialects_give_one_table(put, text):
    index = siim.read(put("siim/train-rle.csv", text).parent)
    assert index["image_id"].tolist() == index["group_id"].tolist() == ["1.2.1", "1.2.2", "1.2.3"]
    assert index["positive"].tolist() == [False, True, True]
    assert index["rle"].tolist() == [[], ["5 2 3 1", "6 3"], ["0 1"]]
    assert index["rows"].tolist() == [[0], [1, 3], [2]]
    assert set(index["path"]) == set(index["view"]) == set(index["official_split"]) == {""}
    assert index["frontal"].all()
    validate("siim", index)


def test_stage_2_goes_before_stage_1(put):
    root = put("siim/train-rle.csv", STAGE_1).parent
    put("siim/stage_2_train.csv", "ImageId,EncodedPixels\n1.2.9,-1\n")
    assert siim.read(root)["image_id"].tolist() == ["1.2.9"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("1.2.1, 5 2\n1.2.1, -1\n", "line 3: the image is listed as empty and with a mask"),
        ("1.2.1, -1\n1.2.2, 5 2 9\n", "line 3: malformed run-length code"),
        ("1.2.1, 1048576 1\n", "line 2: malformed run-length code"),
        (", -1\n", "line 2: ImageId is blank"),
        ("1.2.1\n", "line 2: 1 fields"),
    ],
)
def test_bad_rows_are_refused(put, rows, message):
    root = put("siim/train-rle.csv", "ImageId, EncodedPixels\n" + rows).parent
    with pytest.raises(InputError, match=message):
        siim.read(root)
