"""What every block of settings is made of."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


def without_none(table: Any) -> Any:
    """A table without the keys whose value is None: how an overlay removes what it would otherwise inherit."""
    return {k: v for k, v in table.items() if v is not None} if isinstance(table, dict) else table


class Section(BaseModel):
    """A block of `params.yaml`: nothing unknown, nothing converted in silence, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
