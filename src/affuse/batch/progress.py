"""What a batch has done so far, for people who wait: a bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["BatchProgress", "ProgressReport", "shown_progress"]

_EVERY = 60.0  # seconds between two lines in a log


@dataclass(frozen=True)
class ProgressReport:
    """How far a batch is.

    Parameters
    ----------
    total : int
        Recordings in all.
    done : int
        Recordings that are finished or failed, those of earlier runs included.
    failed : int
        How many of them failed.
    earlier : int
        How many of them earlier runs had done.
    seconds : float
        Since the start of this run.
    share : float
        Of the bytes of all recordings that are done, 0 to 1.
    rate : float
        Recordings a minute that this run analyses; 0 before the first.
    seconds_left : float or None
        From the bytes that are left and the speed so far; None before the first recording.
    """

    total: int
    done: int
    failed: int
    earlier: int
    seconds: float
    share: float
    rate: float
    seconds_left: float | None

    def sentence(self) -> str:
        """One line for a log."""
        left = "" if self.seconds_left is None else f", about {_span(self.seconds_left)} left"
        return f"{self.done} of {self.total} recordings, {self.failed} failed, {self.rate:.1f} a minute{left}"


BatchProgress = Callable[[ProgressReport], None]
"""Called with every recording that is done."""


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@contextmanager
def shown_progress() -> Iterator[BatchProgress]:
    """Show progress on standard error: a bar on a terminal, elsewhere a line a minute."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading the experts", total=1.0)
        yield lambda report: bar.update(task, completed=report.share, description=report.sentence())


class _Lines:
    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, report: ProgressReport) -> None:
        now = time.monotonic()
        if now - self._last >= _EVERY:
            self._last = now
            print(report.sentence(), file=sys.stderr, flush=True)
