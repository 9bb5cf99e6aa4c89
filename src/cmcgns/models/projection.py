"""Projections to the common dimension, and SimSiam's predictor."""

from torch import Tensor, nn

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


def build_mlp(
    inputs: int, hidden: int, outputs: int, *, norm: str = "none", bias: bool = True
) -> nn.Sequential:
    """(N, inputs) -> (N, outputs): Linear - [batch norm] - ReLU - Linear - [batch norm].

    Args:
        norm: "none"; "hidden": after the first layer only; "all": after both; "last_plain": after both, the last
            without scale and shift. With batch norm the rows must be real ones, not padding.
        bias: of the linear layers without batch norm behind them.
    """
    if norm not in ("none", "hidden", "all", "last_plain"):
        raise InputError(f"unknown norm {norm!r}", expected="'none', 'hidden', 'all' or 'last_plain'")
    layers: list[nn.Module] = [nn.Linear(inputs, hidden, bias and norm == "none")]
    layers += [nn.BatchNorm1d(hidden)] if norm != "none" else []
    layers += [nn.ReLU(), nn.Linear(hidden, outputs, bias and norm in ("none", "hidden"))]
    if norm in ("all", "last_plain"):
        layers.append(nn.BatchNorm1d(outputs, affine=norm == "all"))
    return nn.Sequential(*layers)


def apply_rows(module: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """x (B, T, C) with `module` (N, C) -> (N, D) applied where mask (B, T) is True -> (B, T, D), 0 elsewhere.

    A batch norm in `module` then sees real rows only, so that padding changes nothing.
    """
    rows = module(x[mask])
    return rows.new_zeros(*mask.shape, rows.shape[-1]).masked_scatter(mask.unsqueeze(-1), rows)


def build_predictor(dim: int, hidden: int) -> nn.Module:
    """SimSiam's h: dim -> hidden -> dim with ReLU and biases, no batch norm (method.md 5)."""
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
