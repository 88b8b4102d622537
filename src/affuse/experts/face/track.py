"""Following faces from frame to frame, so that every person has a row of their own."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from affuse.experts.face.detect import Detections

__all__ = ["Track", "Tracker", "appearance", "confirmed", "similarity"]

_GAP = 1.0  # seconds for which a face that is not seen keeps its place
_NEAR = 0.8  # face sizes that a face may move between two samples
_LAYOUT = 16  # rows and columns of `appearance`
_GROWTH = 1.8  # factor by which its size may change meanwhile
_GALLERY = 6  # looks that are remembered of every person
# Measured by bench/tracks.py on 144 clips of six people in one studio and on real clips, three samples a second. What a
# movement changes is where light and dark lie, hardly which colours there are: with colours at nine tenths, 99 % of one
# person's samples lie above 0.925, and 93 % of those after a cut to somebody else in the same place below 0.915; a
# person in one real clip falls to 0.92. What a lamp changes is the colours; layouts of two people are never that alike
# (99 % below 0.88).
_COLOURS = 0.9
_CONTINUES = 0.915
_SAME_LAYOUT = 0.95
_SAME_PLACE = 0.7
# Of `similarity` without a neighbour: two people in one studio reach 0.95, one person after a pause 0.94 (median).
_SAME_PERSON = 0.96
_HEAD_START = 0.1


@dataclass
class Track:
    """One person: when, where and how surely they were seen.

    ``samples`` numbers the sampled frames and ``rows`` the detections of the whole recording, in order, from 0.
    """

    times: list[float] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    landmarks: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    looks: list[np.ndarray] = field(default_factory=list)

    def likeness(self, look: np.ndarray) -> float:
        """Similarity of ``look`` to the most similar one that is remembered."""
        return max(similarity(look, own) for own in self.looks)

    def forget(self, before: float) -> None:
        """Drop what was seen earlier than ``before`` (seconds); the looks stay."""
        first = bisect_left(self.times, before)
        for seen in (self.times, self.boxes, self.landmarks, self.scores, self.samples, self.rows):
            del seen[:first]

    def remember(self, look: np.ndarray) -> None:
        """Keep the latest look, and of the older ones those that differ most."""
        self.looks.append(look)
        if len(self.looks) > _GALLERY:
            alike = [similarity(a, b) for a, b in zip(self.looks[:-2], self.looks[1:-1], strict=True)]
            del self.looks[1 + int(np.argmax(alike))]


class Tracker:
    """Assigns detections to persons, sample by sample, in order of time.

    A face goes on with the track that it overlaps or lies next to, unless it looks like somebody else (a cut). A face
    without such a neighbour begins a track, unless somebody who has not been seen for a while looked just the same.
    Doubt begins a track: two tracks of one person can be joined later, the mean of two people cannot be taken apart.
    """

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.count = 0
        self._rows = 0

    def update(self, time: float, found: Detections, looks: Sequence[np.ndarray]) -> None:
        """Take the detections of the sample at ``time`` (seconds) and the `appearance` of each of them."""
        pairs = [
            (score, i, j)
            for i in range(len(found))
            for j, track in enumerate(self.tracks)
            if (score := self._affinity(track, time, found.boxes[i], looks[i])) > 0
        ]
        owner: dict[int, int] = {}
        for _, i, j in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if i not in owner and j not in owner.values():
                owner[i] = j
        for i in range(len(found)):
            if i not in owner:
                owner[i] = len(self.tracks)
                self.tracks.append(Track())
            self._append(self.tracks[owner[i]], time, found, i, looks[i])
        self.count += 1
        self._rows += len(found)

    def forget(self, before: float) -> None:
        """Drop what was seen earlier than ``before`` (seconds), and whoever was not seen since."""
        for track in self.tracks:
            track.forget(before)
        self.tracks = [track for track in self.tracks if track.times]

    def _affinity(self, track: Track, time: float, box: np.ndarray, look: np.ndarray) -> float:
        """How well a detection continues a track; 0 where it cannot.

        A neighbour has a head start over people who look the same elsewhere or earlier, but only a small one: after a
        cut somebody else may sit in the same place.
        """
        likeness = track.likeness(look)
        recent = time - track.times[-1] <= _GAP or track.samples[-1] == self.count - 1
        if recent and _near(track.boxes[-1], box) and _continues(track.looks[-1], look):
            return likeness + _HEAD_START * (1 + _iou(track.boxes[-1], box))
        return likeness if likeness >= _SAME_PERSON else 0.0

    def _append(self, track: Track, time: float, found: Detections, i: int, look: np.ndarray) -> None:
        track.times.append(time)
        track.boxes.append(found.boxes[i])
        track.landmarks.append(found.landmarks[i])
        track.scores.append(float(found.scores[i]))
        track.samples.append(self.count)
        track.rows.append(self._rows + i)
        track.remember(look)


def confirmed(tracks: Sequence[Track], samples: int) -> list[Track]:
    """Tracks that are persons rather than false alarms; who is seen most comes first, then who is seen first.

    A person is seen in three samples, or in half of ``samples`` where these are fewer than six; mostly without
    interruption (a third of the detections follow one in the sample before) and by a detector that is sure on the
    average.
    """
    needed = min(3, -(-samples // 2))
    persons = [
        t for t in tracks if len(t.times) >= needed and np.mean(t.scores) >= 0.5 and _steadiness(t, samples) >= 1 / 3
    ]
    return sorted(persons, key=lambda t: (-len(t.times), t.times[0], t.boxes[0][0]))


def appearance(image: np.ndarray) -> np.ndarray:
    """Describe an RGB uint8 picture (h, w, 3): grey layout and colours, one vector of two unit-length halves."""
    grey = cv2.cvtColor(cv2.resize(image, (_LAYOUT, _LAYOUT), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    layout = grey.astype(np.float32).ravel() - grey.mean(dtype=np.float32)
    layout /= max(float(np.linalg.norm(layout)), 1e-6)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [12, 4, 4], [0, 180, 0, 256, 0, 256]).ravel()
    return np.concatenate([layout, np.sqrt(counts / counts.sum())])


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Mean of the correlation of two layouts (-1…1) and the Bhattacharyya coefficient of their colours (0…1)."""
    return float(a @ b) / 2


def _continues(last: np.ndarray, look: np.ndarray) -> bool:
    """Whether a look is that of the same person as the ``last`` one in this place, rather than what a cut shows."""
    half = _LAYOUT * _LAYOUT
    layout, colours = float(last[:half] @ look[:half]), float(last[half:] @ look[half:])
    coloured_alike = (1 - _COLOURS) * layout + _COLOURS * colours >= _CONTINUES
    return layout >= _SAME_LAYOUT or (coloured_alike and (layout + colours) / 2 >= _SAME_PLACE)


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    sizes = np.sqrt([a[2] * a[3], b[2] * b[3]])
    distance = float(np.hypot(*(a[:2] + a[2:] / 2 - b[:2] - b[2:] / 2)))
    return bool(distance <= _NEAR * sizes.max() and sizes.max() <= _GROWTH * sizes.min())


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    shared = np.maximum(0, np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])).prod()
    return float(shared / (a[2] * a[3] + b[2] * b[3] - shared))


def _steadiness(track: Track, samples: int) -> float:
    """Share of the detections that follow one in the sample before; 1 where there is only one sample."""
    if samples == 1:
        return 1.0
    return float(np.mean(np.diff(track.samples) == 1)) if len(track.samples) > 1 else 0.0
