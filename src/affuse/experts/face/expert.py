"""The face expert: finds people, follows them and reads their expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse import weights
from affuse.errors import ConfigError, DataError
from affuse.experts.base import INPUTS, Abilities, Expert, ExpertOutput, FaceObserver
from affuse.experts.face.crop import CROP_SIZE, Framing, crop_face, surroundings
from affuse.experts.face.detect import Detections, FaceDetector, checksums, default_detector
from affuse.experts.face.pose import poses_of
from affuse.experts.face.track import Track, Tracker, appearance, confirmed
from affuse.labels import FERPLUS, LabelSpace
from affuse.media import Frame, Recording
from affuse.timeline import Timeline
from affuse.weight_sets import chosen_set

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "MAX_SIDE",
    "NO_FACE",
    "NO_PICTURE",
    "STILL_DETAIL",
    "TOLERANCE",
    "FaceExpert",
    "follow",
    "places",
    "sample_times",
]

NO_FACE = "no face"
NO_PICTURE = INPUTS["frames"]

_BATCH = 8  # crops: more take memory, 2 MB each, and no less time
MAX_SIDE = 960  # pixels; a face as wide as a twentieth of the picture still fills the 48 pixels of a crop
STILL_DETAIL = 1.5  # a still is searched once, so it may cost more: 720 px with YuNet, 480 px with Haar
_LOOK_SIZE = 48  # pixels of the picture whose appearance is compared
_BOX_SECONDS = 0.5  # boxes of long recordings are kept this far apart
_LONG = 300.0  # seconds
TOLERANCE = 1e-9  # seconds


class FaceExpert(Expert):
    """Expressions of every person in view, by a network trained on FER+ (Barsoum et al. 2016, arXiv:1608.01041).

    Parameters
    ----------
    detector : FaceDetector, optional
        Finds the faces; where None, YuNet if its weights are at hand, else OpenCV's Haar cascade.
    rate : float
        Pictures a second, above 0 and at most 60. One costs 10 to 17 ms with YuNet or 15 to 25 ms with Haar, and 6 ms
        a face for tracking, cropping and reading, on one server core; at 3 a second a window of 3 s holds 9 crops.
    model : Path, optional
        ONNX weights that map "images" float32 (n, 1, 48, 48), grey values 0…255, to "probabilities" (n, 8) over
        `FERPLUS` and "embedding" (n, d); the shipped ones where None.
    weight_set : str, optional
        Of which set the shipped ones are (`affuse.weight_sets`), or ``model`` is a copy; the one in use where None.

    Raises
    ------
    ConfigError
        If the rate is out of range.

    Examples
    --------
    >>> from affuse.testing import synthetic
    >>> FaceExpert().classify(synthetic.pictures()[:2]).shape
    (2, 8)
    """

    name = "face"
    modality = "face"
    labels: LabelSpace = FERPLUS
    abilities = Abilities(
        reads=("frames",), classifies=True, embeds=True, streams=True, sees_persons=True, shows_faces=True
    )

    def __init__(
        self,
        detector: FaceDetector | None = None,
        rate: float = 3.0,
        model: Path | None = None,
        weight_set: str | None = None,
    ) -> None:
        if not 0 < rate <= 60:
            raise ConfigError(f"rate must be above 0 and at most 60 samples a second; got {rate:g}")
        self.detector = detector
        self.rate = rate
        self.model = model
        self.weight_set = weight_set

    @cached_property
    def _own_set(self) -> str:
        return chosen_set(self.weight_set)

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Checksums by name of the weights that are used."""
        return self._own_sha256() | checksums(self._moving_detector)

    def _own_sha256(self) -> dict[str, str]:
        if self.model is not None:
            name = "face" if self.weight_set is None else weights.name_in_set("face", self.weight_set)
            return {name: weights.sha256_of(self.model)}
        return {weights.name_in_set("face", self._own_set): weights.digest("face", self._own_set)}

    def sessions(self) -> list[tuple[Any, str]]:
        return [(self, "_session")]

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        return self._outputs(self._observe(recording, timeline, "probabilities"), timeline)

    def read_observed(self, recording: Recording, timeline: Timeline, observer: FaceObserver) -> list[ExpertOutput]:
        return self._outputs(self._observe(recording, timeline, "probabilities", observer), timeline)

    def _outputs(self, seen: _Seen, timeline: Timeline) -> list[ExpertOutput]:
        # A window is the mean of all its crops: the mean of calibrated probabilities is itself calibrated if every crop
        # is as likely to be asked about as any other, while the crops of a window are far from independent, so that
        # multiplying them would count the same evidence many times.
        if not seen.tracks:
            return [ExpertOutput.silent(len(timeline), len(self.labels), NO_FACE)]
        return [_output(f"person {i}", track, seen, timeline) for i, track in enumerate(seen.tracks, 1)]

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Mean features of the crops of the person seen most.

        Parameters
        ----------
        recording : Recording
            An open recording.
        timeline : Timeline
            The n windows.

        Returns
        -------
        array of shape (n, d)
            NaN rows where the person is not seen.
        """
        width = weights.width(self._session)
        if not recording.has_frames:
            return np.full((len(timeline), width), np.nan)
        seen = self._observe(recording, timeline, "embedding")
        if not seen.tracks:
            return np.full((len(timeline), width), np.nan)
        return _window_means(seen.tracks[0], seen.rows, timeline)

    def classify(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of pictures of faces, framed as in FER2013.

        Parameters
        ----------
        images : array of shape (n, 48, 48), uint8
            Grey values.

        Returns
        -------
        array of shape (n, 8)
            Over `FERPLUS`.

        Raises
        ------
        DataError
            If the pictures have another shape or type.
        """
        images = np.asarray(images)
        if images.ndim != 3 or images.shape[1:] != (CROP_SIZE, CROP_SIZE) or images.dtype != np.uint8:
            raise DataError(f"faces must be uint8 of shape (n, 48, 48); got {images.dtype} of shape {images.shape}")
        return self._classify(images)

    def expressions(self, frame: Frame, found: Detections, framing: Framing) -> np.ndarray:
        """Probabilities of the faces that a detector found in one frame.

        Parameters
        ----------
        frame : Frame
            One picture.
        found : Detections
            Its n faces.
        framing : Framing
            Of the detector.

        Returns
        -------
        array of shape (n, n_labels)
        """
        faces = zip(found.boxes, found.landmarks, strict=True)
        crops = [self._crop(frame, box, landmarks, framing) for box, landmarks in faces]
        return self._run(np.stack(crops), "probabilities") if crops else np.empty((0, len(self.labels)))

    def _classify(self, images: np.ndarray) -> np.ndarray:
        batches = [self._run(images[i : i + _BATCH], "probabilities") for i in range(0, len(images), _BATCH)]
        return np.concatenate(batches) if batches else np.empty((0, len(self.labels)))

    @cached_property
    def _session(self) -> InferenceSession:
        return weights.session(weights.shipped("face", of_set=self._own_set) if self.model is None else self.model)

    @cached_property
    def _moving_detector(self) -> FaceDetector:
        return self.detector or default_detector()

    @cached_property
    def _still_detector(self) -> FaceDetector:
        return self.detector or default_detector(STILL_DETAIL)

    def _crop(self, frame: Frame, box: np.ndarray, landmarks: np.ndarray, framing: Framing) -> np.ndarray:
        """One face of a frame as the network reads it."""
        return crop_face(frame.image, box, landmarks, framing)

    def _run(self, images: np.ndarray, output: str) -> np.ndarray:
        (values,) = self._session.run([output], {"images": images[:, None].astype(np.float32)})
        return np.asarray(values, dtype=float)

    def _observe(
        self, recording: Recording, timeline: Timeline, output: str, observer: FaceObserver | None = None
    ) -> _Seen:
        """Detect, follow and crop in one pass, and read what was cropped beside it."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            read = _Reading(pool, lambda crops: self._run(crops, output))
            seen = self._follow(recording, timeline, read, observer)
            seen.batches = read.batches()
        return seen

    def _follow(self, recording: Recording, timeline: Timeline, read: _Reading, observer: FaceObserver | None) -> _Seen:
        """Frames are dropped at once and crops after their batch."""
        still = recording.kind == "picture"
        detector = self._still_detector if still else self._moving_detector
        times = timeline.starts[:1] if still else sample_times(timeline, self.rate)
        seen, tracker = _Seen(), Tracker()
        options: dict[str, Any] = {} if observer is None else {"watch": observer.watch}
        for frame in recording.frames(times, max_side=MAX_SIDE * (2 if still else 1), **options):
            found = follow(frame, detector, tracker)
            for face in zip(found.boxes, found.landmarks, strict=True):
                read.add(self._crop(frame, *face, detector.framing))
            seen.sizes.append((frame.image.shape[1], frame.image.shape[0]))
            if observer is not None:
                observer.place(frame.time, _places_now(tracker, seen.sizes[-1]))
        seen.tracks = confirmed(tracker.tracks, tracker.count)
        if observer is not None:
            numbers = {id(track): number for number, track in enumerate(tracker.tracks)}
            observer.finish([numbers[id(track)] for track in seen.tracks])
        return seen


class _Reading:
    """Crops that a network reads in batches, in a thread beside the one that finds them."""

    def __init__(self, pool: ThreadPoolExecutor, run: Callable[[np.ndarray], np.ndarray]) -> None:
        self._pool = pool
        self._run = run
        self._waiting: list[np.ndarray] = []
        self._read: list[Future[np.ndarray]] = []

    def add(self, crop: np.ndarray) -> None:
        """Take one crop."""
        self._waiting.append(crop)
        if len(self._waiting) == _BATCH:
            self._submit()

    def batches(self) -> list[np.ndarray]:
        """The answers about all crops, in their order."""
        if self._waiting:
            self._submit()
        return [found.result() for found in self._read]

    def _submit(self) -> None:
        if len(self._read) > 1:
            self._read[-2].result()  # so that no more than two batches wait, however slow the network is
        self._read.append(self._pool.submit(self._run, np.stack(self._waiting)))
        self._waiting = []


@dataclass
class _Seen:
    """What one pass found: persons, the network's answer to every crop in order, width and height of every sample.

    Sizes are in pixels; they may change in the middle of a recorded call.
    """

    tracks: list[Track] = field(default_factory=list)
    batches: list[np.ndarray] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    @cached_property
    def rows(self) -> np.ndarray:
        return np.concatenate(self.batches)


def _places_now(tracker: Tracker, size: tuple[int, int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Boxes and landmarks of those who are in the latest sample, by number of the track, as fractions of its size."""
    last = tracker.count - 1
    now = {number: track for number, track in enumerate(tracker.tracks) if track.samples[-1] == last}
    return {n: (track.boxes[-1] / np.tile(size, 2), track.landmarks[-1] / size) for n, track in now.items()}


