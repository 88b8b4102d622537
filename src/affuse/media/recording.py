"""One recording of people, whatever it is made of: video, sound, a picture or words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, tee
from pathlib import Path
from threading import Lock

import numpy as np

from affuse.budget import DEFAULT_BUDGET, Budget, budget_in_use
from affuse.errors import ConfigError, MediaError
from affuse.media.decoding import (
    SAMPLE_RATE,
    TOLERANCE,
    Chunk,
    Converter,
    Damage,
    GreyConverter,
    Probe,
    Shown,
    chunks,
    is_large,
    probe,
    shown_frames,
)
from affuse.media.pictures import is_animated, is_picture, read_picture
from affuse.media.transcript import TRANSCRIPT_SUFFIXES, Words, has_times, read_transcript, spread
from affuse.timeline import Segment, Timeline

__all__ = ["SAMPLE_RATE", "Frame", "Recording", "Watch"]

# Sound of at most this length times its channels, 15 MB, is kept once it was decoded: several ask for it.
_KEPT_SECONDS = 240.0

_ESTIMATED = "times of the plain-text transcript are estimated from the length of its sentences"


@dataclass(frozen=True)
class Frame:
    """What is on screen at a time.

    Parameters
    ----------
    time : float
        Seconds from the start of the recording.
    image : array of uint8, shape (height, width, 3)
        RGB, upright, with square pixels.

    Examples
    --------
    >>> Frame(0.5, np.zeros((48, 64, 3), dtype=np.uint8)).image.shape
    (48, 64, 3)
    """

    time: float
    image: np.ndarray


@dataclass(frozen=True)
class Watch:
    """Somebody who sees grey pictures of a video while it is decoded for somebody else.

    Where decoding takes most of the time, in videos of more than a million pixels, pictures that no other picture needs
    are left out; what is seen then has the time at which it began.

    Parameters
    ----------
    times : iterator of float
        Seconds, ascending. They are taken up to a second before they are shown.
    see : callable
        Called with each of these times and the picture on screen, uint8 of shape (height, width), unless it is lost.
    max_side : int
        Bound of its longer side in pixels.

    Examples
    --------
    >>> from affuse.testing import synthetic
    >>> seen = []
    >>> watch = Watch(iter([0.5, 1.0]), lambda time, picture: seen.append((time, picture.shape)), max_side=64)
    >>> frames = list(Recording.open(synthetic.write_clip(Path("drawn.mp4"))).frames([0.75], watch=watch))
    >>> seen
    [(0.5, (48, 64)), (1.0, (48, 64))]
    """

    times: Iterator[float]
    see: Callable[[float, np.ndarray], None]
    max_side: int


class _Asked:
    """Ascending times that are met one by one."""

    def __init__(self, times: Iterator[float]) -> None:
        self._times = times
        self._next = next(times, None)

    @property
    def is_over(self) -> bool:
        return self._next is None

    def during(self, start: float, end: float) -> list[float]:
        """The times in a stretch; those before it are forgotten."""
        found = []
        while self._next is not None and self._next < end - TOLERANCE:
            found += [self._next] if self._next >= start - TOLERANCE else []
            self._next = next(self._times, None)
        return found


class Recording:
    """A video, a sound file, a picture or a text; `Recording.open` and `Recording.from_text` make one.

    It is cheap to open and is decoded as a stream, in memory that does not grow with its length. All times count from
    the start of the earliest stream.

    Parameters
    ----------
    name : str
        What messages and reports call it.
    path : Path or None
        The file, where there is one.
    kind : {"video", "audio", "picture", "text"}
        What it is.
    parts : Probe
        Streams and duration, as a look at the file found them.
    cues : tuple of Words
        The words in order of time.
    budget : Budget
        The most that may be read of it.

    Attributes
    ----------
    duration : float
        Seconds; 0 for a picture or a text without times.

    Examples
    --------
    >>> recording = Recording.from_text("What a day. I am so happy!")
    >>> recording.kind, [cue.text for cue in recording.cues]
    ('text', ['What a day.', 'I am so happy!'])
    """

    def __init__(
        self,
        name: str,
        path: Path | None,
        kind: str,
        parts: Probe,
        cues: tuple[Words, ...] = (),
        budget: Budget = DEFAULT_BUDGET,
    ) -> None:
        self.name = name
        self.path = path
        self.kind = kind
        self.duration = parts.duration
        self.cues = cues
        self.budget = budget
        self._parts = parts
        self._damage: dict[str, list[Damage]] = {"video": [], "sound": []}  # of every time that it was decoded
        self._kept: _Kept | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        transcript: str | Path | None = None,
        audio_stream: int | None = None,
        budget: Budget | None = None,
    ) -> Recording:
        """Open a video, a sound file, a picture, or a transcript alone.

        Parameters
        ----------
        path : str or Path
            A recording in one of the usual formats (`affuse.media.containers.CONTAINERS`), a picture, or a transcript
            (.srt, .vtt, .txt, .json).
        transcript : str or Path, optional
            The words of the recording.
        audio_stream : int, optional
            Which of several audio streams to hear, from 0; the best one by default.
        budget : Budget, optional
            The most that may be read of it; by default `affuse.budget.budget_in_use`.

        Returns
        -------
        Recording

        Raises
        ------
        MediaError
            If the file is missing, empty, broken, holds nothing to analyse or exceeds the budget.
        TranscriptError
            If the transcript does not parse, or outlasts the recording by more than a second.
        ConfigError
            If there is no such audio stream.
        """
        path = Path(path)
        budget = budget_in_use() if budget is None else budget
        _check_file(path)
        if path.suffix.lower() in TRANSCRIPT_SUFFIXES:
            return cls._from_transcript(path, transcript, audio_stream, budget)
        if is_picture(path, budget):
            kind, parts = "picture", _picture_parts(path, audio_stream, budget)
        else:
            parts = probe(path, audio_stream, budget)
            kind = "audio" if parts.video is None else "video"
        if transcript is None:
            return cls(path.name, path, kind, parts, budget=budget)
        cues = read_transcript(transcript, _span(parts).end, budget)
        notes = (*parts.notes, *_transcript_notes(Path(transcript), cues, parts.duration))
        return cls(path.name, path, kind, replace(parts, notes=notes), cues, budget)

    @classmethod
    def from_text(cls, text: str, name: str = "text") -> Recording:
        """Take a text; its sentences share the nominal second of `span` by their length.

        Parameters
        ----------
        text : str
            The words.
        name : str
            What messages and reports call it.

        Returns
        -------
        Recording

        Raises
        ------
        MediaError
            If the text is empty.
        """
        if not text.strip():
            raise MediaError("the text is empty")
        return cls(name, None, "text", Probe(), spread(text, Segment(0.0, 1.0)))

    @classmethod
    def _from_transcript(
        cls, path: Path, transcript: str | Path | None, audio_stream: int | None, budget: Budget
    ) -> Recording:
        if transcript is not None:
            raise ConfigError(f"{path} is a transcript itself; it cannot have another one ({transcript})")
        if audio_stream is not None:
            raise ConfigError(f"{path} is a text and has no audio stream; got audio_stream {audio_stream}")
        cues = read_transcript(path, budget=budget)
        if not cues:
            raise MediaError(f"{path} holds no words")
        duration = max(c.segment.end for c in cues) if has_times(path) else 0.0
        return cls(path.name, path, "text", Probe(duration=duration), cues, budget)

    def with_words(self, cues: Iterable[Words], *notes: str) -> Recording:
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
        parts = replace(self._parts, notes=(*self._parts.notes, *notes))
        return Recording(self.name, self.path, self.kind, parts, tuple(cues), self.budget)

    @property
    def has_frames(self) -> bool:
        """Whether there is a picture to look at."""
        return self.kind == "picture" or self._parts.video is not None

    @property
    def has_sound(self) -> bool:
        """Whether there is sound to listen to (which may still be silence)."""
        return self._parts.audio is not None

    @property
    def channels(self) -> int:
        """Number of channels of the sound; 0 where there is none."""
        return self._parts.channels if self.has_sound else 0

    @property
    def sound_start(self) -> float:
        """Seconds at which the sound begins, which may be after the picture."""
        return self._parts.sound_start

    @property
    def span(self) -> Segment:
        """The whole recording; what has no duration gets a nominal second, so that one window can hold it."""
        return _span(self._parts)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, one sentence each; damage is found, and noted, while decoding."""
        most = {kind: max(found, key=lambda own: own.count) for kind, found in self._damage.items() if found}
        damaged = (damage.describe(kind) for kind, damage in most.items() if damage.count)
        return (*self._parts.notes, *damaged)

    def frames(
        self, times: Iterable[float], max_side: int | None = None, watch: Watch | None = None
    ) -> Iterator[Frame]:
        """Decode what is on screen at some times: the latest frame that has started.

        Times before the first frame, after the last one and inside lost stretches yield nothing. The file is decoded
        once, forward.

        Parameters
        ----------
        times : iterable of float
            Seconds, ascending.
        max_side : int, optional
            Bound of the longer side in pixels.
        watch : Watch, optional
            Who sees pictures at other times as well, of a video.

        Yields
        ------
        Frame

        Raises
        ------
        ConfigError
            If the times run backwards, or ``max_side`` is not above 0.
        """
        if max_side is not None and max_side < 1:
            raise ConfigError(f"max_side must be at least 1 pixel; got {max_side}")
        if self.kind == "picture":
            return self._still(_ascending(times), max_side)
        return self._moving(_ascending(times), max_side, watch)

    def _new_damage(self, kind: str) -> Damage:
        self._damage[kind].append(Damage(self._parts.origin))
        return self._damage[kind][-1]

    def _still(self, times: Iterator[float], max_side: int | None) -> Iterator[Frame]:
        assert self.path is not None
        image: np.ndarray | None = None
        for time in times:
            if 0 <= time < self.span.end:
                image = read_picture(self.path, max_side, self.budget) if image is None else image
                yield Frame(time, image)

    def _moving(self, times: Iterator[float], max_side: int | None, watch: Watch | None) -> Iterator[Frame]:
        if self.path is None or self._parts.video is None:
            return
        damage = self._new_damage("video")
        convert = Converter(self._parts.aspect, max_side)
        times, ahead = tee(times)
        watched, watched_ahead = tee(iter(()) if watch is None else watch.times)
        source = self.path, self._parts.video, self._parts.origin
        shown = shown_frames(*source, damage, self.budget, ahead, watched_ahead)
        asked, watching = _Asked(times), _Asked(watched)
        grey = None if watch is None else GreyConverter(self._parts.aspect, watch.max_side)
        for now in shown:
            if watch is not None and grey is not None:
                _show(now, watching, watch, grey)
            here = asked.during(now.start, now.end)
            image = convert(now.frame) if here else None
            if image is not None:
                yield from (Frame(time, image) for time in here)
            elif here:
                damage.add(here[0] + damage.origin)
            if asked.is_over and watching.is_over:
                return

    def sound(self, timeline: Timeline, channel: int | None = None) -> Iterator[np.ndarray]:
        """Decode the sound of each window.

        A window that begins before the sound or outlasts it gets a shorter array, possibly an empty one; a gap inside
        the sound is filled with silence. The file is decoded once, forward, and only what later windows need is kept.

        Parameters
        ----------
        timeline : Timeline
            The windows.
        channel : int, optional
            One channel, counted from 0; the mean of all where None.

        Yields
        ------
        array of float32, shape (n,)
            Samples at 16 kHz (`SAMPLE_RATE`), from -1 to 1.

        Raises
        ------
        ConfigError
            If the recording has sound, but no such channel.
        """
        if channel is not None and self.has_sound and not 0 <= channel < self.channels:
            raise ConfigError(f"{self.name} has {self.channels} channels, counted from 0; got channel {channel}")
        return self._heard(timeline, channel)

    def channel_sounds(self, timeline: Timeline) -> Iterator[tuple[np.ndarray, ...]]:
        """As `sound`, of all channels at once, which takes no longer than one.

        Parameters
        ----------
        timeline : Timeline
            The windows.

        Yields
        ------
        tuple of arrays of float32, shape (n,)
            One array a channel.
        """
        if self.path is None or self._parts.audio is None:
            return
        sources = tee(self._chunks(self.path, self._parts.audio), self.channels)
        buffers = [_Buffer(source, channel) for channel, source in enumerate(sources)]
        for segment in timeline:
            yield tuple(b.take(round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE)) for b in buffers)

    def _heard(self, timeline: Timeline, channel: int | None) -> Iterator[np.ndarray]:
        if self.path is None or self._parts.audio is None:
            for _ in timeline:
                yield np.empty(0, dtype=np.float32)
            return
        buffer = _Buffer(self._chunks(self.path, self._parts.audio), channel)
        for segment in timeline:
            yield buffer.take(round(segment.start * SAMPLE_RATE), round(segment.end * SAMPLE_RATE))

    def _chunks(self, path: Path, stream: int) -> Iterator[Chunk]:
        if self._kept is not None:
            return iter(self._kept)
        return chunks(path, stream, self._parts.origin, self._new_damage("sound"), self.budget)

    @contextmanager
    def sound_kept(self) -> Iterator[None]:
        """While this lasts, sound is decoded once for all who ask for it, if the recording is short: 15 MB of it.

        Yields
        ------
        None

        Examples
        --------
        >>> with Recording.from_text("Hello.").sound_kept():
        ...     pass
        """
        stream = self._parts.audio
        short = self.duration * self.channels <= _KEPT_SECONDS
        if self.path is None or stream is None or self._kept is not None or not short:
            yield
        else:
            self._kept = _Kept(self._chunks(self.path, stream))
            try:
                yield
            finally:
                self._kept = None


