"""Experts that answer with the network of a bundle, and read recordings exactly as the shipped ones do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import cv2
import numpy as np

from affuse import weights
from affuse.errors import DataError
from affuse.experts.base import ExpertOutput
from affuse.experts.face.crop import Framing, crop_face
from affuse.experts.face.detect import FaceDetector, checksums
from affuse.experts.face.expert import FaceExpert
from affuse.experts.text.expert import NO_WORDS, NO_WORDS_HERE, average
from affuse.experts.voice import VoiceExpert
from affuse.media import Frame, Recording
from affuse.packages.folder import Bundle
from affuse.packages.tokens import Tokens
from affuse.timeline import Timeline

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["BundledExpert", "BundledFace", "BundledText", "BundledVoice"]


class BundledExpert:
    """What all experts from bundles have in common: name, labels and calibration come from the description.

    ``prior`` (k,) are the label frequencies under which the answers are calibrated, for the fuser.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.name = bundle.description.name
        self.modality = bundle.description.modality
        self.labels = bundle.description.labels
        self.prior = np.array(bundle.description.prior)
        self.covers = bundle.description.covers

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums of the bundle's files by name."""
        return self.bundle.sha256

    @cached_property
    def _session(self) -> InferenceSession:
        return self.bundle.session


class BundledVoice(BundledExpert, VoiceExpert):
    """A network over waveforms; silence and noise without speech are told apart as by the shipped voice expert."""


class BundledFace(BundledExpert, FaceExpert):
    """A network over pictures of faces; people are found, followed and cut out as by the shipped face expert.

    ``detector`` and ``rate`` as in `FaceExpert`.
    """

    def __init__(self, bundle: Bundle, detector: FaceDetector | None = None, rate: float = 3.0) -> None:
        FaceExpert.__init__(self, detector, rate)
        BundledExpert.__init__(self, bundle)
        picture = bundle.description.inputs["images"]
        self.size, self.channels = int(picture["size"]), int(picture["channels"])

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums of the bundle's files and of the detector by name."""
        return self.bundle.sha256 | checksums(self._moving_detector)

    def classify(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) of pictures of faces, grey (n, h, w) or RGB (n, h, w, 3) uint8, brought to its size.

        Raises DataError where they have another shape or type.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
            raise DataError(
                f"faces must be uint8 of shape (n, h, w) or (n, h, w, 3); got {images.dtype} of shape {images.shape}"
            )
        return self._classify(np.stack([self._resized(image) for image in images]) if len(images) else images)

    def _resized(self, image: np.ndarray) -> np.ndarray:
        colour = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        shrinks = self.size < max(image.shape[:2])
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        square = cv2.resize(colour, (self.size, self.size), interpolation=way)
        return square if self.channels == 3 else cv2.cvtColor(square, cv2.COLOR_RGB2GRAY)

    def _crop(self, frame: Frame, box: np.ndarray, landmarks: np.ndarray, framing: Framing) -> np.ndarray:
        return crop_face(frame.image, box, landmarks, framing, self.size, self.channels)

    def _run(self, images: np.ndarray, output: str) -> np.ndarray:
        planes = images[:, None] if self.channels == 1 else images.transpose(0, 3, 1, 2)
        return self.bundle.run(output, images=np.ascontiguousarray(planes, dtype=np.float32))


class BundledText(BundledExpert):
    """A network over the tokens of words, in whatever language it was trained on."""

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens.of(self.bundle)

    def language_of(self, text: str) -> str | None:
        """The language that the description states, "und" where it states none; None for a text without words."""
        if not self._tokens.parts(text):
            return None
        return str(self.bundle.description.inputs["tokens"].get("language", "und"))

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (n, k) of texts; a text without words is a row of NaN."""
        return self._each(texts, "probabilities")

    def read(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        """One reading for the whole scene; a window averages its cues, weighted by the seconds they share."""
        P = self._windows(recording, timeline, "probabilities")
        reason = NO_WORDS_HERE if recording.cues else NO_WORDS
        return [ExpertOutput(P, tuple(reason if silent else "" for silent in np.isnan(P).any(axis=1)))]

    def predict(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Probabilities (n, k) a window; NaN where no words are."""
        return self.read(recording, timeline)[0].probabilities

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Embeddings (n, d) a window, weighted as in `read`; NaN where no words are."""
        return self._windows(recording, timeline, "embedding")

    def _windows(self, recording: Recording, timeline: Timeline, output: str) -> np.ndarray:
        answers = self._each([cue.text for cue in recording.cues], output)
        spoken = ~np.isnan(answers).any(axis=1)
        shared = timeline.overlaps([cue.segment for cue in recording.cues])
        return average(shared[:, spoken], answers[spoken])

    def _each(self, texts: Sequence[str], output: str) -> np.ndarray:
        width = len(self.labels) if output == "probabilities" else weights.width(self._session)
        rows = np.full((len(texts), width), np.nan)
        for row, text in zip(rows, texts, strict=True):
            parts = self._tokens.parts(text)
            if parts:
                answers = [self.bundle.run(output, ids=p.ids, mask=np.ones_like(p.ids))[0] for p in parts]
                row[:] = np.average(answers, axis=0, weights=[p.length for p in parts])
        return rows
