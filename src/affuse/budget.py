"""How much of a recording or of a table is taken on: limits that are checked before the work, and not after it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields

from affuse.errors import ConfigError

__all__ = ["DEFAULT_BUDGET", "SERVICE_BUDGET", "Budget", "budget_in_use", "within_budget"]

_UNITS = {
    "max_duration": "s",
    "max_pixels": "pixels",
    "max_frames": "frames",
    "max_packets": "packets",
    "max_cues": "cues or words",
    "max_text": "bytes",
    "max_windows": "windows",
    "max_window_seconds": "s",
    "max_answers": "answers",
    "max_rows": "rows",
    "max_table_bytes": "bytes",
}


@dataclass(frozen=True)
class Budget:
    """The most that one recording or table may ask for; more is refused with a sentence that names the limit.

    The defaults take a day of sound, 8K video, pictures of telephones, subtitles of 100,000 cues and tables of half a
    million rows. Every command that reads recordings has an option of the same name for every limit
    (``--max-duration``), every command that reads tables alone one for the limits of tables.

    Parameters
    ----------
    max_duration : float
        Length of a recording, and the latest time in a transcript, in seconds.
    max_pixels : int
        Width times height of a picture or of a frame. Pillow sets an end of its own at 178,956,970 for pictures.
    max_frames : int
        Frames of the video.
    max_packets : int
        Coded pieces of video and sound, the entries of a file's index among them.
    max_cues : int
        Cues or words of a transcript.
    max_text : int
        Size of a transcript in bytes.
    max_windows : int
        Windows of an analysis.
    max_window_seconds : float
        Windows times their length, in seconds: how much is read where windows overlap.
    max_answers : int
        Windows times the speakers that a transcript names, each of whom gets an answer in every window.
    max_rows : int
        Rows of a table.
    max_table_bytes : int
        Size of a table in bytes; of Excel and Parquet files the size once they are unpacked.

    Raises
    ------
    ConfigError
        If a limit is not above 0.

    Examples
    --------
    >>> Budget(max_duration=60.0).excess("max_duration", 61.5)
    'the limit is 60 s (raise it with --max-duration, in Python with Budget.max_duration)'
    >>> Budget().excess("max_pixels", 7680 * 4320)
    ''
    """

    max_duration: float = 86_400.0
    max_pixels: int = 64_000_000
    max_frames: int = 6_000_000
    max_packets: int = 10_000_000
    max_cues: int = 300_000
    max_text: int = 25_000_000
    max_windows: int = 50_000
    max_window_seconds: float = 1_000_000.0
    max_answers: int = 500_000
    max_rows: int = 500_000
    max_table_bytes: int = 250_000_000

    def __post_init__(self) -> None:
        for limit in fields(self):
            if not getattr(self, limit.name) > 0:  # NaN is not above 0 either
                raise ConfigError(f"{limit.name} must be more than 0; got {getattr(self, limit.name):g}")

    def excess(self, name: str, value: float) -> str:
        """The second half of a sentence that refuses ``value``.

        Parameters
        ----------
        name : str
            A limit, such as "max_pixels".
        value : float
            What is asked for, in its unit.

        Returns
        -------
        str
            Empty where the value is within the limit.
        """
        return self.named(name) if value > getattr(self, name) else ""

    def named(self, name: str) -> str:
        """A limit and how it is raised.

        Parameters
        ----------
        name : str
            A limit, such as "max_pixels".

        Returns
        -------
        str
            The second half of a sentence.
        """
        limit = f"{getattr(self, name):,.12g} {_UNITS[name]}"
        return f"the limit is {limit} (raise it with --{name.replace('_', '-')}, in Python with Budget.{name})"

    def check_windows(self, name: str, duration: float, window: float, hop: float, speakers: int = 1) -> None:
        """Refuse windows that are too many, or too many for their length or for the speakers.

        Parameters
        ----------
        name : str
            What the recording is called.
        duration, window, hop : float
            Seconds; see `affuse.timeline.Timeline.windows`.
        speakers : int
            How many people are answered about.

        Raises
        ------
        ConfigError
            If they exceed ``max_windows``, ``max_window_seconds`` or ``max_answers``.
        """
        count = 1 + max(0.0, math.ceil((duration - window) / hop)) if hop > 0 else 1.0
        what = f"{name}: {count:,.0f} windows of {window:g} s, one every {hop:g} s,"
        if why := self.excess("max_windows", count):
            raise ConfigError(f"{what} are too many; use a longer --hop: {why}")
        seconds = count * min(window, duration)
        if why := self.excess("max_window_seconds", seconds):
            raise ConfigError(f"{what} hold {seconds:,.0f} s together; use a longer --hop or a shorter --window: {why}")
        if why := self.excess("max_answers", count * max(1, speakers)):
            raise ConfigError(f"{what} are too many for {speakers:,} speakers; use a longer --hop: {why}")


DEFAULT_BUDGET = Budget()
"""What is taken on where nothing else is said."""

SERVICE_BUDGET = Budget(max_duration=7200.0)
"""What a service takes on where nothing else is said: two hours of a recording."""

_IN_USE: ContextVar[Budget] = ContextVar("affuse_budget", default=DEFAULT_BUDGET)


def budget_in_use() -> Budget:
    """The budget of whatever opens a recording or a table and names none.

    Returns
    -------
    Budget
        That of the innermost `within_budget`, else `DEFAULT_BUDGET`.
    """
    return _IN_USE.get()


@contextmanager
def within_budget(budget: Budget) -> Iterator[Budget]:
    """Open recordings and tables within other limits than the defaults, for the length of a ``with`` statement.

    It holds for this thread and for what is awaited in it, not for threads and processes that are started in it.

    Parameters
    ----------
    budget : Budget
        The limits.

    Yields
    ------
    Budget

    Examples
    --------
    >>> with within_budget(Budget(max_rows=1000)):
    ...     budget_in_use().max_rows
    1000
    >>> budget_in_use().max_rows
    500000
    """
    before = _IN_USE.set(budget)
    try:
        yield budget
    finally:
        _IN_USE.reset(before)
