"""Writing files once and completely: a temporary name first, renamed when done."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` if the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def canonical(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no blanks. Snakemake compares parameters as text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV; a text with a comma is quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def markdown_text(rows: Iterable[Iterable[str]]) -> str:
    """Rows as a table in Markdown, the first its header."""
    header, *body = ("| " + " | ".join(row) + " |\n" for row in rows)
    return "".join([header, "|" + "---|" * (header.count(" | ") + 1) + "\n", *body])


def read_csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; every value is a text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON; NaN is refused (write None for a missing number)."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file, or raise `InputError` naming it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except ValueError as error:
        raise InputError(
            f"not JSON ({error})", file=path, remedy="delete it and run again; it is made anew"
        ) from None


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