def follow(frame: Frame, detector: FaceDetector, tracker: Tracker) -> Detections:
    """Detect and track the faces of one frame."""
    found = detector.detect(frame.image)
    looks = [appearance(surroundings(frame.image, box, detector.framing, _LOOK_SIZE)) for box in found.boxes]
    tracker.update(frame.time, found, looks)
    return found


def sample_times(timeline: Timeline, rate: float) -> Iterator[float]:
    """Times in seconds, ``rate`` a second, that lie in a window; and the start of every window that would get none."""
    starts, ends = timeline.starts, timeline.ends
    grid = np.arange(starts[0], ends.max() - TOLERANCE, 1 / rate)
    reached = np.maximum.accumulate(ends)[np.searchsorted(starts, grid, side="right") - 1]
    grid = grid[grid < reached]
    following = np.append(grid, np.inf)[np.searchsorted(grid, starts)]
    yield from np.union1d(grid, starts[following >= ends]).tolist()


def _output(person: str, track: Track, seen: _Seen, timeline: Timeline) -> ExpertOutput:
    probabilities = _window_means(track, seen.rows, timeline)
    reasons = tuple(NO_FACE if unseen else "" for unseen in np.isnan(probabilities).any(axis=1))
    times, boxes, landmarks = places(track, seen.sizes)
    return ExpertOutput(
        probabilities, reasons, person=person, times=times, boxes=boxes, landmarks=landmarks, poses=poses_of(track)
    )


