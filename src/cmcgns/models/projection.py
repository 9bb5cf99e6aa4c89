"""Projections to the common dimension, and SimSiam's predictor."""

from __future__ import annotations

from torch import nn

from cmcgns.errors import InputError


def build_projection(inputs: int, outputs: int, kind: str = "linear") -> nn.Module:
    """(..., inputs) -> (..., outputs); weights drawn from N(0, inputs^-0.5) (method.md 1.4).

    Args:
        kind: "linear", or "mlp": Linear - ReLU - Linear. The paper says "MLP" and gives no form.
    """
    if kind == "linear":
        return _linear(inputs, outputs)
    if kind == "mlp":
        return nn.Sequential(_linear(inputs, outputs), nn.ReLU(), _linear(outputs, outputs))
    raise InputError(f"unknown proj_type {kind!r}", expected="'linear' or 'mlp'")


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    return layer


def build_predictor(dim: int, hidden: int) -> nn.Module:
    """SimSiam's h: dim -> hidden -> dim with ReLU and biases, no batch norm (method.md 5)."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
