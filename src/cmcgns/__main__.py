"""`cmcgns`: hand the command to the warm process of this run if there is one, else run it here."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point; imports next to nothing before it is known that the work is done here."""
    from cmcgns.pipeline.client import delegate

    code = delegate(sys.argv[1:])
    if code is None:
        from cmcgns.cli import run

        code = run(sys.argv[1:])
    sys.exit(code)


if __name__ == "__main__":
    main()
