"""One clock for frames, sound and words: segments and windows in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from affuse.errors import ConfigError

__all__ = ["DEFAULT_HOP", "DEFAULT_WINDOW", "Segment", "Timeline"]

# Seconds. Chosen by measurement: docs/windows.md shows accuracy of the voice against the length of a window.
DEFAULT_WINDOW = 3.0
DEFAULT_HOP = 1.0

# Two times closer than this are the same time: far below a sample at 16 kHz (62 microseconds),
# far above the rounding of seconds held in a float over a day of recording.
_TOLERANCE = 1e-6
_SAME_WINDOW = 0.25  # of a hop: windows that begin closer together hold nearly the same


@dataclass(frozen=True, order=True, slots=True)
class Segment:
    """A half-open stretch of time ``[start, end)``.

    Parameters
    ----------
    start, end : float
        Seconds; ``end`` must be after ``start``.

    Raises
    ------
    ConfigError
        If a time is not finite, or the segment does not end after it starts.

    Examples
    --------
    >>> segment = Segment(1.0, 3.0)
    >>> segment.duration, segment.middle, 1.0 in segment, 3.0 in segment
    (2.0, 2.0, True, False)
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ConfigError(f"a segment needs finite times; got {self.start} to {self.end}")
        if self.end <= self.start:
            raise ConfigError(f"a segment must end after it starts; got {self.start} to {self.end}")

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start

    @property
    def middle(self) -> float:
        """Time half-way between start and end, in seconds."""
        return (self.start + self.end) / 2

    def overlap(self, other: Segment) -> float:
        """Seconds that both segments share.

        Parameters
        ----------
        other : Segment
            Another stretch on the same clock.

        Returns
        -------
        float
            0 where they only touch.
        """
        return max(0.0, min(self.end, other.end) - max(self.start, other.start))

    def __contains__(self, time: float) -> bool:
        return self.start <= time < self.end


@dataclass(frozen=True)
class Timeline:
    """An ordered row of segments, such as the windows of an analysis.

    Parameters
    ----------
    segments : tuple of Segment
        In order of their starts; they may overlap.

    Raises
    ------
    ConfigError
        If the segments are not in order.

    Examples
    --------
    >>> timeline = Timeline.windows(4.0, window=3.0, hop=1.0)
    >>> len(timeline), timeline[1]
    (2, Segment(start=1.0, end=4.0))
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if any(b.start < a.start for a, b in zip(self.segments, self.segments[1:], strict=False)):
            raise ConfigError("the segments of a timeline must be ordered by their start")

    @classmethod
    def windows(cls, duration: float, window: float = DEFAULT_WINDOW, hop: float = DEFAULT_HOP) -> Timeline:
        """Cover a recording with windows of equal length.

        The last window ends with the recording; a recording shorter than one window gets a single shorter window.
        Where the last window would begin less than a quarter of a hop after the one before it, it takes that one's
        place: the two would hold the same.

        Parameters
        ----------
        duration : float
            Length of the recording in seconds.
        window : float
            Length of a window in seconds.
        hop : float
            Seconds from the start of one window to the start of the next, at most ``window``.

        Returns
        -------
        Timeline

        Raises
        ------
        ConfigError
            If a length is not above 0, or ``hop`` exceeds ``window`` and so leaves gaps.
        """
        if not (duration > 0 and window > 0 and hop > 0):
            raise ConfigError(f"duration, window and hop must be above 0 s; got {duration:g}, {window:g} and {hop:g}")
        if hop > window + _TOLERANCE:
            raise ConfigError(
                f"a hop of {hop:g} s with windows of {window:g} s leaves gaps; use a hop of at most {window:g} s"
            )
        hops = (duration - window) / hop
        near = _SAME_WINDOW if hops > 1 and hop * (1 + _SAME_WINDOW) <= window else _TOLERANCE  # never leaves a gap
        n = 1 + max(0, math.ceil(hops - near))
        starts = [i * hop for i in range(n)]
        if n > 1:
            starts[-1] = duration - window  # the last window is moved back so that it is as long as the others
        ends = [*(min(duration, start + window) for start in starts[:-1]), duration]
        return cls(tuple(Segment(start, end) for start, end in zip(starts, ends, strict=True)))

    def __len__(self) -> int:
        return len(self.segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    def __getitem__(self, index: int) -> Segment:
        return self.segments[index]

    @property
    def starts(self) -> np.ndarray:
        """Start of every window in seconds, shape (n,)."""
        return np.array([s.start for s in self.segments], dtype=float)

    @property
    def ends(self) -> np.ndarray:
        """End of every window in seconds, shape (n,)."""
        return np.array([s.end for s in self.segments], dtype=float)

    def crop(self, bounds: Segment) -> Timeline:
        """Keep the parts of the windows that lie inside other bounds.

        Parameters
        ----------
        bounds : Segment
            What to keep.

        Returns
        -------
        Timeline
        """
        return Timeline(
            tuple(
                Segment(max(s.start, bounds.start), min(s.end, bounds.end))
                for s in self.segments
                if s.overlap(bounds) > _TOLERANCE
            )
        )

    def overlaps(self, others: Sequence[Segment]) -> np.ndarray:
        """Seconds that every window shares with every other segment.

        Parameters
        ----------
        others : sequence of Segment, length m
            In any order.

        Returns
        -------
        array of shape (n, m)
        """
        starts = np.array([o.start for o in others], dtype=float)
        ends = np.array([o.end for o in others], dtype=float)
        shared = np.minimum(self.ends[:, None], ends) - np.maximum(self.starts[:, None], starts)
        return np.maximum(shared, 0.0)
