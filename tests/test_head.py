"""Where a head is directed: the geometry, a real picture, and what an answer says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rich.console import Console

from affuse import Analysis, Analyzer, Recording, Segment
from affuse.experts.face import Detections, FaceExpert, FaceWatch, HaarDetector, default_detector
from affuse.experts.face.crop import YUNET_FRAMING
from affuse.experts.face.pose import _HEAD, MOST_YAW, head_in_windows, head_over, head_pose, turn_of
from affuse.media import Frame
from affuse.report.schema import schema
from affuse.report.terminal import print_analysis
from affuse.results import Head
from affuse.testing import FakeExpert, synthetic

DEMO = Path(__file__).parent.parent / "demo" / "clip.mp4"
MIRRORED = [1, 0, 2, 4, 3]  # a picture in a mirror: the person's right is their left


def turned(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Landmarks (5, 2) in pixels of the generic head, seen from afar: its nose points to yaw and pitch."""
    y, p, r = np.radians([yaw, pitch, roll])
    nose = np.array([np.sin(y) * np.cos(p), -np.sin(p), -np.cos(y) * np.cos(p)])
    level = np.cross([0.0, 1.0, 0.0], -nose)
    level /= np.linalg.norm(level)
    down = np.cross(-nose, level)  # axes of a head that is not tilted: to its left, down, and into it
    # The angle of the line of the eyes as seen is what is called roll, so the head is tilted until that has it.
    aims = np.array([level[:2], down[:2]]).T
    c, s = np.linalg.solve(aims, [np.cos(r), np.sin(r)])
    across = (c * level + s * down) / np.hypot(c, s)
    R = np.stack([across, np.cross(-nose, across), -nose], axis=1)
    return np.asarray(200 + 60 * (_HEAD @ R.T)[:, :2])


