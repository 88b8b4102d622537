"""Experts that answer with the network of a package, and read recordings exactly as the shipped ones do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from affuse import weights
from affuse.errors import DataError
from affuse.experts.base import Expert
from affuse.experts.face.crop import Framing, crop_face
from affuse.experts.face.detect import FaceDetector, checksums
from affuse.experts.face.expert import FaceExpert
from affuse.experts.voice import VoiceExpert
from affuse.experts.words import WordsExpert, average
from affuse.media import Frame, Recording
from affuse.packages.package import Package
from affuse.packages.tokens import Tokens
from affuse.timeline import Timeline

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["PackagedExpert", "PackagedFace", "PackagedText", "PackagedVoice"]


class PackagedExpert(Expert):
    """What all experts from packages have in common: name, labels and prior come from the description.

    Parameters
    ----------
    package : Package
        Whose network answers.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self.name = package.description.name
        self.modality = package.description.modality
        self.labels = package.description.labels
        self.prior = np.array(package.description.prior)
        self.covers = package.description.covers

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums of the files of the package by name."""
        return self.package.sha256

    @property
    def _session(self) -> InferenceSession:
        return self.package.session  # which keeps it

    def sessions(self) -> list[tuple[Any, str]]:
        """The session of the network."""
        return [(self.package, "session")]


class PackagedVoice(PackagedExpert, VoiceExpert):
    """A network over waveforms; silence and noise without speech are told apart as by the shipped voice expert."""


class PackagedFace(PackagedExpert, FaceExpert):
    """A network over pictures of faces; people are found, followed and cut out as by the shipped face expert.

    Parameters
    ----------
    package : Package
        Whose network answers.
    detector, rate
        As in `FaceExpert`.
    """

    def __init__(self, package: Package, detector: FaceDetector | None = None, rate: float = 3.0) -> None:
        FaceExpert.__init__(self, detector, rate)
        PackagedExpert.__init__(self, package)
        picture = package.description.inputs["images"]
        self.size, self.channels = int(picture["size"]), int(picture["channels"])

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums of the files of the package and of the detector by name."""
        return self.package.sha256 | checksums(self._moving_detector)

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
        return self.package.run(output, images=np.ascontiguousarray(planes, dtype=np.float32))


class PackagedText(PackagedExpert, WordsExpert):
    """A network over the tokens of words, in whatever language it was trained on."""

    def __init__(self, package: Package) -> None:
        super().__init__(package)
        language = package.description.inputs["tokens"].get("language")
        stated = () if language is None else (str(language),)
        self.abilities = replace(WordsExpert.abilities, languages=stated, embeds=True)

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens.of(self.package)

    def language_of(self, text: str) -> str | None:
        """The language that the description states, "und" where it states none; None for a text without words."""
        return super().language_of(text) if self._tokens.parts(text) else None

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities (n, k) of texts; a text without words is a row of NaN."""
        return self._each(texts, "probabilities")

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Embeddings (n, d) a window, weighted as in `read`; NaN where no words are."""
        answers = self._each([cue.text for cue in recording.cues], "embedding")
        spoken = ~np.isnan(answers).any(axis=1)
        shared = timeline.overlaps([cue.segment for cue in recording.cues])
        return average(shared[:, spoken], answers[spoken])

    def _each(self, texts: Sequence[str], output: str) -> np.ndarray:
        width = len(self.labels) if output == "probabilities" else weights.width(self._session)
        rows = np.full((len(texts), width), np.nan)
        for row, text in zip(rows, texts, strict=True):
            parts = self._tokens.parts(text)
            if parts:
                answers = [self.package.run(output, ids=p.ids, mask=np.ones_like(p.ids))[0] for p in parts]
                row[:] = np.average(answers, axis=0, weights=[p.length for p in parts])
        return rows
