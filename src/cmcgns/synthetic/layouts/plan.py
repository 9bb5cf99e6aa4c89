"""What every layout hands over: its films, and how to write its label files once they are drawn."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.reporter import Statement


@dataclass
class Plan:
    """One source.

    `finish(root, shots)` writes the label files below the source's folder and returns their paths; `shots` are in the
    order of `films`. `sentences` are the statements written about a study, by study id.
    """

    source: str
    folder: str  # below raw/
    films: list[Film]
    finish: Callable[[Path, list[Shot]], list[Path]]
    sentences: dict[str, list[Statement]] = field(default_factory=dict)


def drop_rows(count: int, missing: int) -> set[int]:
    """Positions of films that get a file but no row: spread over the list, never the first film."""
    return {int(i) for i in np.linspace(count // 3, count - 2, missing)} if missing else set()


def drop_files(count: int, missing: int) -> set[int]:
    """Positions of films that get a row but no file, none of them in `drop_rows`."""
    return {i + 1 for i in drop_rows(count, missing)}


def make_uuid(rng: np.random.Generator) -> str:
    """A random UUID from our own generator."""
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def csv_text(frame: pd.DataFrame, **options: object) -> str:
    """A table as CSV with line feeds and without an index."""
    return frame.to_csv(index=False, lineterminator="\n", **options)
