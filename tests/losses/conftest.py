"""Losses are compared in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def float64() -> Iterator[None]:
    """What a test makes is float64 unless it says otherwise, and a loss keeps it: only half precision is widened.

    A low temperature multiplies the rounding of a cosine in float32, which differs from CPU to CPU.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
