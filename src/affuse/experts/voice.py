"""Voice expert: how something is said, whatever the words, judged window by window from the waveform."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse import weights
from affuse.errors import DataError
from affuse.experts.base import ExpertOutput
from affuse.labels import VOICE, LabelSpace
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Timeline

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["MIN_SPEECH", "SILENCE", "VoiceExpert", "level", "speech_seconds", "why_not"]

MIN_SPEECH = 0.5
"""Seconds of speech below which a window is no evidence: about two syllables."""

SILENCE = -55.0
"""Level in dB relative to full scale (RMS of the loudest tenth of a second) below which nobody is heard."""

_MIN_SAMPLES = SAMPLE_RATE // 2
_VAD_FRAME = 480  # 30 ms, the longest frame that WebRTC's detector takes
_VAD_MODE = 2  # of 0…3; 3 already misses soft, breathy speech
# Speech comes and goes, hiss, hum and held tones do not, though the detector takes them for speech: what stands out of
# the quietest tenth of its window by less than this (dB) is not counted.
_ABOVE_NOISE = 6.0
_VAD_LEVEL = -15.0  # the detector judges by absolute level: a soft recording is brought up to this `level`


class VoiceExpert:
    """Reads emotion from 16 kHz sound with a network whose log-mel front end is part of its ONNX graph.

    Probabilities are over `labels.VOICE`, calibrated on speakers that training did not see. Source: own recipe,
    `recipes.voice`. ``path`` replaces the shipped weights.
    """

    name = "voice"
    modality = "voice"
    labels: LabelSpace = VOICE

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    @cached_property
    def _weights(self) -> Path:
        return weights.shipped("voice") if self.path is None else self.path

    @cached_property
    def _session(self) -> InferenceSession:
        return weights.session(self._weights)

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Checksum of the weights in use, by name. Raises AssetError where they are missing or not the right ones."""
        return {"voice": weights.sha256_of(self._weights)}

    def read(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        """Judge every window; exactly one reading, for a voice does not tell whose face it belongs to.

        Windows without sound, without anything loud or with less than `MIN_SPEECH` of speech are NaN with the reason.
        """
        if not recording.has_sound:
            return [ExpertOutput(np.full((len(timeline), len(self.labels)), np.nan), ("no sound",) * len(timeline))]
        answers = [self._judge(samples) for samples in recording.sound(timeline)]
        return [ExpertOutput(np.array([p for p, _ in answers]), tuple(reason for _, reason in answers))]

    def predict(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Probabilities (n, 9) over `labels.VOICE`; rows sum to 1, or are NaN where there is no evidence."""
        return self.read(recording, timeline)[0].probabilities

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Embeddings (n, d) float32 of the windows, NaN where there is no evidence."""
        width = weights.width(self._session)
        rows = np.full((len(timeline), width), np.nan, dtype=np.float32)
        for row, samples in zip(rows, recording.sound(timeline), strict=True):
            if not why_not(samples):
                row[:] = self._run("embedding", samples)
        return rows

    def classify(self, waveform: np.ndarray) -> np.ndarray:
        """Probabilities (9,) of one mono 16 kHz clip (samples,), whether or not it holds speech.

        Raises DataError for a clip shorter than half a second, or one that is not a single row of finite numbers.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim != 1 or not np.isfinite(waveform).all():
            raise DataError(f"expected one row of finite samples; got an array of shape {waveform.shape}")
        if len(waveform) < _MIN_SAMPLES:
            raise DataError(f"a clip needs at least {_MIN_SAMPLES} samples (0.5 s at 16 kHz); got {len(waveform)}")
        return self._run("probabilities", waveform)

    def _judge(self, samples: np.ndarray) -> tuple[np.ndarray, str]:
        reason = why_not(samples)
        if reason:
            return np.full(len(self.labels), np.nan), reason
        return self._run("probabilities", samples).astype(float), ""

    def _run(self, output: str, samples: np.ndarray) -> np.ndarray:
        # One window at a time: a batch would have to pad windows of different lengths, which changes their statistics.
        row = self._session.run([output], {"waveform": samples[None].astype(np.float32)})[0][0]
        return np.asarray(row)


def why_not(samples: np.ndarray) -> str:
    """Why these samples are no evidence; empty where they are."""
    if len(samples) == 0:
        return "no sound"
    if level(samples) < SILENCE:
        return "silence"
    if len(samples) < _MIN_SAMPLES:
        return "too little sound"
    return "" if speech_seconds(samples) >= MIN_SPEECH else "no speech"


def level(samples: np.ndarray) -> float:
    """Level (RMS, dB relative to full scale) of the loudest tenth of a second of ``samples`` (n,); -inf for zeros."""
    power = np.asarray(samples, dtype=float) ** 2
    block = SAMPLE_RATE // 10
    if len(power) > block:
        power = power[: len(power) // block * block].reshape(-1, block)
    loudest = power.mean(axis=-1).max()
    return float(10 * np.log10(loudest)) if loudest > 0 else -np.inf


def speech_seconds(samples: np.ndarray) -> float:
    """Seconds of ``samples`` (n,) at 16 kHz in which both WebRTC's voice activity detector and a gate find speech."""
    import webrtcvad

    n = len(samples) // _VAD_FRAME
    frames = np.asarray(samples[: n * _VAD_FRAME], dtype=float).reshape(n, _VAD_FRAME)
    if level(samples) < SILENCE or n == 0:
        return 0.0
    loudness = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-12)
    gate = np.percentile(loudness, 10) + _ABOVE_NOISE
    gain = 10 ** ((_VAD_LEVEL - level(samples)) / 20)
    pcm = (np.clip(frames * gain, -1, 1) * 32767).astype("<i2")
    detector = webrtcvad.Vad(_VAD_MODE)  # a fresh one each time: its state must not carry over between windows
    spoken = [detector.is_speech(frame.tobytes(), SAMPLE_RATE) for frame in pcm]
    return float(np.sum(spoken & (loudness > gate)) * _VAD_FRAME / SAMPLE_RATE)
