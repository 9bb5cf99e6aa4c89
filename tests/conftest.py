"""What tests of several rooms share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def alignment_world() -> ModuleType:
    """The module `alignment_world.py` beside this file."""
    spec = importlib.util.spec_from_file_location(
        "alignment_world", Path(__file__).with_name("alignment_world.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def aligned_mimic(alignment_world, tmp_path_factory) -> dict[str, Path]:
    """MIMIC-CXR's files of that world; tests only read them."""
    return alignment_world.write_mimic(tmp_path_factory.mktemp("aligned_mimic"))
