"""What the commands have in common: options, settings, and how they speak."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

Source = Literal["mimic_cxr", "chexpert", "rsna", "covidx", "siim", "object_cxr"]
Profile = Annotated[str, typer.Option(help="Which profile of params.yaml.")]
SettingsText = Annotated[
    str | None, typer.Option("--settings", help="JSON; taken from params.yaml if not given.")
]
Scheme = Annotated[str, typer.Option(help="Split scheme: official, paper or audited.")]
Json = Annotated[bool, typer.Option("--json", help="For a machine.")]


def example(arguments: str) -> str:
    """The last line of a command's help; a test parses every one of them."""
    return f"Example: cmcgns {arguments}"


def settings_of(text: str | None, profile: str, step: str, **which: Any) -> dict[str, Any]:
    """The slice of the settings that a step may read: as given, or from params.yaml."""
    if text is not None:
        return json.loads(text)
    from cmcgns.pipeline.plan import Plan

    return Plan.load(profile).slice(step, **which)


def say(text: str) -> None:
    """Print, and do not wait for more."""
    print(text, flush=True)


def say_json(document: Any) -> None:
    """Print for a machine."""
    say(json.dumps(document, indent=1, default=str))


def say_counts(title: str, counts: dict[str, Any]) -> None:
    """One line: `title: 3 these, 4 those`."""
    say(f"{title}: " + ", ".join(f"{value} {name}" for name, value in counts.items()))
