"""One file per data set: its raw layout -> the index table."""

from importlib import import_module
from types import ModuleType

NAMES = ("mimic_cxr", "chexpert", "rsna", "covidx", "siim", "object_cxr")


def source(name: str) -> ModuleType:
    """The module of a source. Imported by name, so that a change to one source leaves the others' code alone."""
    if name not in NAMES:
        raise ValueError(f"unknown source {name!r}, expected one of {', '.join(NAMES)}")
    return import_module(f"cmcgns.sources.{name}")
