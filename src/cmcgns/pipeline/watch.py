"""How far a run is: one progress over all jobs that will run, and the time left, from what such jobs took before."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from cmcgns.pipeline.graph import Job
from cmcgns.pipeline.state import place
from cmcgns.progress import progress

TRUSTED = 0.1  # of the work: when so much is done, its speed corrects the estimate


class Watch:
    """The jobs of a run, and how long it is expected to take (s).

    Args:
        seconds: of the jobs whose like has run before.
    """

    def __init__(
        self, jobs: Sequence[Job] = (), seconds: Mapping[str, float] | None = None, whole: float = 0.0
    ):
        seconds = seconds or {}
        typical = sum(seconds.values()) / len(seconds) if seconds else 1.0
        self._work = {job.target: seconds.get(job.target, typical) for job in jobs}
        self._left = {target: place("jobs", target) for target in self._work}
        self._whole = whole if seconds else math.nan
        self._began = time.time()

    @contextmanager
    def shown(self) -> Iterator[Callable[[], None]]:
        """Yield what is to be called now and then."""
        with progress("jobs") as tick:
            yield lambda: tick(*self.look())

    def look(self) -> tuple[int, int, float]:
        """(jobs done, jobs in all, seconds left or NaN)."""
        for target, note in list(self._left.items()):
            with suppress(OSError):
                if note.stat().st_mtime >= self._began:
                    del self._left[target]
        share = 1 - sum(map(self._work.get, self._left)) / (sum(self._work.values()) or 1)
        spent = time.time() - self._began
        left = (
            spent / share * (1 - share) if share >= TRUSTED else max(self._whole - spent, 0.0)
        )  # NaN stays NaN
        return len(self._work) - len(self._left), len(self._work), left
