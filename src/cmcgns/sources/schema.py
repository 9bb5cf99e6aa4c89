"""The index tables as pandera schemas: strict columns, checked before a table is written."""

import numpy as np
import pandas as pd
import pandera.pandas as pa

from cmcgns.errors import InputError
from cmcgns.sources.vocabulary import CHEXPERT_LABELS, COVIDX_CLASSES, RSNA_FINDINGS


def lists_of_strings(column: pd.Series) -> pd.Series:
    """Which entries are lists of non-empty strings."""
    return column.map(lambda v: isinstance(v, list) and all(isinstance(s, str) and s for s in v)).astype(bool)


def lists_of_boxes(column: pd.Series) -> pd.Series:
    """Which entries are lists of [x1, y1, x2, y2] with 0 <= x1 < x2 and 0 <= y1 < y2."""

    def good(boxes: object) -> bool:
        return isinstance(boxes, list) and all(
            len(b) == 4 and 0 <= b[0] < b[2] < np.inf and 0 <= b[1] < b[3] < np.inf for b in boxes
        )

    return column.map(good).astype(bool)


def lists_of_rows(column: pd.Series) -> pd.Series:
    """Which entries are lists of one or more whole numbers from 0."""
    return column.map(
        lambda v: isinstance(v, list) and len(v) > 0 and all(isinstance(n, int) and n >= 0 for n in v)
    ).astype(bool)


def _filled(**options: bool) -> pa.Column:
    return pa.Column(str, pa.Check.str_length(min_value=1, error="a non-empty string"), **options)


def _one_of(*values: object, kind: type = str, **options: bool) -> pa.Column:
    named = ", ".join(repr(value) for value in values)
    return pa.Column(kind, pa.Check.isin(values, error=f"one of {named}"), **options)


def _lists(check, error: str) -> pa.Column:
    return pa.Column(object, pa.Check(check, error=error))


def _table(splits: tuple[str, ...], **own: pa.Column) -> pa.DataFrameSchema:
    relative = pa.Check.str_matches(r"^(?!/)(?!.*\.\./)", error="a path relative to the source's root")
    common = {
        "image_id": _filled(unique=True),
        "group_id": _filled(),
        "path": pa.Column(str, relative),
        "view": pa.Column(str),
        "frontal": pa.Column(bool),
        "official_split": _one_of(*splits),
    }
    return pa.DataFrameSchema(common | own, strict=True)


_LABEL = _one_of(1.0, 0.0, -1.0, kind=float, nullable=True)
_BOXES = _lists(lists_of_boxes, "a list of boxes [x1, y1, x2, y2] with an area")
_ROW = pa.Column(int, pa.Check.ge(0, error="a data row of its label file, from 0"))
_STRINGS = _lists(lists_of_strings, "a list of non-empty strings")
_ROWS = _lists(lists_of_rows, "a list of data rows of the label file")

SCHEMAS = {
    "mimic_cxr": _table(("train", "validate", "test"), subject_id=_filled(), study_id=_filled()),
    "chexpert": _table(
        ("train", "valid"),
        sex=pa.Column(str),
        age=pa.Column(float, pa.Check.in_range(0, 150, error="0 to 150 years"), nullable=True),
        row=_ROW,
        **dict.fromkeys(CHEXPERT_LABELS, _LABEL),
    ),
    "rsna": _table(("",), target=_one_of(0, 1, kind=int), finding=_one_of(*RSNA_FINDINGS), boxes=_BOXES),
    "covidx": _table(
        ("train", "test"),
        patient_id=_filled(),
        label=_one_of(*COVIDX_CLASSES["9A"], *COVIDX_CLASSES["9B"]),
        origin=_filled(),
        listed_origin=_filled(),
        row=_ROW,
    ),
    "siim": _table(("",), positive=pa.Column(bool), rle=_STRINGS, rows=_ROWS),
    "object_cxr": _table(("train", "dev"), row=_ROW, boxes=_BOXES, shapes=_STRINGS),
}


def validate(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` if it is an index table of source `name`, else raise `InputError` at its first fault."""
    try:
        return SCHEMAS[name].validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        first = error.failure_cases.iloc[0]
        of_table = first["schema_context"] == "DataFrameSchema"
        at = first["index"]
        row = None if pd.isna(at) else f"{int(at)} of the index ({frame['image_id'].loc[at]})"
        # what failed, not the value that did: it may be a patient's id
        raise InputError(
            f"column {first['failure_case' if of_table else 'column']!r} does not fit the schema",
            file=f"index of {name}",
            row=row,
            expected=str(first["check"]),
            remedy="compare the label files with the published ones (cmcgns doctor)",
        ) from None
