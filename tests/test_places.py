"""Faces that follow each other in one place of the picture."""

from __future__ import annotations

import numpy as np

from affuse.experts.base import ExpertOutput
from affuse.people.mouths import FacePath
from affuse.people.places import Place, find_places


def face(name: str, times: list[float], x: float = 0.2, size: float = 0.2) -> ExpertOutput:
    boxes = np.tile([x, 0.3, size, size], (len(times), 1))
    return ExpertOutput(np.full((1, 7), 1 / 7), ("",), person=name, times=np.array(times), boxes=boxes)


def owners(*faces: ExpertOutput) -> list[list[int]]:
    return [sorted(set(place.owners.tolist())) for place in find_places(faces)]


def test_a_track_goes_on_where_another_one_ended():
    assert owners(face("a", [0, 0.33, 0.67]), face("b", [1, 1.33, 1.67])) == [[0, 1]]


def test_faces_that_take_turns_in_one_place_are_one_place():
    assert owners(face("a", [0, 0.33, 3.67, 4]), face("b", [0.67, 1, 1.33])) == [[0, 1]]


def test_faces_seen_at_once_elsewhere_or_of_another_size_are_not():
    assert owners(face("a", [0, 1]), face("b", [0, 1])) == [[0], [1]]
    assert owners(face("a", [0, 0.5, 1, 1.5]), face("b", [0.75, 1.25])) == [[0], [1]]  # thinned tracks: both are there
    assert owners(face("a", [0, 0.33]), face("b", [0.67, 1], x=0.7)) == [[0], [1]]
    assert owners(face("a", [0, 0.33]), face("b", [0.67, 1], size=0.5)) == [[0], [1]]


def test_a_long_pause_ends_a_place():
    assert owners(face("a", [0, 0.33]), face("b", [1.6, 1.9])) == [[0], [1]]


def test_the_place_with_the_shorter_pause_goes_on():
    assert owners(face("a", [0.0, 0.1]), face("b", [0.0, 0.5], x=0.3), face("c", [0.9, 1.2], x=0.25)) == [[0], [1, 2]]


def test_a_mouth_is_followed_from_one_track_to_the_next():
    times, points = np.array([0.0, 1.0]), np.stack([np.zeros((5, 2)), np.ones((5, 2))])
    place = Place(times, np.array([0, 1]), np.zeros((2, 4)), points)
    first, second = place.path_of(0), place.path_of(1)
    assert FacePath(times[:1], points[:1]).at(0.4) is None  # alone, the track would end here
    assert first.at(0.4).ravel().tolist() == [0.4] * 10
    assert first.at(0.6) is None
    assert second.at(0.4) is None
    assert second.at(0.6).ravel().tolist() == [0.6] * 10
    assert first.at(1.1) is None
    assert second.at(1.1).ravel().tolist() == [1.0] * 10


def test_who_is_there_is_whoever_was_seen_nearest():
    place = Place(np.array([0.0, 1.0, 4.0]), np.array([2, 0, 2]), np.zeros((3, 4)), np.zeros((3, 5, 2)))
    assert place.owner_at(np.array([-1, 0.4, 0.6, 2.4, 2.6, 9])).tolist() == [2, 2, 0, 0, 2, 2]
