"""What every layout hands over: its films, and how to write its label files once they are drawn."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.reporter import Statement


@dataclass
class Plan:
    """One source.

    `label_files(shots)` gives the texts of the label files by their paths below raw/; `shots` are in the order of `films`.
    `sentences` are the statements written about a study, by study id, and `reports` the texts of the report files.
    """

    source: str
    folder: str  # below raw/
    films: list[Film]
    label_files: Callable[[list[Shot]], dict[str, str]]
    sentences: dict[str, list[Statement]] = field(default_factory=dict)
    reports: dict[str, str] = field(default_factory=dict)


def make_uuid(rng: np.random.Generator) -> str:
    """A random UUID from our own generator."""
    return str(uuid.UUID(bytes=rng.bytes(16), version=4))


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV with line feeds and without an index."""
    return frame.to_csv(index=False, lineterminator="\n")
