"""Recordings that are made of others, or of a picture in memory; experts see no difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Self

import numpy as np

from affuse.errors import MediaError
from affuse.media.decoding import Probe
from affuse.media.recording import Frame, Recording, Watch
from affuse.media.transcript import Words
from affuse.timeline import Segment, Timeline

__all__ = ["Excerpt", "Picture"]

# Tables round their times; what ends later than this after the recording is a mistake.
_OVERHANG = 0.5


class _View(Recording):
    """A recording that reads its frames and sound in a way of its own, and keeps it when it is given other words."""

    def with_words(self, cues: Iterable[Words], *notes: str) -> Self:
        """The same recording with other words.

        Parameters
        ----------
        cues : iterable of Words
            The words in order of time.
        *notes : str
            Further sentences that the user should know.

        Returns
        -------
        Recording
        """
        other = copy(self)
        other.cues = tuple(cues)
        other._parts = replace(self._parts, notes=(*self._parts.notes, *notes))
        return other


class Excerpt(_View):
    """A stretch of another recording, on a clock of its own that begins at 0.

    Words that lie in the stretch come with it. Nothing is written to disk; the recording is decoded from its beginning.

    Parameters
    ----------
    whole : Recording
        A video, sound or timed transcript.
    start, end : float, optional
        Seconds; the beginning and the end of the recording where None.

    Raises
    ------
    MediaError
        If the recording has no duration, or ends before the stretch does (by more than half a second).

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("talk.srt").write_text("1\\n00:00:04,000 --> 00:00:06,000\\nWhat a day.\\n")
    >>> stretch = Excerpt(Recording.open("talk.srt"), start=3.0, end=5.0)
    >>> stretch.duration, stretch.cues[0].segment
    (2.0, Segment(start=1.0, end=2.0))
    """

    def __init__(self, whole: Recording, start: float | None = None, end: float | None = None) -> None:
        stretch = _stretch(whole, start, end)
        cues = [
            replace(c, segment=Segment(max(c.segment.start, stretch.start), min(c.segment.end, stretch.end)))
            for c in whole.cues
            if c.segment.overlap(stretch) > 0
        ]
        moved = tuple(replace(c, segment=_moved(c.segment, -stretch.start)) for c in cues)
        sound_start = max(0.0, whole.sound_start - stretch.start)
        parts = replace(whole._parts, duration=stretch.duration, notes=(), sound_start=sound_start)
        super().__init__(whole.name, whole.path, whole.kind, parts, moved, whole.budget)
        self._whole = whole
        self._start = stretch.start

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, about the whole recording and about the stretch."""
        return (*self._whole.notes, *self._parts.notes)

    def frames(
        self, times: Iterable[float], max_side: int | None = None, watch: Watch | None = None
    ) -> Iterator[Frame]:
        """As `Recording.frames`, with times from the beginning of the stretch.

        Parameters
        ----------
        times : iterable of float
            Seconds, ascending.
        max_side : int, optional
            Bound of the longer side in pixels.
        watch : Watch, optional
            Who sees pictures at other times as well.

        Yields
        ------
        Frame
        """
        inside = (time + self._start for time in times if 0 <= time < self.duration)
        for frame in self._whole.frames(inside, max_side, None if watch is None else self._moved_watch(watch)):
            yield Frame(frame.time - self._start, frame.image)

    def _moved_watch(self, watch: Watch) -> Watch:
        times = (time + self._start for time in watch.times if 0 <= time < self.duration)
        return replace(watch, times=times, see=lambda time, picture: watch.see(time - self._start, picture))

    def sound(self, timeline: Timeline, channel: int | None = None) -> Iterator[np.ndarray]:
        """As `Recording.sound`, with windows from the beginning of the stretch.

        Parameters
        ----------
        timeline : Timeline
            The windows.
        channel : int, optional
            One channel, counted from 0; the mean of all where None.

        Yields
        ------
        array of float32, shape (n,)
            Samples at 16 kHz.
        """
        return self._whole.sound(self._on_the_whole(timeline), channel)

    def channel_sounds(self, timeline: Timeline) -> Iterator[tuple[np.ndarray, ...]]:
        """As `Recording.channel_sounds`, with windows from the beginning of the stretch.

        Parameters
        ----------
        timeline : Timeline
            The windows.

        Yields
        ------
        tuple of arrays of float32, shape (n,)
            One array a channel.
        """
        return self._whole.channel_sounds(self._on_the_whole(timeline))

    def _on_the_whole(self, timeline: Timeline) -> Timeline:
        return Timeline(tuple(_moved(segment, self._start) for segment in timeline))

    @contextmanager
    def sound_kept(self) -> Iterator[None]:
        """As `Recording.sound_kept`, of the whole recording.

        Yields
        ------
        None
        """
        with self._whole.sound_kept():
            yield


def _stretch(whole: Recording, start: float | None, end: float | None) -> Segment:
    if whole.duration == 0:
        raise MediaError(f"{whole.name} is a {whole.kind} without duration; it has no stretches")
    start, last = start or 0.0, whole.duration if end is None else end
    if not 0 <= start < last or start >= whole.duration or last > whole.duration + _OVERHANG:
        raise MediaError(f"{whole.name} lasts {whole.duration:.2f} s; it has no stretch from {start:g} s to {last:g} s")
    return Segment(start, min(last, whole.duration))


def _moved(segment: Segment, seconds: float) -> Segment:
    return Segment(segment.start + seconds, segment.end + seconds)


class Picture(_View):
    """A still picture that lies in memory.

    Parameters
    ----------
    image : array of uint8, shape (height, width, 3)
        RGB.
    name : str
        What messages and reports call it.

    Raises
    ------
    MediaError
        If the array has another shape or type.

    Examples
    --------
    >>> picture = Picture(np.zeros((48, 64, 3), dtype=np.uint8), "black")
    >>> next(picture.frames([0.0])).image.shape
    (48, 64, 3)
    """

    def __init__(self, image: np.ndarray, name: str = "picture") -> None:
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise MediaError(f"a picture must be uint8 of shape (h, w, 3); got {image.dtype} of shape {image.shape}")
        super().__init__(name, None, "picture", Probe())
        self._image = image

    def frames(
        self, times: Iterable[float], max_side: int | None = None, watch: Watch | None = None
    ) -> Iterator[Frame]:
        """The picture at each time that lies in its nominal second.

        Parameters
        ----------
        times : iterable of float
            Seconds.
        max_side : int, optional
            Bound of the longer side in pixels.
        watch : Watch, optional
            Sees nothing: a picture does not move.

        Yields
        ------
        Frame
        """
        from PIL import Image

        image = self._image
        if max_side is not None and max(image.shape[:2]) > max_side:
            small = Image.fromarray(image)
            small.thumbnail((max_side, max_side), Image.Resampling.BOX)
            image = np.asarray(small)
        for time in times:
            if 0 <= time < self.span.end:
                yield Frame(time, image)
