"""`cmcgns`: hand the command to the fork server of this run if there is one, else run it here."""

import sys


def main() -> None:
    """Entry point; imports next to nothing before it is known that the work is done here."""
    from cmcgns.pipeline.client import delegate

    code = delegate(sys.argv[1:])
    sys.exit(run(sys.argv[1:]) if code is None else code)


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit status. A job, which a graph has 1,500 of, does without the other commands."""
    if len(arguments) != 2 or arguments[0] != "step" or not arguments[1].startswith("{"):
        from cmcgns.cli import run as run_command

        return run_command(arguments)
    from cmcgns.errors import InputError
    from cmcgns.pipeline.record import run as run_job

    try:
        run_job(arguments[1])
    except InputError as error:
        print(f"cmcgns: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
