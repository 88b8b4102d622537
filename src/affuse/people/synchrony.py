"""How well mouths move with the sound: two small networks, one for pictures of a mouth and one for sound.

Sources: SyncNet (Chung & Zisserman 2016, doi:10.1007/978-3-319-54427-4_19), the contrastive loss of van den Oord et al.
2018 (arXiv:1807.03748).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse import weights
from affuse.experts.voice import VAD_FRAME, speech_frames
from affuse.media import SAMPLE_RATE, Recording
from affuse.people.mouths import MOUTH_RATE, FacePath, mouth_times, mouths
from affuse.timeline import Segment, Timeline

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "CEPSTRA",
    "EITHER_SIDE",
    "LAGS",
    "MARGIN",
    "STRETCH",
    "WIDTH",
    "Agreement",
    "AgreementMeter",
    "SynchronyNetworks",
    "cepstra",
    "in_time_of_sound",
    "log_mel",
    "measure_agreement",
    "sound_stretches",
    "speech_share",
]

LAGS = np.arange(-8, 9)
"""Lags of the sound behind the picture that are tried, in pictures of 40 ms: up to 320 ms."""

# Change from picture to picture, in shares of the contrast of a mouth. Of frozen pictures in H.264 three quarters are
# below .004, of actors who speak 95 % above .027 (`javanese_av`).
_STILL = 0.01
_MELS = 40
_FFT, _WINDOW, _HOP = 512, 400, 160  # samples: frames of 25 ms, one every 10 ms
_PER_PICTURE = SAMPLE_RATE // MOUTH_RATE // _HOP  # frames of sound a picture
_LOWEST, _HIGHEST = 60.0, 7600.0  # hertz

EITHER_SIDE = 2
"""Pictures that the network of the mouth sees before and after each."""

WIDTH = 192
"""Numbers of an embedding: 64 of each of three networks."""

CEPSTRA = 12
"""Numbers that describe the colour of a sound, and so a voice."""

STRETCH = 10 * MOUTH_RATE
"""Pictures that are looked at together."""

MARGIN = 16
"""Pictures before and after a stretch whose sound is read too: the largest lag, and what networks see."""


@dataclass(frozen=True)
class Agreement:
    """How well every face moves with the sound, picture by picture.

    Parameters
    ----------
    scores : array of shape (t, m, 17)
        Cosine of the embeddings of t pictures of m faces and of the sound at each of `LAGS`, less its mean over
        moments that do not belong together; NaN where a face is not seen.
    speech : array of shape (t,)
        Share of the time of a picture in which there is speech, 0…1.
    colour : array of shape (t, 12), optional
        Cepstrum of the sound in the time of every picture (`cepstra`), by which voices differ.

    Examples
    --------
    >>> Agreement(np.zeros((2, 1, 17)), np.ones(2)).at_lag(0).shape
    (2, 1)
    """

    scores: np.ndarray
    speech: np.ndarray
    colour: np.ndarray | None = None

    def at_lag(self, lag: int) -> np.ndarray:
        """Scores at one lag, in the time of the sound.

        Parameters
        ----------
        lag : int
            One of `LAGS`.

        Returns
        -------
        array of shape (t, m)
            The sound of row t belongs to picture t - lag.
        """
        return in_time_of_sound(self.scores[:, :, int(np.flatnonzero(lag == LAGS)[0])], lag)

    def best_lag(self) -> int:
        """The lag of the sound behind the picture at which the best of the faces moves best with the speech.

        Returns
        -------
        int
            One of `LAGS`; 0 where nobody speaks while a face is seen.
        """
        spoken = np.where(np.isnan(self.scores), 0.0, self.scores) * self.speech[:, None, None]
        if not spoken.any():
            return 0
        width = MOUTH_RATE  # a second
        sums = np.cumsum(np.concatenate([np.zeros((1, *spoken.shape[1:])), spoken]), axis=0)
        ends = np.minimum(np.arange(0, len(spoken), width // 2) + width, len(spoken))
        windows = sums[ends] - sums[np.maximum(ends - width, 0)]
        total = windows.max(axis=1).sum(axis=0) / 2  # half of each window is in the next one too
        # What is nearly as good is taken for the usual case, sound and picture together.
        return int(LAGS[np.argmax(total - _LAG_COST * np.abs(LAGS) * self.speech.sum())])


_LAG_COST = 0.01  # of the cosine, a picture of lag


def in_time_of_sound(scores: np.ndarray, lag: int) -> np.ndarray:
    """Scores of pictures, moved to the moments at which the sound of these pictures is heard.

    Parameters
    ----------
    scores : array of shape (t, m)
        Of t pictures of m faces; NaN where a face is not seen.
    lag : int
        Pictures by which the sound is late.

    Returns
    -------
    array of shape (t, m)
        0 for a face that is there at the edge, where there is sound but no picture that it belongs to.

    Examples
    --------
    >>> in_time_of_sound(np.array([[0.1], [0.2], [0.3]]), 1).ravel().tolist()
    [0.0, 0.1, 0.2]
    """
    if not lag or not len(scores):
        return scores
    rows = np.arange(len(scores)) - lag
    inside = (rows >= 0) & (rows < len(scores))
    moved = scores[np.clip(rows, 0, len(scores) - 1)]
    return np.where(inside[:, None] | np.isnan(moved), moved, np.zeros_like(moved))


class SynchronyNetworks:
    """The networks of mouths and of sound, whose embeddings are near each other where a mouth moves with the sound.

    Parameters
    ----------
    face, voice : Path, optional
        ONNX weights; the shipped ones where None.

    Examples
    --------
    >>> networks = SynchronyNetworks()
    >>> networks.of_mouths(np.zeros((10, 28, 28), dtype=np.uint8)).shape
    (10, 192)
    """

    def __init__(self, face: Path | None = None, voice: Path | None = None) -> None:
        self.face = face
        self.voice = voice

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Checksums (hex) of the weights in use by name."""
        own = {"synchrony_face": self.face, "synchrony_voice": self.voice}
        return {name: weights.digest(name) if path is None else weights.sha256_of(path) for name, path in own.items()}

    def of_mouths(self, pictures: np.ndarray) -> np.ndarray:
        """Embeddings of a mouth.

        Parameters
        ----------
        pictures : array of shape (t, 28, 28), uint8
            Grey pictures, 25 a second.

        Returns
        -------
        array of shape (t, 192)
            Of length 1. Three networks take turns: that of a picture has 64 numbers, where the others have 0. All are
            0 where the mouth stands still, as in a frozen picture or a photograph: it agrees with no sound.
        """
        mouths = pictures.astype(np.float32)
        (found,) = self._face.run(None, {"mouths": mouths})
        return np.where(_still(mouths)[:, None], np.float32(0), found)

    def of_sound(self, samples: np.ndarray) -> np.ndarray:
        """Embeddings of sound.

        Parameters
        ----------
        samples : array of shape (n,)
            Mono, 16 kHz; at least 0.1 s.

        Returns
        -------
        array of shape (n // 640, 192)
            One for every 40 ms: 64 numbers of length 1 of each of three networks. The product with the embedding of a
            picture is the cosine of what one network sees and hears.
        """
        return self.of_spectrum(log_mel(samples))[: len(samples) * MOUTH_RATE // SAMPLE_RATE]

    def of_spectrum(self, spectrum: np.ndarray) -> np.ndarray:
        """Embeddings of sound whose spectrum is known, as `of_sound` gives them.

        Parameters
        ----------
        spectrum : array of shape (40, n)
            Of `log_mel`.

        Returns
        -------
        array of shape (n // 4, 192)
        """
        (found,) = self._voice.run(None, {"spectrum": spectrum[None]})
        return np.asarray(found)[: spectrum.shape[1] // _PER_PICTURE]

    @cached_property
    def _face(self) -> InferenceSession:
        return weights.session(weights.shipped("synchrony_face") if self.face is None else self.face)

    @cached_property
    def _voice(self) -> InferenceSession:
        return weights.session(weights.shipped("synchrony_voice") if self.voice is None else self.voice)


def _still(mouths: np.ndarray) -> np.ndarray:
    """Where (t,) neighbouring pictures (t, 28, 28) hardly differ, less than those of any face that is filmed."""
    rows = np.pad(mouths.reshape(len(mouths), -1), ((EITHER_SIDE, EITHER_SIDE), (0, 0)), mode="edge")
    changes = _means(np.abs(np.diff(rows, axis=0)).mean(axis=1), 2 * EITHER_SIDE)
    mean, square = (_means((rows**power).mean(axis=1, dtype=float), 2 * EITHER_SIDE + 1) for power in (1, 2))
    return np.asarray(changes < _STILL * (np.sqrt(np.maximum(square - mean**2, 0)) + 5))


def _means(values: np.ndarray, n: int) -> np.ndarray:
    """Mean of every n neighbouring values."""
    return np.lib.stride_tricks.sliding_window_view(values, n).mean(axis=-1)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Logarithm of the power in 40 mel bands, 100 times a second.

    Parameters
    ----------
    samples : array of shape (n,)
        Mono, 16 kHz.

    Returns
    -------
    array of shape (40, 1 + n // 160), float32
        Frames of 25 ms, whose middles lie at multiples of 10 ms.

    Examples
    --------
    >>> log_mel(np.zeros(1600)).shape
    (40, 11)
    """
    padded = np.pad(np.asarray(samples, dtype=np.float32), _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW + 1)[:-1].astype(np.float32), _FFT)) ** 2
    return np.asarray(np.log(_mel_bands() @ power.T + 1e-6), dtype=np.float32)


def cepstra(spectrum: np.ndarray) -> np.ndarray:
    """Cepstrum of the sound in the time of every picture: how its spectrum is formed, whatever its level.

    Parameters
    ----------
    spectrum : array of shape (40, n)
        Of `log_mel`.

    Returns
    -------
    array of shape (n // 4, 12), float16
        Coefficients 1 to 12 of the orthonormal cosine transform, as means over 40 ms.

    References
    ----------
    Davis and Mermelstein (1980), Comparison of parametric representations for monosyllabic word recognition.
    doi:10.1109/TASSP.1980.1163420

    Examples
    --------
    >>> cepstra(log_mel(np.zeros(1600))).shape
    (2, 12)
    """
    count = spectrum.shape[1] // _PER_PICTURE
    pictures = spectrum[:, : count * _PER_PICTURE].reshape(_MELS, count, _PER_PICTURE).mean(axis=2)
    return np.asarray((_cosines() @ pictures).T, dtype=np.float16)


@cache
def _cosines() -> np.ndarray:
    """Orthonormal cosine transform of type II without its first row: (12, 40); `scipy.fft` is slow to import."""
    bands, rows = np.arange(_MELS) + 0.5, np.arange(1, CEPSTRA + 1)[:, None]
    return np.asarray(np.sqrt(2 / _MELS) * np.cos(np.pi * rows * bands / _MELS))


@cache
def _mel_bands() -> np.ndarray:
    """Triangles of equal height on the mel scale 2595 log10(1 + f/700): (40, 257)."""
    lowest, highest = 2595 * np.log10(1 + np.array([_LOWEST, _HIGHEST]) / 700)
    corners = 700 * (10 ** (np.linspace(lowest, highest, _MELS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    rising = (bins - corners[:-2, None]) / np.diff(corners[:-1])[:, None]
    falling = (corners[2:, None] - bins) / np.diff(corners[1:])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


def measure_agreement(
    recording: Recording, paths: Sequence[FacePath], networks: SynchronyNetworks | None = None
) -> Agreement:
    """How well the faces of a recording move with its sound.

    Parameters
    ----------
    recording : Recording
        A video with sound; it is decoded once more, and ten seconds of it are held.
    paths : sequence of m FacePath
        Where the faces are.
    networks : SynchronyNetworks, optional
        The shipped ones where None.

    Returns
    -------
    Agreement
    """
    meter = AgreementMeter(networks or SynchronyNetworks())
    pictures = mouths(recording, paths)
    for count, sound in sound_stretches(recording):
        meter.add_sound(sound)
        rows = [next(pictures) for _ in range(count)]
        for number in range(len(paths)):
            meter.add_face(number, [row[number] for row in rows])
    return meter.agreement(range(len(paths)))


class AgreementMeter:
    """Scores of faces picture by picture, less the mean over moments that do not belong together.

    Parameters
    ----------
    networks : SynchronyNetworks
        What embeds mouths and sound.

    Examples
    --------
    >>> meter = AgreementMeter(SynchronyNetworks())
    >>> meter.add_sound(np.zeros((10 + 2 * MARGIN) * 640, dtype=np.float32))
    >>> meter.add_face(0, [np.zeros((28, 28), dtype=np.uint8)] * 4 + [None] * 6)
    >>> np.isfinite(meter.agreement([0]).scores[:, 0, 0]).sum()
    4
    """

    def __init__(self, networks: SynchronyNetworks) -> None:
        self._networks = networks
        self._heard = np.empty((0, 0))
        self._speech: list[np.ndarray] = []
        self._colour: list[np.ndarray] = []
        self._first = 0  # number of the first picture of the latest stretch of sound
        self._count = 0
        self._scores: dict[int, list[tuple[int, np.ndarray]]] = {}
        self._faces: dict[int, tuple[np.ndarray | float, int]] = {}  # sum of embeddings, and of how many
        self._sound: np.ndarray | float = 0.0
        self._spoken = 0.0

    def add_sound(self, sound: np.ndarray, speech: np.ndarray | None = None) -> None:
        """Hear the next stretch.

        Parameters
        ----------
        sound : array of shape (n,)
            With `MARGIN` pictures before it and after it.
        speech : array of shape (t,), optional
            `speech_share` of the stretch, where it is known.
        """
        spoken = speech_share(sound)[MARGIN:-MARGIN] if speech is None else speech
        self._first, self._count = self._count, self._count + len(spoken)
        self._speech.append(spoken)
        self._heard = np.zeros((len(spoken) + 2 * MARGIN, 1))
        colour = np.zeros((len(spoken), CEPSTRA), np.float16)
        if spoken.any():
            spectrum = log_mel(sound)
            self._heard = self._networks.of_spectrum(spectrum)
            colour = cepstra(spectrum)[MARGIN : MARGIN + len(spoken)]
            self._sound = self._sound + spoken @ self._heard[MARGIN : MARGIN + len(spoken)]
            self._spoken += float(spoken.sum())
        self._colour.append(colour)

    def add_face(self, face: int, mouths: Sequence[np.ndarray | None], seen: np.ndarray | None = None) -> None:
        """See a face in the stretch that was heard last.

        Parameters
        ----------
        face : int
            Its number.
        mouths : sequence of t arrays of shape (28, 28), or None
            Its mouth; None where it is not there, or not needed since nobody speaks.
        seen : array of bool, shape (t,), optional
            Where it is there although it is not needed.
        """
        scores = np.full((len(mouths), len(LAGS)), np.nan, dtype=np.float32)
        if seen is not None:
            scores[seen] = np.inf
        for first, last in _runs([mouth is not None for mouth in mouths]):
            pictures = np.stack([mouth for mouth in mouths[first:last] if mouth is not None])
            if self._heard.shape[1] == 1:  # silence
                scores[first:last] = np.inf
                continue
            found = self._networks.of_mouths(pictures)
            total, count = self._faces.get(face, (0.0, 0))
            self._faces[face] = total + found.sum(axis=0), count + len(found)
            for column, lag in enumerate(LAGS):
                scores[first:last, column] = (found * self._heard[MARGIN + lag + first : MARGIN + lag + last]).sum(1)
        if not np.isnan(scores).all():
            self._scores.setdefault(face, []).append((self._first, scores))

    def agreement(self, faces: Sequence[int]) -> Agreement:
        """What was found.

        Parameters
        ----------
        faces : sequence of m int
            Numbers of the faces.

        Returns
        -------
        Agreement
        """
        scores = np.full((self._count, len(faces), len(LAGS)), np.nan, dtype=np.float32)
        for column, face in enumerate(faces):
            total, count = self._faces.get(face, (0.0, 0))
            chance = float(np.sum(total * self._sound)) / max(count * self._spoken, 1)
            for first, own in self._scores.get(face, []):
                scores[first : first + len(own), column] = np.where(np.isinf(own), 0.0, own - chance)
        if not self._speech:
            return Agreement(scores, np.empty(0))
        return Agreement(scores, np.concatenate(self._speech), np.concatenate(self._colour))


def sound_stretches(recording: Recording) -> Iterator[tuple[int, np.ndarray]]:
    """The sound of stretches of ten seconds.

    Parameters
    ----------
    recording : Recording
        A recording with sound.

    Yields
    ------
    count : int
        Pictures of mouths in the stretch.
    samples : array of shape (n,)
        With `MARGIN` pictures before it and after it, filled up with silence.
    """
    count = len(mouth_times(recording.duration))
    step = SAMPLE_RATE // MOUTH_RATE
    spans = [(first, min(first + STRETCH, count)) for first in range(0, count, STRETCH)]
    timeline = Timeline(tuple(Segment(max(0, a - MARGIN) / MOUTH_RATE, (b + MARGIN) / MOUTH_RATE) for a, b in spans))
    for (first, last), samples in zip(spans, recording.sound(timeline), strict=True):
        before = max(0, MARGIN - first) * step
        length = (last - first + 2 * MARGIN) * step
        # A window that begins before the sound gets fewer samples; such a start is rare and short.
        yield last - first, np.pad(samples, (before, max(0, length - before - len(samples))))[:length]


def _runs(seen: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Where a face is seen without interruption: first picture, and the one after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def speech_share(samples: np.ndarray) -> np.ndarray:
    """Share of every 40 ms in which there is speech."""
    frames = np.repeat(speech_frames(samples).astype(float), VAD_FRAME)
    step = SAMPLE_RATE // MOUTH_RATE
    full = np.pad(frames, (0, len(samples) - len(frames)))
    return np.asarray(full[: len(full) // step * step].reshape(-1, step).mean(axis=1))
