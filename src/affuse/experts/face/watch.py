"""Watching faces live: pictures come one by one, and the answer is about the last few seconds."""

from __future__ import annotations

from collections import deque

import numpy as np

from affuse.experts.base import ExpertOutput
from affuse.experts.face.detect import Detections, FaceDetector
from affuse.experts.face.expert import NO_FACE, NO_PICTURE, TOLERANCE, FaceExpert, follow
from affuse.experts.face.pose import poses_of
from affuse.experts.face.track import Track, Tracker, confirmed
from affuse.media import Frame
from affuse.timeline import Segment

__all__ = ["FaceWatch"]

_MOST_FACES = 4  # in one picture; each costs 6 ms


class FaceWatch:
    """Follows the people in pictures that come one by one, and forgets whatever is older than ``window`` seconds.

    People are found, followed and read as by `FaceExpert.read`; on the pictures that it would have sampled, the answer
    about a window is the same. One person is answered about: whoever was, while they are there, and else the one seen
    most. Everybody has a name until they are forgotten: "person 1" is who was seen first. Only the `_MOST_FACES`
    largest faces of a picture are looked at. Not to be used by two threads at once.
    """

    def __init__(self, expert: FaceExpert, detector: FaceDetector, window: float) -> None:
        self.expert = expert
        self.detector = _Largest(detector)
        self.window = window
        self._tracker = Tracker()
        self._samples: deque[tuple[float, np.ndarray]] = deque()  # time and (width, height) in pixels
        self._rows: dict[int, np.ndarray] = {}
        self._count = 0
        self._followed: Track | None = None
        self._numbers: list[tuple[Track, int]] = []  # of everybody who is remembered, as they were first seen
        self._met = 0

    def look(self, frame: Frame) -> None:
        """Take the next picture; its time must be later than that of the last one."""
        found = follow(frame, self.detector, self._tracker)
        rows = self.expert.expressions(frame, found, self.detector.framing)
        self._rows |= dict(enumerate(rows, start=self._count))
        self._count += len(rows)
        self._samples.append((frame.time, np.array(frame.image.shape[1::-1])))
        self._forget(frame.time - self.window)

    def output(self, segment: Segment) -> ExpertOutput:
        """One window, NaN with the reason where nobody is seen; ``boxes`` holds the face where the last picture does.

        ``segment`` must not begin earlier than ``window`` seconds before it is asked about, for the rest is forgotten.
        """
        self._forget(segment.start)
        if not self._samples:
            return self._absent(NO_PICTURE)
        people = confirmed(self._tracker.tracks, len(self._samples))
        if not people:
            return self._absent(NO_FACE)
        if not any(self._followed is person for person in people):
            self._followed = people[0]
        track = next(person for person in people if person is self._followed)
        mean = np.mean([self._rows[row] for row in track.rows], axis=0)[None]
        if not self._is_there(track):
            return ExpertOutput(mean, ("",), person=self._name(track), poses=poses_of(track))
        return self._placed(track, mean)

    def people(self) -> list[ExpertOutput]:
        """Everybody in the last picture, with their box and landmarks in it; named as `output` names them."""
        people = [track for track in confirmed(self._tracker.tracks, len(self._samples)) if self._is_there(track)]
        return [self._placed(track, self._rows[track.rows[-1]][None]) for track in people]

    def _is_there(self, track: Track) -> bool:
        return track.samples[-1] == self._tracker.count - 1

    def _placed(self, track: Track, probabilities: np.ndarray) -> ExpertOutput:
        time, size = self._samples[-1]
        box, landmarks = track.boxes[-1][None] / np.tile(size, 2), track.landmarks[-1][None] / size
        name, times = self._name(track), np.array([time])
        return ExpertOutput(
            probabilities, ("",), person=name, times=times, boxes=box, landmarks=landmarks, poses=poses_of(track)
        )

    def _name(self, track: Track) -> str:
        number = next((number for known, number in self._numbers if known is track), None)
        if number is None:
            self._met = number = self._met + 1
            self._numbers.append((track, number))
        return f"person {number}"

    def _absent(self, reason: str) -> ExpertOutput:
        return ExpertOutput.silent(1, len(self.expert.labels), reason)

    def _forget(self, before: float) -> None:
        while self._samples and self._samples[0][0] < before - TOLERANCE:
            self._samples.popleft()
        self._tracker.forget(before - TOLERANCE)
        self._numbers = [(t, n) for t, n in self._numbers if any(t is track for track in self._tracker.tracks)]
        kept = {row for track in self._tracker.tracks for row in track.rows}
        self._rows = {row: values for row, values in self._rows.items() if row in kept}


class _Largest:
    """A detector of which only the largest faces count."""

    def __init__(self, detector: FaceDetector) -> None:
        self.name, self.framing = detector.name, detector.framing
        self._detector = detector

    def detect(self, image: np.ndarray) -> Detections:
        found = self._detector.detect(image)
        areas = found.boxes[:, 2] * found.boxes[:, 3]
        return found[np.sort(np.argsort(-areas, kind="stable")[:_MOST_FACES])]
