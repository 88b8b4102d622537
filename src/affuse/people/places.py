"""Faces that were followed one after the other in one place of the picture, and are taken for one mouth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from affuse.experts.base import ExpertOutput
from affuse.people.mouths import FacePath

__all__ = ["Place", "find_places"]

_GAP = 1.2  # seconds between two sightings of one place
_TOGETHER = 0.6  # seconds: who is seen before and after a moment, so little apart, is there at that moment too
_NEAR = 0.8  # sides of a face between two sightings
_GROWTH = 1.8  # factor by which the size may change meanwhile


@dataclass(frozen=True)
class Place:
    """Where faces were seen one after the other.

    A face whose look changes at once, as by a lamp or a cut, gets a new track, and its mouth goes on where it was.

    Parameters
    ----------
    times : array of shape (n,)
        Seconds at which one of them was seen, ascending.
    owners : array of shape (n,), int
        Number of the face that was seen.
    boxes : array of shape (n, 4)
        x, y, width and height as fractions of the picture.
    points : array of shape (n, 5, 2)
        As in `FacePath`.

    Examples
    --------
    >>> place = Place(np.array([0.0, 1.0]), np.array([0, 3]), np.zeros((2, 4)), np.zeros((2, 5, 2)))
    >>> place.owner_at(np.array([0.2, 0.9])).tolist()
    [0, 3]
    """

    times: np.ndarray
    owners: np.ndarray
    boxes: np.ndarray
    points: np.ndarray

    def owner_at(self, times: np.ndarray) -> np.ndarray:
        """Which face is there: the one of the nearest sighting.

        Parameters
        ----------
        times : array of shape (k,)
            Seconds.

        Returns
        -------
        array of shape (k,), int
        """
        return np.asarray(self.owners[_nearest(self.times, times)])

    def path_of(self, number: int) -> FacePath:
        """The path of one of the faces, which goes on from and to the sightings of the others.

        Parameters
        ----------
        number : int
            Of the face.

        Returns
        -------
        FacePath
        """
        return FacePath(self.times, self.points, self.owners == number)

    def joined(self, other: Place) -> Place:
        """Both places as one.

        Parameters
        ----------
        other : Place
            Seen at other times.

        Returns
        -------
        Place
        """
        pairs = zip(_fields(self), _fields(other), strict=True)
        times, owners, boxes, points = (np.concatenate(pair) for pair in pairs)
        order = np.argsort(times, kind="stable")
        return Place(times[order], owners[order], boxes[order], points[order])


def find_places(faces: Sequence[ExpertOutput]) -> list[Place]:
    """Join the tracks of faces that follow each other in one place.

    Parameters
    ----------
    faces : sequence of m ExpertOutput
        Of a face expert, one a person; faces without a sighting have no place.

    Returns
    -------
    list of at most m Place
        In the order of their first faces.

    Examples
    --------
    >>> def seen(*times):
    ...     boxes = np.tile([0.2, 0.2, 0.2, 0.4], (len(times), 1))
    ...     return ExpertOutput(np.ones((1, 7)) / 7, ("",), person="?", times=np.array(times), boxes=boxes)
    >>> [place.owners.tolist() for place in find_places([seen(0.0, 0.5), seen(1.0, 1.5)])]
    [[0, 0, 1, 1]]
    """
    places: list[Place] = []
    for number, face in enumerate(faces):
        if not len(face.times):
            continue
        own = Place(face.times, np.full(len(face.times), number), face.boxes, FacePath.of(face).points)
        gaps = [_handover(place, own) for place in places]
        best = int(np.argmin(gaps)) if gaps else 0
        if gaps and gaps[best] <= _GAP:
            places[best] = places[best].joined(own)
        else:
            places.append(own)
    return places


def _handover(place: Place, other: Place) -> float:
    """Seconds of the shortest pause between both; infinite where they are two places."""
    if (
        not len(place.times)
        or not len(other.times)
        or _meet(place.times, other.times)
        or _meet(other.times, place.times)
    ):
        return float("inf")
    both = place.joined(replace(other, owners=np.full(len(other.times), -1)))
    changes = np.flatnonzero((both.owners[1:] == -1) != (both.owners[:-1] == -1))
    if not _near(both.boxes[changes], both.boxes[changes + 1]).all():
        return float("inf")
    return float(np.diff(both.times)[changes].min())


def _meet(times: np.ndarray, others: np.ndarray) -> bool:
    """Whether any of the others is seen while the first one is there."""
    after = np.searchsorted(times, others)
    same = np.isin(others, times)
    inside = (after > 0) & (after < len(times))
    gaps = times[np.minimum(after, len(times) - 1)] - times[np.maximum(after - 1, 0)]
    return bool((same | (inside & (gaps <= _TOGETHER))).any())


def _near(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Whether boxes (n, 4) are about where others were, and of about their size."""
    sizes = np.sqrt(before[:, 2:].prod(axis=1)), np.sqrt(after[:, 2:].prod(axis=1))
    moved = (before[:, :2] + before[:, 2:] / 2 - after[:, :2] - after[:, 2:] / 2) / np.maximum(before, after)[:, 2:]
    growth = np.maximum(*sizes) / np.maximum(np.minimum(*sizes), 1e-9)
    return np.asarray((np.hypot(moved[:, 0], moved[:, 1]) <= _NEAR) & (growth <= _GROWTH))


def _nearest(times: np.ndarray, asked: np.ndarray) -> np.ndarray:
    after = np.clip(np.searchsorted(times, asked), 1, max(1, len(times) - 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    return np.where(np.abs(times[after] - asked) < np.abs(times[before] - asked), after, before)


def _fields(place: Place) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return place.times, place.owners, place.boxes, place.points
