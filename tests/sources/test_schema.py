import pytest

from cmcgns.errors import InputError
from cmcgns.sources import NAMES, source
from cmcgns.sources.schema import SCHEMAS, validate


def read(downloads, name):
    module = source(name)
    return module.read(module.find(downloads))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_fits_and_any_other_column_does_not(downloads, name):
    index = read(downloads, name)
    validate(name, index)
    assert set(index.columns) == set(SCHEMAS[name].columns)
    with pytest.raises(InputError, match=f"index of {name}.*does not fit"):
        validate(name, index.assign(extra=1))
    for column in index.columns:
        with pytest.raises(InputError, match=f"index of {name}.*does not fit"):
            validate(name, index.drop(columns=column))


@pytest.mark.parametrize(
    ("name", "column", "value", "expected"),
    [
        ("rsna", "image_id", "exam-b", "unique"),
        ("rsna", "group_id", "", "non-empty"),
        ("rsna", "path", "/data/a.dcm", "relative"),
        ("rsna", "path", "../a.dcm", "relative"),
        ("rsna", "official_split", "train", "one of ''"),
        ("rsna", "target", 2, "one of 0, 1"),
        ("rsna", "finding", "normal", "one of 'Lung Opacity'"),
        ("rsna", "boxes", [[1.0, 2.0, 1.0, 4.0]], "boxes"),
        ("rsna", "boxes", [[1.0, 2.0, 3.0]], "boxes"),
        ("rsna", "boxes", "none", "boxes"),
        ("siim", "rle", [""], "non-empty strings"),
        ("siim", "rows", [], "data rows"),
        ("chexpert", "row", -1, "data row"),
        ("chexpert", "Edema", 0.5, "one of 1.0, 0.0, -1.0"),
        ("chexpert", "age", 151.0, "0 to 150"),
        ("covidx", "label", "virus", "one of 'normal'"),
    ],
)
def test_a_false_value_is_named_by_row_and_column(downloads, name, column, value, expected):
    index = read(downloads, name)
    index.at[0, column] = value
    with pytest.raises(InputError, match=f"row 0 of the index.*column '{column}' does not fit.*{expected}"):
        validate(name, index)
