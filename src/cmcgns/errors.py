"""The one exception a user may see: what is wrong, where, what was expected, and what to do."""

from pathlib import Path


class InputError(Exception):
    """Bad input, told in the user's words. The command line prints it as one message, without a traceback.

    Args:
        problem: what is wrong, one clause.
        file: the offending file, if there is one.
        row: where in it - a line number, a row's id or a column name.
        expected: what a right input looks like.
        remedy: what to do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: str | int | None = None,
        expected: str | None = None,
        remedy: str | None = None,
    ):
        self.problem, self.file, self.row = problem, file, row
        self.expected, self.remedy = expected, remedy
        where = "" if file is None else f"{file}{'' if row is None else f', row {row}'}: "
        parts = [f"{where}{problem}"]
        if expected:
            parts.append(f"expected {expected}")
        if remedy:
            parts.append(remedy)
        super().__init__(". ".join(part.rstrip(".") for part in parts) + ".")