@pytest.mark.parametrize(
    "angles",
    [(0, 0, 0), (25, 0, 0), (-25, 0, 0), (0, 15, 0), (0, -15, 0), (0, 0, 20), (30, -10, 5), (-50, 20, -35), (70, 0, 0)],
)
def test_known_turns_are_found_exactly(angles: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(head_pose(turned(*angles)[None])[0], angles, atol=1e-9)


def test_signs_are_those_that_are_stated() -> None:
    front = turned(0)
    nose = np.eye(5)[2][:, None]
    (right,), (up,) = head_pose((front + 10 * nose * [1, 0])[None]), head_pose((front - 10 * nose * [0, 1])[None])
    assert right[0] > 5 > abs(right[1])
    assert up[1] > 5 > abs(up[0])
    c, s = np.cos(0.2), np.sin(0.2)
    (tilted,) = head_pose((front @ [[c, s], [-s, c]])[None])  # y down: the person's left eye sinks
    np.testing.assert_allclose(tilted, [0, 0, np.degrees(0.2)], atol=1e-9)


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_a_mirror_flips_yaw_and_roll_and_keeps_pitch_whatever_the_face(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = turned(*rng.uniform(-40, 40, 3)) + rng.normal(0, 3, (5, 2))
    mirrored = (points * [-1, 1] + [400, 0])[MIRRORED]
    np.testing.assert_allclose(head_pose(mirrored[None]), head_pose(points[None]) * [-1, 1, -1], atol=1e-9)


def test_place_size_and_company_do_not_matter() -> None:
    points = turned(20, -5, 10)
    together = head_pose(np.stack([points, 0.1 * points + 7, turned(0)]))
    np.testing.assert_allclose(together, [[20, -5, 10], [20, -5, 10], [0, 0, 0]], atol=1e-9)
    assert head_pose(np.empty((0, 5, 2))).shape == (0, 3)


def test_what_is_missing_or_no_face_has_no_angles() -> None:
    missing, line, dot = turned(0), turned(0), np.full((5, 2), 30.0)
    missing[3] = np.nan
    line[:, 1] = 100.0 + 0.05 * (line[:, 1] - 100.0)
    found = head_pose(np.stack([missing, line, dot, np.full((5, 2), np.inf), turned(5)]))
    assert np.isnan(found[:4]).all()
    np.testing.assert_allclose(found[4], [5, 0, 0], atol=1e-9)


def test_other_bodies_are_turned_by_the_same_rule() -> None:
    body = np.random.default_rng(3).normal(size=(9, 3))
    y = np.radians(33.0)
    R = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    np.testing.assert_allclose(turn_of(body, 5 * (body @ R.T)[None, :, :2])[0], [33, 0, 0], atol=1e-9)


# --- a real picture --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """Eileen Collins (NASA), from the demo clip."""
    (frame,) = Recording.open(DEMO).frames([1.0])
    return frame.image


def pose_in(image: np.ndarray) -> np.ndarray:
    found = default_detector(1.5).detect(image)
    assert len(found) == 1
    return np.asarray(head_pose(found.landmarks)[0])


def rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turned clockwise as seen."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1.0)  # OpenCV turns the other way
    return cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)


def test_a_picture_turned_by_15_degrees_has_15_degrees_more_roll(portrait: np.ndarray) -> None:
    angles = np.array([-30.0, -15.0, 0.0, 15.0, 30.0])
    found = np.array([pose_in(rotated(portrait, degrees)) for degrees in angles])
    # The detector places its points a few degrees off, another way in each of the pictures.
    assert np.abs(found[1:4, 2] - found[2, 2] - angles[1:4]).max() < 8
    assert np.polyfit(angles, found[:, 2], 1)[0] == pytest.approx(1, abs=0.15)
    assert np.abs(found[:, :2]).max() < 15  # she looks at the camera


def test_a_real_picture_in_a_mirror_looks_the_other_way(portrait: np.ndarray) -> None:
    yaw, pitch, roll = pose_in(portrait)
    np.testing.assert_allclose(pose_in(np.ascontiguousarray(portrait[:, ::-1])), [-yaw, pitch, -roll], atol=5)


# --- windows ---------------------------------------------------------------------------------------------------------


def test_medians_and_shares_are_those_of_the_pictures_of_a_window() -> None:
    yaws = [0.0, 10.0, MOST_YAW, MOST_YAW + 0.1, 60.0, np.nan]
    poses = np.array([[i, yaw, 1.0, -2.0] if yaw == yaw else [i, np.nan, np.nan, np.nan] for i, yaw in enumerate(yaws)])
    np.testing.assert_allclose(head_over(poses), [20, 1, -2, 0.6])
    windows = head_in_windows(poses, np.array([0.0, 2.0, 5.0]), np.array([2.0, 5.0, 6.0]))
    np.testing.assert_allclose(windows, [[5, 1, -2, 1], [20.1, 1, -2, 1 / 3], [np.nan] * 4])
    assert np.isnan(head_over(np.empty((0, 4)))).all()


def test_pitch_counts_as_well() -> None:
    assert head_over(np.array([[0.0, 0, 25, 0], [1.0, 0, -25, 0], [2.0, 0, 0, 80], [3.0, -25, 0, 0]]))[3] == 0.25


# --- an answer -------------------------------------------------------------------------------------------------------


class Scripted:
    """A detector of one face in the middle of the picture, whose landmarks follow a script, a picture at a time."""

    name, framing = "scripted", YUNET_FRAMING

    def __init__(self, script: Callable[[int], np.ndarray]) -> None:
        self.script, self.count = script, 0

    def detect(self, image: np.ndarray) -> Detections:
        landmarks = self.script(self.count)
        self.count += 1
        return Detections(np.array([[150.0, 150.0, 100.0, 130.0]]), landmarks[None], np.array([0.9]))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_clip(tmp_path_factory.mktemp("head") / "clip.mp4", seconds=4.0)


def analysed(clip: Path, detector: Any) -> Analysis:
    return Analyzer({"face": FaceExpert(detector)}, window=2.0, hop=1.0).analyze(clip)


@pytest.fixture(scope="module")
def turning(clip: Path) -> Analysis:
    """Somebody who turns away after a second of four; twelve pictures are looked at."""
    return analysed(clip, Scripted(lambda i: turned(5, 2, 1) if i < 3 else turned(-45, -10, 4)))


def test_windows_and_summary_say_where_the_head_is_directed(turning: Analysis) -> None:
    first, second, third = turning.verdicts
    assert first.head is not None
    assert second.head is not None
    assert (first.head.yaw, first.head.towards_camera) == pytest.approx((-20, 0.5))  # the middle of 5 and -45
    values = second.head.yaw, second.head.pitch, second.head.roll, second.head.towards_camera
    assert values == pytest.approx((-45, -10, 4, 0))
    assert third.head == second.head
    assert turning.summary.head is not None
    assert turning.summary.head.towards_camera == pytest.approx(3 / 12)  # of the pictures, not of the windows
    assert turning.summary.head.yaw == pytest.approx(-45)


def test_tables_and_json_hold_it_and_older_documents_are_valid(turning: Analysis) -> None:
    columns = ["head_yaw", "head_pitch", "head_roll", "head_towards_camera"]
    frame = turning.to_frame()
    assert frame[columns].iloc[1].tolist() == pytest.approx([-45, -10, 4, 0])
    document = json.loads(turning.to_json())
    validator = Draft202012Validator(schema())
    validator.validate(document)
    read = [Head(**window["head"]) for window in document["windows"]]
    assert [head.yaw for head in read] == frame["head_yaw"].tolist()
    assert document["summary"][0]["head"]["towards_camera"] == 0.25
    for verdict in (*document["windows"], *document["summary"]):
        del verdict["head"]
    validator.validate(document)


def test_the_terminal_remarks_on_it_only_where_it_is_mostly_away(turning: Analysis) -> None:
    assert turning.summary.head is not None
    front = replace(turning.summary, head=replace(turning.summary.head, towards_camera=0.5))
    for language, words in (("en", "Head not directed at the camera in 75 % of the"), ("zh", "75% 的头部没有朝向镜头")):
        for summaries, expected in ((turning.summaries, True), ([front], False)):
            console = Console(width=120, record=True, file=StringIO())
            print_analysis(replace(turning, summaries=summaries), console, language)
            assert (words in console.export_text()) == expected


def test_haar_finds_no_landmarks_and_so_says_nothing(clip: Path) -> None:
    analysis = analysed(clip, HaarDetector())
    assert analysis.summary.label is not None  # the face is seen
    assert [v.head for v in (*analysis.verdicts, *analysis.summaries)] == [None] * 4
    assert analysis.to_frame()["head_yaw"].isna().all()
    assert json.loads(analysis.to_json())["summary"][0]["head"] is None


def test_the_detector_in_use_sees_a_drawn_face_from_the_front(clip: Path) -> None:
    head = Analyzer({"face": FaceExpert()}).analyze(clip).summary.head
    assert head is not None
    assert max(abs(head.yaw), abs(head.roll)) < 10  # it is drawn straight
    assert head.towards_camera == 1


def test_somebody_else_has_a_head_of_their_own() -> None:
    class Two(FakeExpert):
        def read_windows(self, recording, timeline):  # type: ignore[no-untyped-def]
            (own,) = super().read_windows(recording, timeline)
            return [
                replace(own, person=f"person {n}", poses=np.array([[0.0, yaw, 0.0, 0.0]]))
                for n, yaw in ((1, 3.0), (2, 50.0))
            ]

    experts = {"face": Two("face", {"anger": 0.6}), "text": FakeExpert("text", {"anger": 0.6})}
    heads = [summary.head for summary in Analyzer(experts).analyze_text("No!").summaries]
    assert heads == [Head(3.0, 0.0, 0.0, 1.0), Head(50.0, 0.0, 0.0, 0.0)]
    (alone,) = Analyzer({"text": experts["text"]}).analyze_text("No!").verdicts
    assert alone.head is None


def test_a_live_window_is_read_like_one_of_an_analysis(portrait: np.ndarray) -> None:
    watch = FaceWatch(FaceExpert(), Scripted(lambda i: turned(5 if i < 3 else -45)), window=2.0)
    for i in range(9):
        watch.look(Frame(i / 3, portrait))
    output = watch.output(Segment(8 / 3 - 2, 8 / 3))
    np.testing.assert_allclose(output.poses[:, 0], np.arange(2, 9) / 3)
    (head,) = head_in_windows(output.poses, np.array([8 / 3 - 2]), np.array([8 / 3]))
    np.testing.assert_allclose(head[[0, 3]], [-45, 1 / 7], atol=1e-9)  # with the picture of this very moment
