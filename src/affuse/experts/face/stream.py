"""The faces of a recording window by window: for networks that look at a whole window at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from affuse.experts.face.crop import cut_square, face_square
from affuse.experts.face.detect import FaceDetector
from affuse.experts.face.expert import MAX_SIDE, TOLERANCE, follow, places, sample_times
from affuse.experts.face.track import Track, Tracker, confirmed
from affuse.media import Frame, Recording
from affuse.timeline import Segment, Timeline

__all__ = ["FaceStream", "Sample", "Square", "View"]

Square = tuple[np.ndarray, float, float]
"""Centre (2,) and side in pixels of the picture, roll in radians, as `cut_square` takes them."""


@dataclass(frozen=True)
class Sample:
    """A frame, and the squares of the faces in it by the number of their track."""

    frame: Frame
    squares: Mapping[int, Square]


@dataclass(frozen=True)
class View:
    """What is seen in one window, in order of time."""

    window: Segment
    samples: tuple[Sample, ...]

    @property
    def tracks(self) -> list[int]:
        """Numbers of the tracks that are seen in it."""
        return sorted({number for sample in self.samples for number in sample.squares})

    def middle(self, track: int, size: int) -> np.ndarray:
        """The face nearest to the middle of the window: RGB uint8 (size, size, 3)."""
        own = [sample for sample in self.samples if track in sample.squares]
        best = min(own, key=lambda sample: abs(sample.frame.time - self.window.middle))
        return cut_square(best.frame.image, *best.squares[track], size)

    def clip(self, track: int, frames: int, size: int) -> np.ndarray:
        """The face over the window: RGB uint8 (frames, size, size, 3), in one square, so that it moves in it."""
        centres, sides, rolls = zip(*(s.squares[track] for s in self.samples if track in s.squares), strict=True)
        square = np.median(centres, axis=0), float(np.median(sides)), float(np.median(rolls))
        times = self.window.start + self.window.duration * (np.arange(frames) + 0.5) / frames
        known = np.array([sample.frame.time for sample in self.samples])
        nearest = [int(np.abs(known - time).argmin()) for time in times]  # a lost frame shows the one next to it
        cut = {i: cut_square(self.samples[i].frame.image, *square, size) for i in set(nearest)}
        return np.stack([cut[i] for i in nearest])

    def seen(self, track: int) -> float:
        """Share of the samples in which a track is seen."""
        return float(np.mean([track in sample.squares for sample in self.samples]))


class FaceStream:
    """Decodes a recording once, ``rate`` samples a second, and keeps no more than a window of it.

    Iterate over it for one `View` a window, in order; after that `people` knows who was seen, where.
    """

    def __init__(self, recording: Recording, timeline: Timeline, rate: float, detector: FaceDetector) -> None:
        self.recording = recording
        self.timeline = timeline
        self.rate = rate
        self.detector = detector
        self._tracker = Tracker()
        self._sizes: list[tuple[int, int]] = []
        self._faces = 0

    def __iter__(self) -> Iterator[View]:
        source = self._samples()
        held: list[Sample] = []
        for window in self.timeline:
            while not held or held[-1].frame.time < window.end - TOLERANCE:
                sample = next(source, None)
                if sample is None:
                    break
                held.append(sample)
            held = [s for s in held if s.frame.time >= window.start - TOLERANCE]
            yield View(window, tuple(s for s in held if s.frame.time < window.end - TOLERANCE))

    def people(self) -> dict[int, Track]:
        """Tracks that are persons by their numbers, the one seen most first."""
        numbers = {id(track): number for number, track in enumerate(self._tracker.tracks)}
        return {numbers[id(track)]: track for track in confirmed(self._tracker.tracks, self._tracker.count)}

    def places(self, track: Track) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times (m,), boxes (m, 4) and landmarks (m, 5, 2) of a track, as an `ExpertOutput` has them."""
        return places(track, self._sizes)

    def _samples(self) -> Iterator[Sample]:
        still = self.recording.kind == "picture"
        times = iter(self.timeline.starts[:1]) if still else sample_times(self.timeline, self.rate)
        for frame in self.recording.frames(times, max_side=MAX_SIDE * (2 if still else 1)):
            found = follow(frame, self.detector, self._tracker)
            self._sizes.append((frame.image.shape[1], frame.image.shape[0]))
            now = {n: t for n, t in enumerate(self._tracker.tracks) if t.samples[-1] == self._tracker.count - 1}
            rows = {number: track.rows[-1] - self._faces for number, track in now.items()}
            self._faces += len(found)
            framing = self.detector.framing
            squares = {n: face_square(found.boxes[i], found.landmarks[i], framing) for n, i in rows.items()}
            yield Sample(frame, squares)
