"""One way to every table: by its name and its slice of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmcgns.errors import InputError
from cmcgns.pipeline.paths import Paths


def write(name: str, paths: Paths, values: dict[str, Any]) -> None:
    """Write the table `name` of a profile.

    Args:
        values: the slice `table` of the settings (`pipeline.plan`).

    Raises:
        InputError: the profile has nothing to put into it.
    """
    if not any(values.get(key) for key in ("groups", "metrics", "phases", "tables", "cells")):
        raise InputError(f"profile {paths.profile!r} has no runs for the table {name!r}", file="params.yaml")
    if "metrics" in values:
        from cmcgns.reporting.alignment_tables import write_alignment_table

        metrics = {arm: Path(file) for arm, file in values["metrics"].items()}
        write_alignment_table(name, paths, metrics=metrics)
    elif name == "compute":
        from cmcgns.reporting.compute import write_compute

        write_compute(paths, **values)
    elif name == "leakage":
        from cmcgns.reporting.leakage import write_leakage

        write_leakage(paths, **values)
    elif name == "comparisons":
        from cmcgns.reporting.comparisons import write_comparisons

        write_comparisons(paths, **values)
    elif name == "ranks":
        from cmcgns.reporting.ranks import write_ranks

        write_ranks(paths, **values)
    elif name == "claims":
        from cmcgns.reporting.claims import write_claims

        grounding = {arm: Path(file) for arm, file in values.pop("grounding").items()}
        write_claims(paths, comparisons=Path(values.pop("comparisons")), grounding=grounding, **values)
    else:
        from cmcgns.reporting.tables import write_table

        write_table(name, paths, **values)
