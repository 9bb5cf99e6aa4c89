"""Tables as parquet files that carry a dictionary of what they are; same table, same bytes."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cmcgns.errors import InputError
from cmcgns.files import atomic

_META = b"cmcgns"


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
