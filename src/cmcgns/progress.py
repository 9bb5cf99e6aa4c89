"""How far a long piece of work is: a bar with the time left on a terminal, a plain line a minute in a log.

The rooms know nothing of it: they take a function `(done, total)` and the command line hands them one. Both forms go to
standard error, so that what a command prints stays what a machine reads.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[int, int], None]  # so much is done, of so much

SHOW_AFTER = 1.0  # s: work that is done sooner needs no bar


@contextmanager
def progress(title: str, every: float = 60) -> Iterator[Tick]:
    """Yield what the work calls with (done, total); a `total` other than before begins a new stage.

    Args:
        title: what is being done.
        every: seconds between two lines where there is no terminal.
    """
    if not sys.stderr.isatty():
        yield _lines(title, every)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip
    task, began = bar.add_task(title, total=None), time.monotonic()

    def tick(done: int, total: int) -> None:
        if bar.tasks[0].total not in (None, total):
            bar.reset(task)
        bar.update(task, completed=done, total=total)
        if not bar.live.is_started and time.monotonic() - began > SHOW_AFTER:
            bar.start()

    try:
        yield tick
    finally:
        bar.stop()


def _lines(title: str, every: float, clock: Callable[[], float] = time.monotonic) -> Tick:
    began, first, stage, told = clock(), 0, 0, clock()

    def tick(done: int, total: int) -> None:
        nonlocal began, first, stage, told
        now = clock()
        if total != stage:  # a resumed training begins in the middle
            began, first, stage = now, done, total
        if now - told < every or done >= total:
            return
        told = now
        left = f", {duration((now - began) / (done - first) * (total - done))} left" if done > first else ""
        print(f"{title}: {done:,} of {total:,}{left}", file=sys.stderr, flush=True)

    return tick


def duration(seconds: float) -> str:
    """Two or three digits and a unit: 4.2 s, 35 s, 12 min, 3.4 h, 6.0 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            value = seconds / size
            return f"{value:.0f} {unit}" if unit == "min" else f"{value:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
