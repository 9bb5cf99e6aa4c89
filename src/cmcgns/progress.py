"""How far a long piece of work is: a bar with the time left on a terminal, a plain line a minute in a log.

The rooms know nothing of it: they take a function `(done, total)` and the command line hands them one. Both forms go to
standard error, so that what a command prints stays what a machine reads.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[
    ..., None
]  # so much is done, of so much, and the seconds left (NaN: nobody can say) where the work itself knows

SHOW_AFTER = 1.0  # s: work that is done sooner needs no bar


@contextmanager
def progress(title: str, every: float = 60) -> Iterator[Tick]:
    """Yield what the work calls with (done, total) or (done, total, seconds left); another `total` begins a new stage.

    Args:
        title: what is being done.
        every: seconds between two lines where there is no terminal.
    """
    if not sys.stderr.isatty():
        yield _lines(title, every)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Left(TimeRemainingColumn):
        """What the work says, or what its speed says."""

        def render(self, task: Task) -> Text:
            left = task.fields.get("left")
            return super().render(task) if left is None else Text(_left(left).removeprefix(", "))

    columns: list[str | ProgressColumn] = ["{task.description}", BarColumn(), MofNCompleteColumn(), Left()]
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task, began = bar.add_task(title, total=None), time.monotonic()

    def tick(done: int, total: int, left: float | None = None) -> None:
        if bar.tasks[0].total not in (None, total):
            bar.reset(task)
        bar.update(task, completed=done, total=total, left=left)
        if not bar.live.is_started and time.monotonic() - began > SHOW_AFTER:
            bar.start()

    try:
        yield tick
    finally:
        bar.stop()


def _lines(title: str, every: float, clock: Callable[[], float] = time.monotonic) -> Tick:
    began, first, stage, told = clock(), 0, 0, clock()

    def tick(done: int, total: int, known: float | None = None) -> None:
        nonlocal began, first, stage, told
        now = clock()
        if total != stage:  # a resumed training begins in the middle
            began, first, stage = now, done, total
        if now - told < every or done >= total:
            return
        told = now
        if known is None and done > first:
            known = (now - began) / (done - first) * (total - done)
        print(f"{title}: {done:,} of {total:,}{_left(known)}", file=sys.stderr, flush=True)

    return tick


def _left(seconds: float | None) -> str:
    return "" if seconds is None or math.isnan(seconds) else f", {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Two or three digits and a unit: 4.2 s, 35 s, 12 min, 3.4 h, 6.0 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            value = seconds / size
            return f"{value:.0f} {unit}" if unit == "min" else f"{value:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
