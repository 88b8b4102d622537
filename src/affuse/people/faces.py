"""Whose face it is: embeddings by dlib's face recognition network, and those of everybody in a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from affuse import weights
from affuse.errors import AssetError, MissingExtraError
from affuse.experts.face.crop import Framing, face_square
from affuse.experts.face.detect import FaceDetector, default_detector
from affuse.experts.face.expert import MAX_SIDE, STILL_DETAIL, follow, sample_times
from affuse.experts.face.track import Track, Tracker, confirmed
from affuse.lazy import needs_extra
from affuse.media import Frame, Recording
from affuse.timeline import Timeline

__all__ = ["FaceEncoder", "SeenFace", "dlib_model", "read_faces"]

_PACKAGE = "face_recognition_models"
# Both are in the public domain; the predictor of 68 points, which is not free for commerce, is not used here.
_PREDICTOR = "shape_predictor_5_face_landmarks.dat"
_NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
_SHA256 = {
    _PREDICTOR: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    _NETWORK: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}
# Side of the box that the predictor gets, in sides of our square, and how much lower it lies: of 0.95 and 1.1 the one
# with the lower equal error rate on single pictures (bench/identity.py).
_BOX_SIDE, _BOX_DOWN = 1.1, 0.05
_SURE = 0.5  # score of a detection that is looked at
_SMALLEST = 24.0  # pixels of a square below which a face is too blurred to tell people apart
_MOST = 8  # pictures of one track; more add nothing


class FaceEncoder:
    """Turns a face into a vector that tells people apart: 128 values, nearer to each other for one person.

    It needs the extra ``people``: dlib and its weights, whose checksums are compared.

    Raises
    ------
    MissingExtraError
        When it is first used, if the extra is not installed.
    AssetError
        When it is first used, if a file of weights is not the right one.

    References
    ----------
    King (2017), High quality face recognition with deep metric learning. blog.dlib.net

    Examples
    --------
    >>> sorted(FaceEncoder().sha256)
    ['face_network', 'face_predictor']
    """

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums of the weights by name."""
        return {"face_predictor": _SHA256[_PREDICTOR], "face_network": _SHA256[_NETWORK]}

    def embed(self, image: np.ndarray, box: np.ndarray, landmarks: np.ndarray, framing: Framing) -> np.ndarray:
        """Embedding of one face of a picture.

        Parameters
        ----------
        image : array of shape (h, w, 3), uint8
            RGB.
        box : array of shape (4,)
            x, y, width and height in pixels, by a detector of affuse.
        landmarks : array of shape (5, 2)
            Of the same detector; NaN where unknown.
        framing : Framing
            Of the same detector.

        Returns
        -------
        array of shape (128,)
        """
        centre, side, _ = face_square(box, landmarks, framing)
        middle, half = centre + np.array([0.0, _BOX_DOWN * side]), _BOX_SIDE * side / 2
        corners = (round(float(v)) for v in (*(middle - half), *(middle + half)))
        picture = np.ascontiguousarray(image)
        points = self._predictor(picture, self._dlib.rectangle(*corners))
        return np.asarray(self._network.compute_face_descriptor(picture, points), dtype=float)

    @cached_property
    def _dlib(self) -> Any:
        with needs_extra("people"):
            import dlib
        return dlib

    @cached_property
    def _predictor(self) -> Any:
        return self._dlib.shape_predictor(str(dlib_model(_PREDICTOR, _SHA256[_PREDICTOR], "people")))

    @cached_property
    def _network(self) -> Any:
        return self._dlib.face_recognition_model_v1(str(dlib_model(_NETWORK, _SHA256[_NETWORK], "people")))


