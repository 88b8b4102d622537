"""Wakes idle workers when a job comes, so that they need not wait for their next look at the store."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["JobNotifier"]


class JobNotifier:
    """A signal "a job waits" between threads of one process, which can be passed on to others.

    It carries no job: which one waits, the `JobStore` says. A signal that is lost or sent twice does no harm, since
    workers also look at the store by themselves.

    Examples
    --------
    >>> notifier = JobNotifier()
    >>> notifier.notify()
    >>> notifier.wait(1.0), notifier.wait(0.0)
    (True, False)
    """

    def __init__(self) -> None:
        self._came = threading.Event()
        self._listeners: list[Callable[[], None]] = []

    def notify(self) -> None:
        """Say that a job waits."""
        self._came.set()
        for listener in tuple(self._listeners):
            listener()

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, at most some time; whether one came."""
        came = self._came.wait(seconds)
        self._came.clear()
        return came

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` at every signal, in the thread that sends it."""
        self._listeners.append(listener)