class _Kept:
    """Chunks that several threads read, each at its own pace; whoever comes first decodes."""

    def __init__(self, source: Iterator[Chunk]) -> None:
        self._source = source
        self._found: list[Chunk] = []
        self._error: MediaError | None = None
        self._lock = Lock()

    def __iter__(self) -> Iterator[Chunk]:
        number = 0
        while self._has(number):
            yield self._found[number]
            number += 1

    def _has(self, number: int) -> bool:
        if number < len(self._found):
            return True
        with self._lock:
            if self._error is not None:  # whoever comes later must not take what was read for everything
                raise self._error
            try:
                self._found += [] if number < len(self._found) else islice(self._source, 1)
            except MediaError as error:
                self._error = error
                raise
            return number < len(self._found)


class _Buffer:
    """A sliding stretch of sound over a stream of chunks; positions count samples and may only move forward."""

    def __init__(self, source: Iterator[Chunk], channel: int | None) -> None:
        self._source = source
        self._channel = channel
        self._held: list[tuple[int, np.ndarray]] = []  # positions and samples (n,)

    def take(self, start: int, end: int) -> np.ndarray:
        """The samples of ``[start, end)``; forgets everything before ``start``."""
        self._held = [(position, samples) for position, samples in self._held if position + len(samples) > start]
        while not self._held or self._held[-1][0] + len(self._held[-1][1]) < end:
            chunk = next(self._source, None)
            if chunk is None:
                break
            if chunk.position + chunk.samples.shape[1] > start:
                self._held.append((chunk.position, _one(chunk.samples, self._channel)))
        return _join(self._held, start, end)


