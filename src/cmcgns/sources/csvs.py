"""Label files as tables of stripped strings: `.csv` or `.csv.gz`, any line ends, nothing ever read as missing."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from cmcgns.errors import InputError

_COMPLETE = "download the file again; it must be complete UTF-8 text"


def read_strings(
    path: Path, required: Sequence[str] = (), names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a CSV with every value a string, blanks around names and values removed; "NA" stays "NA".

    Args:
        required: columns that must be there.
        names: column names of a file that has no header; None: the first line names them.

    Returns:
        The table; its index is the line number in the file, so that a message can name it.

    Raises:
        InputError: unreadable or cut file, a column missing, a line with too few or too many fields.
    """
    columns = list(names) if names else _header(path)
    _check_header(columns, required, path)
    with _telling(path):
        table = _read_rows(path, columns, skip=0 if names else 1)
    trimmed = [pc.utf8_trim_whitespace(column) for column in table.columns]
    frame = pa.table(trimmed, names=columns).to_pandas()
    frame.index = pd.RangeIndex(1 if names else 2, len(frame) + (1 if names else 2))
    return frame


def first_line(path: Path) -> str:
    """The first line of a text file, plain or gzipped, without its byte-order mark and line end."""
    with _telling(path), _open(path) as stream:
        return stream.readline().rstrip("\r\n")


def read_lines(path: Path) -> pd.Series:
    """The non-empty lines of a text file, stripped; the index is the line number.

    Raises:
        InputError: the file is not UTF-8 text.
    """
    with _telling(path), _open(path) as stream:
        lines = pd.Series(stream.read().split("\n"), dtype=str).str.strip()
    lines.index = pd.RangeIndex(1, len(lines) + 1)
    return lines[lines != ""]


def refuse(bad: pd.Series, path: Path, problem: str, expected: str, remedy: str) -> None:
    """Raise `InputError` at the first line where `bad` (bool, indexed by line number) is true."""
    count = int(bad.sum())
    if count:
        more = f" (and {count - 1:,} more lines)" if count > 1 else ""
        raise InputError(
            problem + more, file=path, row=f"line {bad.idxmax()}", expected=expected, remedy=remedy
        )


def among(column: pd.Series, known: Iterable[str]) -> pd.Series:
    """Which entries of `column` are in `known`: as `isin`, whose time on long lists of strings is seconds."""
    values = set(known.tolist() if isinstance(known, pd.Series) else known)
    return pd.Series([entry in values for entry in column.tolist()], index=column.index, dtype=bool)


def numbers(text: pd.Series, path: Path, *, blank: bool) -> pd.Series:
    """Parse strings as float64; a blank is NaN where `blank` allows it.

    Raises:
        InputError: at the first value that is not a finite number.
    """
    values = pd.to_numeric(text.where(text != "", None), errors="coerce").astype(float)
    bad = ~np.isfinite(values) & ((text != "") | (not blank))
    expected = "a number or a blank" if blank else "a number"
    refuse(bad, path, f"column {text.name!r} is not a number", expected, "restore the published value")
    return values


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn what a broken file raises into an `InputError` naming `path`."""
    try:
        yield
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error, pa.ArrowInvalid) as error:
        # the error's own text may quote a row, and rows may hold patient ids
        problem = f"the file is not readable ({type(error).__name__})"
        raise InputError(problem, file=path, remedy=_COMPLETE) from None


def _open(path: Path) -> TextIO:
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline="")


def _header(path: Path) -> list[str]:
    line = first_line(path)
    with _telling(path):
        return [name.strip() for name in next(csv.reader([line]), [])]


def _check_header(columns: list[str], required: Sequence[str], path: Path) -> None:
    missing = [name for name in required if name not in columns]
    if missing or len(set(columns)) < len(columns):
        problem = f"columns missing: {', '.join(missing)}" if missing else "a column name occurs twice"
        raise InputError(
            problem,
            file=path,
            row="header",
            expected=f"the columns {', '.join(required or columns)}",
            remedy="use the label file as its publisher distributes it",
        )


def _read_rows(path: Path, columns: list[str], skip: int) -> pa.Table:
    wrong = []

    def note(row: pacsv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    try:
        with pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None) as stream:
            return pacsv.read_csv(
                stream,
                # one thread: only then are line numbers known; blocks hold the longest run-length codes
                pacsv.ReadOptions(
                    use_threads=False, block_size=1 << 24, column_names=columns, skip_rows=skip
                ),
                pacsv.ParseOptions(invalid_row_handler=note),
                pacsv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
            )
    except pa.ArrowInvalid:
        if not wrong:
            raise
        raise InputError(
            f"{wrong[0].actual_columns} fields",
            file=path,
            row=f"line {wrong[0].number}",
            expected=f"{wrong[0].expected_columns} fields: {', '.join(columns)}",
            remedy=_COMPLETE,
        ) from None
