"""Spectra of sound: short-time Fourier transform, log-mel, MFCC and chroma, by librosa."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from affuse.features.items import Array
from affuse.features.sound import HOP, SoundExtractor, librosa
from affuse.media import SAMPLE_RATE

__all__ = ["Chroma", "LogMel", "Mfcc", "Stft", "mel_power"]

_WINDOW = 512  # samples: 32 ms, about three periods of a low voice
_CHROMA_WINDOW = 4096  # samples: 4 Hz a bin, which tells semitones apart down to 65 Hz
_FLOOR = 1e-10  # of power: -100 dB
_PITCH_CLASSES = ("c", "c_sharp", "d", "d_sharp", "e", "f", "f_sharp", "g", "g_sharp", "a", "a_sharp", "b")

_FRAMING: dict[str, Any] = {"hop_length": HOP, "window": "hann", "center": True, "pad_mode": "constant"}


def mel_power(samples: Array, bands: int) -> Array:
    """Power (t, bands) in triangular bands on Slaney's mel scale from 0 to 8 kHz, every 10 ms."""
    melspectrogram = librosa().feature.melspectrogram
    S = melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=_WINDOW, n_mels=bands, power=2.0, **_FRAMING)
    return np.asarray(S.T, dtype=float)


def _decibels(power: Array) -> Array:
    return np.asarray(10 * np.log10(np.maximum(power, _FLOOR)))


class Stft(SoundExtractor):
    """Short-time Fourier transform: level in 257 bins 31.25 Hz apart, every 10 ms.

    Hann windows of 32 ms. In dB, where a sine of amplitude 1 in the middle of a bin reads 0; at least -100.

    Parameters
    ----------
    statistics: what is kept over time, names of `affuse.features.sound.STATISTICS`.
    """

    name: ClassVar[str] = "stft"
    unit: ClassVar[str] = "dB"

    def __init__(self, statistics: tuple[str, ...] = ("mean", "std")) -> None:
        self.statistics = statistics

    def contour(self, samples: Array) -> Array:
        """Levels (t, 257) in dB."""
        X = librosa().stft(np.asarray(samples), n_fft=_WINDOW, **_FRAMING)
        full_scale = np.hanning(_WINDOW + 1)[:-1].sum() / 2  # what a sine of amplitude 1 gives in its own bin
        return _decibels((np.abs(X.T) / full_scale) ** 2)

    def contour_names(self) -> list[str]:
        """Names by frequency in Hz."""
        return [f"stft_{k * SAMPLE_RATE / _WINDOW:g}hz" for k in range(_WINDOW // 2 + 1)]


class LogMel(SoundExtractor):
    """Power in mel bands from 0 to 8 kHz, in dB (at least -100), every 10 ms.

    Parameters
    ----------
    bands: number of bands.
    statistics: as in `Stft`.
    """

    name: ClassVar[str] = "log-mel"
    unit: ClassVar[str] = "dB"

    def __init__(self, bands: int = 64, statistics: tuple[str, ...] = ("mean", "std")) -> None:
        self.bands = bands
        self.statistics = statistics

    def contour(self, samples: Array) -> Array:
        """Levels (t, bands) in dB."""
        return _decibels(mel_power(samples, self.bands))

    def contour_names(self) -> list[str]:
        """Names by number of the band, from 0."""
        return [f"mel_{band}" for band in range(self.bands)]


class Mfcc(SoundExtractor):
    """Mel-frequency cepstral coefficients (MFCC) with slopes and curvatures, every 10 ms.

    The orthonormal DCT-II of 40 log-mel levels in dB (Davis & Mermelstein 1980, doi:10.1109/TASSP.1980.1163420); slopes
    and curvatures are those of a line and a parabola through 9 frames, in dB a frame and a squared frame.

    Parameters
    ----------
    coefficients: number of coefficients, the first of which is the level.
    statistics: as in `Stft`.
    """

    name: ClassVar[str] = "mfcc"
    unit: ClassVar[str] = "dB"

    _BANDS: ClassVar[int] = 40

    def __init__(self, coefficients: int = 13, statistics: tuple[str, ...] = ("mean", "std", "p10", "p90")) -> None:
        self.coefficients = coefficients
        self.statistics = statistics

    def contour(self, samples: Array) -> Array:
        """Coefficients, their slopes and their curvatures (t, 3 · coefficients)."""
        feature = librosa().feature
        levels = _decibels(mel_power(samples, self._BANDS))
        C = feature.mfcc(S=levels.T, n_mfcc=self.coefficients)
        return np.concatenate([C, feature.delta(C, order=1), feature.delta(C, order=2)]).T

    def contour_names(self) -> list[str]:
        """Names by number of the coefficient, from 0."""
        return [f"{kind}_{i}" for kind in ("mfcc", "mfcc_slope", "mfcc_curve") for i in range(self.coefficients)]


class Chroma(SoundExtractor):
    """Energy by pitch class, A = 440 Hz, the greatest of every frame 1: melody whatever its octave (t, 12).

    Parameters
    ----------
    statistics: as in `Stft`.
    """

    name: ClassVar[str] = "chroma"
    unit: ClassVar[str] = "share of the greatest"

    def __init__(self, statistics: tuple[str, ...] = ("mean", "std")) -> None:
        self.statistics = statistics

    def contour(self, samples: Array) -> Array:
        """Energies (t, 12) of C, C sharp … B."""
        # The tuning is fixed: speech has none, and estimating it from a short clip would shift the classes at random.
        C = librosa().feature.chroma_stft(y=samples, sr=SAMPLE_RATE, n_fft=_CHROMA_WINDOW, tuning=0.0, **_FRAMING)
        return np.asarray(C.T, dtype=float)

    def contour_names(self) -> list[str]:
        """Names by pitch class."""
        return [f"chroma_{name}" for name in _PITCH_CLASSES]
