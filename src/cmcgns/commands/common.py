"""What the commands have in common: options, and how they speak."""

import json
from typing import Annotated, Any

import typer

Profile = Annotated[str, typer.Option(help="Which profile of params.yaml.")]
ForHolders = Annotated[
    bool,
    typer.Option(
        "--for-holders", help="It goes to people who have signed the agreements of the data it was made of."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="For a machine.")]


def example(arguments: str) -> str:
    """The last line of a command's help; a test parses every one of them."""
    return f"Example: cmcgns {arguments}"


def say(text: str) -> None:
    """Print, and do not wait for more."""
    print(text, flush=True)


def say_json(document: Any) -> None:
    """Print for a machine."""
    say(json.dumps(document, indent=1, default=str))


def say_counts(title: str, counts: dict[str, Any]) -> None:
    """One line: `title: 3 these, 4 those`."""
    say(f"{title}: " + ", ".join(f"{value} {name}" for name, value in counts.items()))
