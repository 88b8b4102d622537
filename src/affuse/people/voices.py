"""Whose voice it is: embeddings of speakers by the encoder of Wan et al. 2018 (arXiv:1710.10467).

The weights are those of Resemblyzer (Apache-2.0), turned into ONNX by ``affuse people setup``; they are optional.
"""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse import weights
from affuse.errors import AssetError, DataError
from affuse.experts.voice import VAD_FRAME, speech_frames
from affuse.media import SAMPLE_RATE

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["FRAMES", "MELS", "MIN_VOICE", "VoiceEncoder", "level_gain", "mel_power", "voiced"]

MELS = 40
"""Mel bands."""

FRAMES = 160
"""Frames of 10 ms that the network hears at once: 1.6 s."""

MIN_VOICE = 0.5
"""Seconds of speech below which a voice is not recognised."""

_WINDOW, _HOP = SAMPLE_RATE // 40, SAMPLE_RATE // 100  # samples: 25 and 10 ms
_STEP = 77  # frames between two stretches: 1.3 a second, as in training
_COVERED = 0.75  # share of the last stretch that sound must fill
_LEVEL = -30.0  # dB relative to full scale to which soft speech is brought up
_BATCH = 32
# Slaney's mel scale (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above.
_LINEAR, _KNEE, _OCTAVE = 200.0 / 3, 1000.0, np.log(6.4) / 27.0


class VoiceEncoder:
    """Turns speech into a vector that tells people apart: 256 values at or above zero, of length 1.

    Parameters
    ----------
    path : Path, optional
        ONNX weights that `affuse.people.speaker_weights.make_encoder` wrote; where None, those that
        `affuse.weights.find` finds by the name "speaker".

    Raises
    ------
    AssetError
        When it is first used, if there are no weights.

    Examples
    --------
    >>> VoiceEncoder(Path("absent.onnx")).embed(np.zeros(16000)) is None  # silence is nobody's voice
    True
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Checksum of the weights in use, by name."""
        return {"speaker": weights.sha256_of(self._file)}

    def embed(self, samples: np.ndarray) -> np.ndarray | None:
        """Embedding of the voice of one person.

        Parameters
        ----------
        samples : array of shape (n,)
            Mono, 16 kHz, in -1…1; pauses are left out.

        Returns
        -------
        array of shape (256,) or None
            None where there is less than `MIN_VOICE` of speech.

        Raises
        ------
        DataError
            If the samples are not a single row of finite numbers.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise DataError(f"expected one row of finite samples; got an array of shape {samples.shape}")
        speech = voiced(samples)
        if len(speech) < MIN_VOICE * SAMPLE_RATE:
            return None
        mean = np.concatenate([self.embed_power(batch) for batch in _batches(_brought_up(speech))]).mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9))

    def embed_power(self, mels: np.ndarray) -> np.ndarray:
        """Embeddings of stretches of mel power, as the network gives them.

        Parameters
        ----------
        mels : array of shape (n, 160, 40), float32
            From `mel_power`, brought up by the square of `level_gain`.

        Returns
        -------
        array of shape (n, 256)
            Each of length 1.

        Raises
        ------
        AssetError
            If there are no weights.
        """
        return np.asarray(self._session.run(["embedding"], {"mels": mels})[0])

    def check(self) -> None:
        """Raise where the weights are missing, before they are needed.

        Raises
        ------
        AssetError
            With the command that makes them.
        """
        _ = self._file

    @cached_property
    def _file(self) -> Path:
        path = self.path or weights.find("speaker")
        if path is None:
            raise AssetError(
                "the speaker encoder, which tells voices apart, is not here; make it with: "
                f"{weights.DOWNLOADS['speaker'][0].made_by}"
            )
        return path

    @cached_property
    def _session(self) -> InferenceSession:
        return weights.session(self._file)


def voiced(samples: np.ndarray) -> np.ndarray:
    """The frames of sound in which there is speech, one after the other.

    Parameters
    ----------
    samples : array of shape (n,)
        Mono, 16 kHz.

    Returns
    -------
    array of shape (m,)
        m at most n.

    Examples
    --------
    >>> len(voiced(np.zeros(16000)))
    0
    """
    spoken = np.repeat(speech_frames(samples), VAD_FRAME)
    return np.asarray(samples)[: len(spoken)][spoken]


def mel_power(samples: np.ndarray) -> np.ndarray:
    """Power in 40 bands of Slaney's mel scale from 0 to 8 kHz, every 10 ms, as the encoder has learned on.

    Parameters
    ----------
    samples : array of shape (n,)
        Mono, 16 kHz.

    Returns
    -------
    array of shape (1 + n // 160, 40), float32
        Of Hann windows of 25 ms, whose middles lie at multiples of 10 ms.

    Examples
    --------
    >>> mel_power(np.zeros(16000)).shape
    (101, 40)
    """
    padded = np.pad(np.asarray(samples, dtype=np.float32), _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW + 1)[:-1], axis=1)) ** 2
    return np.asarray(power @ _mel_bands().T, dtype=np.float32)


@cache
def _mel_bands() -> np.ndarray:
    """Triangles of equal area: (40, 201)."""
    top = _KNEE / _LINEAR + np.log(SAMPLE_RATE / 2 / _KNEE) / _OCTAVE
    mels = np.linspace(0, top, MELS + 2)
    knee = _KNEE / _LINEAR
    corners = np.where(mels < knee, _LINEAR * mels, _KNEE * np.exp(_OCTAVE * (mels - knee)))
    bins = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE)
    rising = (bins - corners[:-2, None]) / np.diff(corners[:-1])[:, None]
    falling = (corners[2:, None] - bins) / np.diff(corners[1:])[:, None]
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (corners[2:] - corners[:-2]))[:, None]


def level_gain(power: float) -> float:
    """Factor that brings soft speech to the level of the training; 1 for loud speech.

    Parameters
    ----------
    power : float
        Mean square of the samples.

    Returns
    -------
    float
        At least 1.

    Examples
    --------
    >>> level_gain(1.0), round(level_gain(1e-5), 3)  # of 0 dB and of -50 dB
    (1.0, 10.0)
    """
    return float(10 ** (max(0.0, _LEVEL - 10 * np.log10(power + 1e-12)) / 20))


def _brought_up(speech: np.ndarray) -> np.ndarray:
    return speech * level_gain(float(np.mean(speech.astype(float) ** 2)))


def _batches(speech: np.ndarray) -> list[np.ndarray]:
    """Stretches (n, 160, 40) of mel power; the last one is left out where sound fills too little of it."""
    frames = int(np.ceil((len(speech) + 1) / _HOP))
    starts = list(range(0, max(1, frames - FRAMES + _STEP + 1), _STEP))
    if len(starts) > 1 and (len(speech) - starts[-1] * _HOP) / (FRAMES * _HOP) < _COVERED:
        starts.pop()
    power = mel_power(np.pad(speech, (0, max(0, (starts[-1] + FRAMES) * _HOP - len(speech)))))
    stretches = np.stack([power[start : start + FRAMES] for start in starts])
    return [stretches[i : i + _BATCH] for i in range(0, len(stretches), _BATCH)]
