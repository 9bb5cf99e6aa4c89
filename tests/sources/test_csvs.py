import numpy as np
import pandas as pd
import pytest

from cmcgns.errors import InputError
from cmcgns.sources.csvs import among, first_line, numbers, read_lines, read_strings, refuse


def test_nothing_is_read_as_missing_and_blanks_are_stripped(put):
    path = put("a.csv", 'id, note\nNA,nan\n None ," null"\n,"x, y"\n')
    table = read_strings(path, ("id", "note"))
    assert table["id"].tolist() == ["NA", "None", ""]
    assert table["note"].tolist() == ["nan", "null", "x, y"]
    assert table.index.tolist() == [2, 3, 4]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects_of_one_table_read_alike(put, name, mark, end):
    path = put(name, f"{mark}a,b{end}1,2{end}3,4{end}")
    expected = pd.DataFrame({"a": ["1", "3"], "b": ["2", "4"]}, index=pd.RangeIndex(2, 4))
    pd.testing.assert_frame_equal(read_strings(path), expected, check_dtype=False)


def test_a_file_without_header_takes_the_names_given_and_counts_lines_from_one(put):
    path = put("a.csv", "\ufeff1.2.3,-1\r\n1.2.4,5 6\r\n")
    table = read_strings(path, names=["ImageId", "EncodedPixels"])
    assert table["ImageId"].tolist() == ["1.2.3", "1.2.4"]
    assert table.index.tolist() == [1, 2]


def test_a_field_of_a_megabyte_is_read(put):
    path = put("a.csv", "a,b\n1," + "5 " * 500_000 + "\n")
    assert read_strings(path)["b"].str.len().tolist() == [999_999]


def test_a_cut_line_is_named_without_quoting_it(put):
    path = put("a.csv", "id,x,y\np1,1,2\nsecret-patient,1\np3,1,2\n")
    with pytest.raises(InputError, match="line 3.*2 fields.*expected 3 fields: id, x, y") as caught:
        read_strings(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "columns missing: id"),
        ("a.csv", b"ID,x\n1,2\n", "columns missing: id"),
        ("a.csv", b"id,id\n1,2\n", "occurs twice"),
        ("a.csv", b"id,x\n1,\xff\n", "not readable"),
        ("a.csv", b"\xff\xfe\n", "not readable"),
    ],
)
def test_broken_files_are_input_errors(put, name, content, message):
    with pytest.raises(InputError, match=message):
        read_strings(put(name, content), ("id",))


def test_a_cut_or_false_archive_is_an_input_error(put):
    rows = "".join(f"{i * 7919 % 10007},{i}\n" for i in range(5000))
    whole = put("a.csv.gz", "id,x\n" + rows).read_bytes()
    for content in (whole[: len(whole) // 2], b"id,x\n1,2\n"):
        path = put("b.csv")
        path = path.rename(path.with_name("b.csv.gz"))
        path.write_bytes(content)
        with pytest.raises(InputError, match="not readable"):
            read_strings(path, ("id",))


def test_lines_keep_their_numbers_when_empty_ones_are_left_out(put):
    lines = read_lines(put("a.txt", "\ufeffone\r\n\n  two \n"))
    assert lines.to_dict() == {1: "one", 3: "two"}
    with pytest.raises(InputError, match="not readable"):
        read_lines(put("b.txt", b"\xff\xfe"))


def test_first_line_is_free_of_mark_and_end(put):
    assert first_line(put("a.csv", "\ufeffa, b\r\nc\r\n")) == "a, b"


def test_refuse_names_the_first_bad_line_and_counts_the_rest(tmp_path):
    bad = pd.Series([False, True, False, True], index=[2, 3, 4, 5])
    with pytest.raises(
        InputError, match=r"x\.csv, row line 3: wrong \(and 1 more lines\)\. expected right\. do it"
    ):
        refuse(bad, tmp_path / "x.csv", "wrong", "right", "do it")
    refuse(bad & False, tmp_path / "x.csv", "wrong", "right", "do it")


def test_among_is_isin():
    column = pd.Series(["a", "b", "a"], index=[5, 6, 7])
    pd.testing.assert_series_equal(
        among(column, iter(["a", "c"])), column.isin(["a", "c"]), check_names=False
    )


def test_numbers(tmp_path):
    text = pd.Series(["1.0", "", "-3"], index=[2, 3, 4], name="x")
    np.testing.assert_array_equal(numbers(text, tmp_path, blank=True), [1.0, np.nan, -3.0])
    with pytest.raises(InputError, match="line 3.*'x' is not a number"):
        numbers(text, tmp_path, blank=False)
    for word in ("one", "nan", "inf", "1,5"):
        with pytest.raises(InputError, match="line 4"):
            numbers(pd.Series(["1", "2", word], index=[2, 3, 4], name="x"), tmp_path, blank=True)