@dataclass(eq=False)
class SeenFace:
    """One person as a camera follows them, and a few embeddings of their face.

    Parameters
    ----------
    track : Track
        When and where they are seen.
    embeddings : list of array of shape (128,)
        At most 8, spread over the whole of the track.
    times : list of float
        When each of them was taken, in seconds.
    step : float
        Seconds from one embedding to the next.
    size : tuple of two int
        Width and height of the pictures, in whose pixels the track has its places.

    Examples
    --------
    >>> SeenFace(Track(), [np.zeros(128), np.ones(128)]).mean[:2]
    array([0.5, 0.5])
    """

    track: Track
    embeddings: list[np.ndarray] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    step: float = 0.3
    size: tuple[int, int] = (1, 1)

    @property
    def mean(self) -> np.ndarray:
        """Mean (128,) of the embeddings."""
        return np.asarray(np.mean(self.embeddings, axis=0))

    def wants(self, time: float) -> bool:
        """Whether an embedding is due.

        Parameters
        ----------
        time : float
            Now, in seconds.

        Returns
        -------
        bool
        """
        return not self.times or time - self.times[-1] >= self.step

    def add(self, time: float, embedding: np.ndarray) -> None:
        """Keep an embedding; where there are too many, every second one goes and the next ones come half as often.

        Parameters
        ----------
        time : float
            When it was taken, in seconds.
        embedding : array of shape (128,)
        """
        self.times.append(time)
        self.embeddings.append(embedding)
        if len(self.times) > _MOST:
            del self.times[1::2], self.embeddings[1::2]
            self.step *= 2


def read_faces(
    recording: Recording, encoder: FaceEncoder | None = None, detector: FaceDetector | None = None, rate: float = 3.0
) -> list[SeenFace]:
    """Everybody who is seen in a recording, with embeddings of their faces.

    Parameters
    ----------
    recording : Recording
        A video or a picture.
    encoder : FaceEncoder, optional
        A new one where None.
    detector : FaceDetector, optional
        YuNet if its weights are at hand, else OpenCV's Haar cascade.
    rate : float
        Pictures a second that are looked at.

    Returns
    -------
    list of SeenFace
        The person seen most comes first; without those whose face is too small to be recognised.

    Raises
    ------
    MissingExtraError
        If the extra ``people`` is not installed.

    Examples
    --------
    >>> read_faces(Recording.from_text("nobody is seen in words"))
    []
    """
    if not recording.has_frames:
        return []
    still = recording.kind == "picture"
    detector = detector or default_detector(STILL_DETAIL if still else 1.0)
    encoder, tracker, seen = encoder or FaceEncoder(), Tracker(), dict[int, SeenFace]()
    for frame in _frames(recording, rate):
        _look(frame, encoder, detector, tracker, seen)
    found = [seen[id(track)] for track in confirmed(tracker.tracks, tracker.count) if id(track) in seen]
    return [face for face in found if face.embeddings]


def dlib_model(file: str, sha256: str, extra: str) -> Path:
    """One of dlib's own models, as the package face_recognition_models brings them.

    The package is looked up, never imported, for its code needs more than is here.

    Parameters
    ----------
    file : str
        Name of the file.
    sha256 : str
        Checksum in hexadecimal.
    extra : str
        Extra of affuse that installs the package, for the message.

    Returns
    -------
    Path

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    AssetError
        If the file is missing or has another checksum.

    Examples
    --------
    >>> from affuse.errors import AffuseError
    >>> try:
    ...     dlib_model("absent.dat", "", "people")
    ... except AffuseError:
    ...     print("not here")
    not here
    """
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtraError(_PACKAGE, extra)
    path = Path(found.origin).parent / "models" / file
    if not path.is_file() or weights.sha256_of(path) != sha256:
        raise AssetError(f"{path} is missing or has the wrong checksum; install {_PACKAGE} again")
    return path


def _frames(recording: Recording, rate: float) -> Iterator[Frame]:
    if recording.kind == "picture":
        yield from recording.frames([0.0], max_side=2 * MAX_SIDE)
        return
    yield from recording.frames(sample_times(Timeline((recording.span,)), rate), max_side=MAX_SIDE)


def _look(
    frame: Frame, encoder: FaceEncoder, detector: FaceDetector, tracker: Tracker, seen: dict[int, SeenFace]
) -> None:
    """Follow the faces of one frame, and embed those of which another embedding is due."""
    before = sum(len(track.rows) for track in tracker.tracks)
    found = follow(frame, detector, tracker)
    for track in tracker.tracks:
        if track.samples[-1] != tracker.count - 1:
            continue
        own = seen.setdefault(id(track), SeenFace(track, size=(frame.image.shape[1], frame.image.shape[0])))
        row = track.rows[-1] - before
        _, side, _ = face_square(found.boxes[row], found.landmarks[row], detector.framing)
        if found.scores[row] >= _SURE and side >= _SMALLEST and own.wants(frame.time):
            own.add(frame.time, encoder.embed(frame.image, found.boxes[row], found.landmarks[row], detector.framing))
