"""A progress bar that only shows up where somebody is waiting: on a terminal, after two seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Progress", "progress_bar"]

Progress = Callable[[str, float], None]
"""Called with what is being done, such as a modality, and how much of it is done, from 0 to 1."""

_PATIENCE = 2.0  # seconds


@contextmanager
def progress_bar(title: str) -> Iterator[Progress | None]:
    """Show a progress bar on a terminal while something takes longer than two seconds.

    Parameters
    ----------
    title : str
        What is being done.

    Yields
    ------
    callable or None
        Call it with what is being done and its share from 0 to 1; None where standard error is no terminal.

    Examples
    --------
    >>> with progress_bar("reading") as progress:
    ...     if progress is not None:
    ...         progress("voice", 0.5)
    """
    if not sys.stderr.isatty():
        yield None
        return
    bar = _Bar(title)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task(title, total=1.0)
        self._started = time.monotonic()
        self._shares: dict[str, float] = {}
        self._lock = threading.Lock()  # experts report from two threads
        self._shown = False

    def __call__(self, modality: str, share: float) -> None:
        with self._lock:
            self._shares[modality] = share
            # Face and voice are what takes time; the slowest says how far the whole is.
            slowest = min(self._shares.values())
            if not self._shown and time.monotonic() - self._started > _PATIENCE:
                self._progress.start()
                self._shown = True
            self._progress.update(self._task, completed=slowest)

    def close(self) -> None:
        with self._lock:
            if self._shown:
                self._progress.stop()
