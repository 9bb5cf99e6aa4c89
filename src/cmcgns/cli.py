"""The command line, put together from `cmcgns.commands`. A command parses, calls one function of its room, and prints.

The steps of a study have no commands of their own: the rules of the job graph hand each of them to `cmcgns step`.
"""

import sys

import typer

from cmcgns.audit.command import audit_app
from cmcgns.commands import data, study, training
from cmcgns.commands.common import example
from cmcgns.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="CM-CGNS reproduced: from raw radiographs and reports to the paper's tables.",
    epilog=example("reproduce --profile demo"),
)
for panel, part, name in (
    ("The study", study.app, None),
    ("Data", data.app, None),
    ("Data", audit_app, "audit"),
    ("Methods", training.app, None),
):
    for entry in [*part.registered_commands, *part.registered_groups] if name is None else []:
        entry.rich_help_panel = panel
    app.add_typer(part, name=name, rich_help_panel=panel)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; an `InputError` ends in one message."""
    try:
        result = app(arguments, standalone_mode=False)  # gives back the status of `typer.Exit`
    except InputError as error:
        print(f"cmcgns: {error}", file=sys.stderr)
        return 1
    except typer.Abort:
        return 130
    except Exception as error:  # Typer's own usage errors know how to show themselves
        if hasattr(error, "show"):
            error.show()
            return 2
        raise
    return result if isinstance(result, int) else 0
