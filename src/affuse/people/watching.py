"""Who speaks, measured in the one pass over a video in which its faces are found."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from affuse.experts.face.expert import MAX_SIDE
from affuse.media import Recording, Watch
from affuse.people.mouths import (
    EDGE,
    GAP,
    LONGEST_GAP,
    MOUTH_RATE,
    FacePath,
    cut_mouth,
    face_points,
    mouth_between,
)
from affuse.people.synchrony import (
    MARGIN,
    Agreement,
    AgreementMeter,
    SynchronyNetworks,
    sound_stretches,
    speech_share,
)
from affuse.people.windows import sliding_max

__all__ = ["MouthWatch"]

# Pictures before and after speech that are looked at. The networks need two and the model of turns three; what a mouth
# does in short pauses belongs to what it does on the average.
_NEAR_SPEECH = MARGIN
_SLACK = 0.5 / MOUTH_RATE  # seconds


@dataclass
class _Stretch:
    """Pictures whose faces are not all known yet: the sound, which of them are needed, and the mouths found in them."""

    first: int
    sound: np.ndarray
    speech: np.ndarray
    needed: np.ndarray
    mouths: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)
    seen: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return self.first + len(self.speech)


class MouthWatch:
    """Looks on while an expert follows faces, and measures how well their mouths move with the sound.

    It holds pictures until it is known where the faces are in them, at most for `GAP` seconds. Where nobody speaks or
    no face is in view it asks for one in ten seconds. What it finds is what `measure_agreement` finds in a second pass.

    Parameters
    ----------
    recording : Recording
        A video with sound.
    networks : SynchronyNetworks, optional
        The shipped ones where None.

    Examples
    --------
    >>> from pathlib import Path
    >>> from affuse.experts import FaceExpert
    >>> from affuse.testing import synthetic
    >>> from affuse.timeline import Timeline
    >>> recording = Recording.open(synthetic.write_clip(Path("drawn.mp4")))
    >>> watch = MouthWatch(recording)
    >>> outputs = FaceExpert().read_observed(recording, Timeline((recording.span,)), watch)
    >>> watch.agreement().scores.shape[1] == sum(output.person is not None for output in outputs)
    True
    """

    def __init__(self, recording: Recording, networks: SynchronyNetworks | None = None) -> None:
        self._meter = AgreementMeter(networks or SynchronyNetworks())
        self._sound = sound_stretches(recording)
        self._open: deque[_Stretch] = deque()
        self._heard = 0  # pictures whose sound has been read
        self._held: deque[tuple[float, np.ndarray]] = deque()  # times and grey pictures
        self._places: dict[int, tuple[float, np.ndarray]] = {}  # of those who were there a moment ago
        self._anybody = True
        self._placed = self._next = 0.0  # seconds at which faces were last looked for, and will be next
        self._tracks: Sequence[int] = ()
        self._finished = False

    @property
    def watch(self) -> Watch:
        """When it looks: 25 times a second where somebody speaks and a face is in view."""
        return Watch(self._times(), self._see, MAX_SIDE)

    def place(self, time: float, faces: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> None:
        """Told, in order of time, where faces are.

        Parameters
        ----------
        time : float
            Seconds.
        faces : mapping of int to box (4,) and landmarks (5, 2)
            By number of the track, as fractions of the picture.
        """
        for track, (box, landmarks) in faces.items():
            points = face_points(box, landmarks)
            self._extend(track, time, points)
            self._places[track] = time, points
        for track in [track for track, (last, _) in self._places.items() if time - last > GAP]:
            self._end(track)
        self._anybody = bool(self._places)
        self._placed, self._next = time, 2 * time - self._placed
        settled = min([last for last, _ in self._places.values()], default=time) - _SLACK
        while self._held and self._held[0][0] < min(settled, time - EDGE) - LONGEST_GAP:
            self._held.popleft()
        while self._open and self._open[0].last / MOUTH_RATE < settled - EDGE:
            self._close()

    def finish(self, tracks: Sequence[int]) -> None:
        """Told at the end which tracks are persons.

        Parameters
        ----------
        tracks : sequence of int
            Their numbers, in the order of the outputs of the expert.
        """
        for track in list(self._places):
            self._end(track)
        for _ in self._times():  # what lies after the last picture has sound all the same
            pass
        while self._open:
            self._close()
        self._tracks, self._finished = tracks, True

    def agreement(self) -> Agreement | None:
        """What was found.

        Returns
        -------
        Agreement, or None
            Of the persons that `finish` named; None before that.
        """
        return self._meter.agreement(self._tracks) if self._finished else None

    def _times(self) -> Iterator[float]:
        for count, sound in self._sound:
            speech = speech_share(sound)
            needed = sliding_max(speech, _NEAR_SPEECH, _NEAR_SPEECH)[MARGIN:-MARGIN] > 0
            first, self._heard = self._heard, self._heard + count
            self._open.append(_Stretch(first, sound, speech[MARGIN:-MARGIN], needed))
            asked = False
            for number in (np.flatnonzero(needed) + first).tolist():
                if self._anybody or number / MOUTH_RATE > self._next:
                    asked = True
                    yield number / MOUTH_RATE
            if not asked:  # or a long silence is read, and kept, before the pictures come to it
                yield first / MOUTH_RATE

    def _see(self, time: float, picture: np.ndarray) -> None:
        self._held.append((time, picture))

    def _extend(self, track: int, time: float, points: np.ndarray) -> None:
        """Cut the mouths of a face between where it was last and where it is now."""
        last, before = self._places.get(track, (-np.inf, points))
        if time - last <= GAP:
            self._cut(track, last + 1e-6, time, FacePath(np.array([last, time]), np.array([before, points])))
            return
        if track in self._places:
            self._end(track)
        self._cut(track, time - EDGE, time, FacePath(np.array([time]), points[None]))

    def _end(self, track: int) -> None:
        """Cut the mouths of a face just after it was seen last."""
        last, points = self._places.pop(track)
        self._cut(track, last + 1e-6, last + EDGE, FacePath(np.array([last]), points[None]))

    def _cut(self, track: int, start: float, end: float, path: FacePath) -> None:
        first, last = int(np.ceil(start * MOUTH_RATE - 1e-6)), int(np.floor(end * MOUTH_RATE + 1e-6)) + 1
        near = [held for held in self._held if start - LONGEST_GAP <= held[0] <= end + LONGEST_GAP]
        times = np.array([time for time, _ in near])
        mouth = cache(lambda i: cut_mouth(near[i][1], path.at(near[i][0])))
        for stretch in self._open:
            inside = slice(max(0, first - stretch.first), max(0, last - stretch.first))
            seen = stretch.seen.setdefault(track, np.zeros(len(stretch.needed), dtype=bool))
            seen[inside] |= ~stretch.needed[inside]
            own = stretch.mouths.setdefault(track, {})
            for number in np.flatnonzero(stretch.needed[inside]) + inside.start + stretch.first:
                found = mouth_between(number / MOUTH_RATE, times, mouth)
                if found is not None:
                    own[int(number)] = found

    def _close(self) -> None:
        """Judge the earliest stretch, in which all faces are known."""
        stretch = self._open.popleft()
        self._meter.add_sound(stretch.sound, stretch.speech)
        for track, own in stretch.mouths.items():
            mouths = [own.get(number) for number in range(stretch.first, stretch.last)]
            self._meter.add_face(track, mouths, stretch.seen[track])
