"""What `cmcgns methods` shows: the arms, their presets and where each comes from."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from cmcgns.methods import METHODS
from cmcgns.settings import Settings


def as_json(settings: Settings) -> list[dict[str, Any]]:
    """One entry an arm; for a pre-training method the parameters and training of each of its presets."""
    return [
        {
            "name": name,
            "title": method.title,
            "family": method.family,
            "source": method.source,
            "presets": {preset: _resolved(settings, name, preset) for preset in presets(settings, name)},
        }
        for name, method in METHODS.items()
    ]


def presets(settings: Settings, name: str) -> list[str]:
    """The presets of a method; an initialisation has none."""
    return list(settings.methods[name].presets) if name in settings.methods else []


def as_table(settings: Settings) -> None:
    """Print one line an arm."""
    table = Table("method", "title", "learns from", "phases", "presets", "source", box=None, pad_edge=False)
    for name, method in METHODS.items():
        chosen = settings.pretraining.preset
        names = presets(settings, name)
        used = chosen if chosen in names else "official"
        marked = ", ".join(f"{preset}*" if preset == used else preset for preset in names)
        table.add_row(name, method.title, method.family, ", ".join(method.phases), marked, method.source)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(
        f"* what profile {settings.profile!r} uses; values with their sources: params.yaml, `methods`"
    )


def _resolved(settings: Settings, name: str, preset: str) -> dict[str, Any]:
    chosen = settings.model_copy(
        update={"pretraining": settings.pretraining.model_copy(update={"preset": preset})}
    )
    change = chosen.preset(name)
    return {
        "image_weights": change.image_weights or settings.encoders.image.weights,
        "augmentation": change.augmentation or settings.pretraining.augmentation,
        "objective": chosen.objective(name),
        "training": {phase: chosen.training(name, phase) for phase in METHODS[name].phases},
    }
