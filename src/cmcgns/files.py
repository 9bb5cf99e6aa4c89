"""Writing files once and completely: a temporary name first, renamed when done."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cmcgns.errors import InputError

_META = b"cmcgns"


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


def write_parquet(frame: pd.DataFrame, path: str | Path, meta: dict[str, Any] | None = None) -> None:
    """Write `frame` (index dropped) with `meta` as JSON in the file's schema; same frame, same bytes."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(
        {_META: json.dumps(meta or {}, sort_keys=True).encode()}
    )
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(path: str | Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table written by `write_parquet`, or raise `InputError` naming the file."""
    try:
        return pq.read_table(path, columns=columns).to_pandas()
    except FileNotFoundError:
        raise InputError("the file does not exist", file=path) from None
    except pa.ArrowInvalid as error:
        raise InputError(
            f"not a readable parquet file ({error})", file=path, remedy="delete it and run again"
        ) from None


def read_meta(path: str | Path) -> dict[str, Any]:
    """The `meta` dictionary that `write_parquet` stored in the file."""
    try:
        return json.loads((pq.read_schema(path).metadata or {}).get(_META, b"{}"))
    except FileNotFoundError:
        raise InputError("the table does not exist", file=path, remedy="run the step that makes it") from None


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
