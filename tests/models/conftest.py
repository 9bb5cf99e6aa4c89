"""What tests of networks share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cmcgns.models.seeding import seeded


@pytest.fixture(autouse=True)
def own_draws() -> Iterator[None]:
    """The weights of a network here do not depend on the tests before it."""
    with seeded(0, "networks"):
        yield


@pytest.fixture
def float64(monkeypatch) -> Iterator[None]:
    """All that a test makes is float64, and stays it where a network asks for fp32: `.float()` gives float64 too.

    For tests that compute one thing in two ways. Each CPU rounds float32 in its own way, and a norm over a few rows
    magnifies that without bound; in float64 the two ways agree on every CPU, to many more digits.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)
