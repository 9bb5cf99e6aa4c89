"""What tests of several rooms share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def beside(name: str) -> ModuleType:
    """A module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def alignment_world() -> ModuleType:
    """A world of films whose pixels say what their reports say."""
    return beside("alignment_world")


@pytest.fixture(scope="session")
def stand_in() -> ModuleType:
    """The real graph with steps that cost nothing."""
    return beside("stand_in")


@pytest.fixture(scope="session")
def aligned_mimic(alignment_world, tmp_path_factory) -> dict[str, Path]:
    """MIMIC-CXR's files of that world; tests only read them."""
    return alignment_world.write_mimic(tmp_path_factory.mktemp("aligned_mimic"))