def places(track: Track, sizes: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times (m,), boxes (m, 4) and landmarks (m, 5, 2) of a track.

    As fractions of pictures with these ``sizes`` (width, height).
    """
    kept = _thinned(track.times)
    size = np.array(sizes)[track.samples][kept]
    boxes = np.array(track.boxes)[kept] / np.tile(size, 2)
    return np.array(track.times)[kept], boxes, np.array(track.landmarks)[kept] / size[:, None]


def _window_means(track: Track, rows: np.ndarray, timeline: Timeline) -> np.ndarray:
    """Mean of a track's rows of ``rows`` (crops, d) in every window: (n, d), NaN where a window has none."""
    own, times = rows[track.rows], np.array(track.times)
    first = np.searchsorted(times, timeline.starts - TOLERANCE)
    last = np.searchsorted(times, timeline.ends - TOLERANCE)
    means = np.full((len(timeline), rows.shape[1]), np.nan)
    for i in np.flatnonzero(last > first):
        means[i] = own[first[i] : last[i]].mean(axis=0)
    return means


def _thinned(times: Sequence[float]) -> list[int]:
    """Indices of the boxes to keep: all of a short appearance, about two a second of a long one."""
    if times[-1] - times[0] <= _LONG:
        return list(range(len(times)))
    kept = [0]
    for i, time in enumerate(times):
        if time - times[kept[-1]] >= _BOX_SECONDS - TOLERANCE:
            kept.append(i)
    return kept