def _one(channels: np.ndarray, channel: int | None) -> np.ndarray:
    """Samples (n,) of one channel, or the mean of all (c, n)."""
    if channel is None or channel >= len(channels):  # the layout may change within a stream
        return channels.mean(axis=0, dtype=np.float32)
    return channels[channel].astype(np.float32)


def _join(held: list[tuple[int, np.ndarray]], start: int, end: int) -> np.ndarray:
    inside = [(position, samples) for position, samples in held if position < end]
    if not inside:
        return np.empty(0, dtype=np.float32)
    first = max(start, inside[0][0])
    last = min(end, inside[-1][0] + len(inside[-1][1]))
    joined = np.zeros(max(0, last - first), dtype=np.float32)
    for position, samples in inside:
        skip = max(0, first - position)
        piece = samples[skip : max(skip, last - position)]
        joined[position + skip - first :][: len(piece)] = piece
    return joined


def _show(shown: Shown, watching: _Asked, watch: Watch, convert: GreyConverter) -> None:
    times = watching.during(shown.start, shown.end)
    picture = convert(shown.frame) if times else None
    if picture is None:
        return
    for time in [shown.start] if is_large(shown.frame.width, shown.frame.height) else times:
        watch.see(time, picture)


def _ascending(times: Iterable[float]) -> Iterator[float]:
    last = -float("inf")
    for time in times:
        if time < last:
            raise ConfigError(f"the times of frames must ascend; got {time:g} s after {last:g} s")
        last = float(time)
        yield last


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise MediaError(f"{path} is a folder, not a recording")
    if not path.exists():
        raise MediaError(f"{path} does not exist")
    if not path.is_file():  # a pipe or a device, which may never end
        raise MediaError(f"{path} is not a file; save the recording to one first")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise MediaError(f"{path} cannot be read: {error.strerror}") from error
    if empty:
        raise MediaError(f"{path} is empty (0 bytes)")


def _span(parts: Probe) -> Segment:
    return Segment(0.0, parts.duration if parts.duration > 0 else 1.0)


def _transcript_notes(path: Path, cues: tuple[Words, ...], duration: float) -> tuple[str, ...]:
    if not cues:
        return (f"the transcript {path.name} holds no words",)
    return () if has_times(path) or duration == 0 else (_ESTIMATED,)


def _picture_parts(path: Path, audio_stream: int | None, budget: Budget) -> Probe:
    if audio_stream is not None:
        raise ConfigError(f"{path} is a picture and has no audio stream; got audio_stream {audio_stream}")
    animated = is_animated(path, budget)
    return Probe(notes=("the picture is an animated WebP; only its first picture is analysed",) if animated else ())
