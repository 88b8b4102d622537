"""Who speaks where nobody is seen: voices told apart in one sound, where it is known how many there are.

A speaker encoder hears a second of speech around every step, k-means groups what it hears, and a hidden Markov model
with one direction a voice turns the groups into turns. ``bench/voices.py`` measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from affuse.errors import MediaError
from affuse.experts.voice import VAD_FRAME, speech_frames
from affuse.media import SAMPLE_RATE, Recording
from affuse.people.hidden_markov import forward_backward
from affuse.people.speaking import Speakers
from affuse.people.voices import FRAMES, MELS, VoiceEncoder, level_gain, mel_power
from affuse.timeline import Segment, Timeline

__all__ = ["STEP", "HeardVoices", "VoiceTurnModel", "hear_voices", "voices_apart"]

STEP = 0.24
"""Seconds of a step in time."""

_RATE = 100  # mel frames a second
_HEARD = 100  # mel frames of speech around a step: 1 s. What the encoder needs more is the same again.
_BLOCK = 1000 * VAD_FRAME / SAMPLE_RATE  # seconds of sound that are held at once; the speech detector adapts to each
_BATCH = 32
_PAUSE = 2  # steps without speech that are part of a turn, where speech lies on both sides
_MOST = 3000  # embeddings from which k-means learns; more take longer and tell no more
_ROUNDS = 6  # of expectation and maximisation; the turns do not change any more


@dataclass(frozen=True, eq=False)
class HeardVoices:
    """What a speaker encoder hears over the time of a recording.

    Parameters
    ----------
    steps : array of int, shape (n,)
        The steps of `STEP` seconds in which there is speech, ascending.
    embeddings : array of shape (n, 256)
        Of a second of speech around each of them.
    count : int
        Number of steps of the whole recording.

    Examples
    --------
    >>> HeardVoices(np.array([0, 3]), np.ones((2, 256)), 5).spoken().astype(int)
    array([1, 1, 1, 1, 0])
    """

    steps: np.ndarray
    embeddings: np.ndarray
    count: int

    def spoken(self) -> np.ndarray:
        """Steps in which somebody speaks, or holds a short pause.

        Returns
        -------
        array of bool, shape (count,)
        """
        spoken = np.zeros(self.count, dtype=bool)
        spoken[self.steps] = True
        for before, after in zip(self.steps[:-1], self.steps[1:], strict=True):
            if after - before <= _PAUSE + 1:
                spoken[before:after] = True
        return spoken


@dataclass(frozen=True)
class VoiceTurnModel:
    """A hidden Markov model of turns over voices, with von Mises-Fisher distributions of the embeddings.

    Parameters
    ----------
    sharp : float
        Concentration of a voice around its direction, while directions are looked for.
    gain : float
        Concentration for the probabilities that come out. Neighbouring steps hear the same sound, so it is lower.
    stay : float
        Log-odds that the next step is of the same voice.
    trust : float
        Share of the recordings in which groups are voices at all, and not ways to speak.

    References
    ----------
    Banerjee, Dhillon, Ghosh & Sra (2005), Clustering on the unit hypersphere using von Mises-Fisher distributions.
    Rabiner (1989), A tutorial on hidden Markov models. doi:10.1109/5.18626

    Examples
    --------
    >>> voices = np.repeat(np.eye(256)[:2], 8, axis=0)
    >>> found = VoiceTurnModel().posteriors(HeardVoices(np.arange(16), voices, 16), 2)
    >>> found.argmax(axis=1)
    array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    >>> found.max() <= 0.9  # groups may be wrong as a whole
    True
    """

    sharp: float = 10.0
    gain: float = 3.0
    stay: float = 2.0
    trust: float = 0.8

    def posteriors(self, heard: HeardVoices, count: int) -> np.ndarray:
        """How probable each of some voices is at every step, given that somebody speaks.

        Parameters
        ----------
        heard : HeardVoices
            With at least as many different embeddings as there are voices.
        count : int
            Number of voices, at least 1.

        Returns
        -------
        array of shape (heard.count, count)
            Voices in the order in which they are first heard; rows sum to 1.
        """
        rows = heard.embeddings - heard.embeddings.mean(axis=0)  # what all voices of a recording share tells nothing
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        own = np.eye(count)[_groups(rows, count)]
        for _ in range(_ROUNDS):
            own = self._smoothed(heard, self.sharp * rows @ _directions(own, rows).T)[heard.steps]
        found = self._smoothed(heard, self.gain * rows @ _directions(own, rows).T)
        best = found[heard.steps].argmax(axis=1)
        first = [np.flatnonzero(best == voice)[:1].tolist() or [len(best)] for voice in range(count)]
        return self.trust * found[:, np.argsort(np.ravel(first), kind="stable")] + (1 - self.trust) / count

    def _smoothed(self, heard: HeardVoices, logs: np.ndarray) -> np.ndarray:
        """Posteriors (count, k) of log-likelihoods (n, k) at the steps with speech. A new turn may be of any voice."""
        k = logs.shape[1]
        likely = np.ones((heard.count, k))
        likely[heard.steps] = np.exp(logs - logs.max(axis=1, keepdims=True))
        stay = 1 / (1 + np.exp(-self.stay))
        return forward_backward(likely, np.full(k, 1 / k), stay * np.eye(k) + (1 - stay) / k)[0]


def voices_apart(
    recording: Recording, count: int, encoder: VoiceEncoder | None = None, model: VoiceTurnModel | None = None
) -> Speakers | None:
    """Who speaks in sound without a picture, where it is known how many people do.

    Parameters
    ----------
    recording : Recording
        An open recording.
    count : int
        Number of people, at least 2.
    encoder : VoiceEncoder, optional
        That of the optional weights where None.
    model : VoiceTurnModel, optional
        The usual one where None.

    Returns
    -------
    Speakers or None
        Over "speaker 1", "speaker 2" … in the order in which they are first heard; None where nobody speaks.

    Raises
    ------
    AssetError
        If the speaker encoder is missing.
    MediaError
        If there is too little speech for so many people.

    Examples
    --------
    >>> voices_apart(Recording.from_text("Nothing is heard in words."), 2) is None
    True
    """
    heard = hear_voices(recording, encoder or VoiceEncoder())
    if not len(heard.steps):
        return None
    if len(np.unique(heard.embeddings.round(6), axis=0)) < count:
        raise MediaError(
            f"{recording.name}: {count} speakers cannot be told apart in {len(heard.steps) * STEP:.1f} s of speech"
        )
    found = (model or VoiceTurnModel()).posteriors(heard, count)
    spoken = heard.spoken()[:, None]
    names = tuple(f"speaker {number}" for number in range(1, count + 1))
    return Speakers(names, np.hstack([found * spoken, 1.0 - spoken]), STEP)


def hear_voices(recording: Recording, encoder: VoiceEncoder) -> HeardVoices:
    """Embeddings of the voices that are heard, along a recording. The sound is decoded as a stream.

    Parameters
    ----------
    recording : Recording
        An open recording.
    encoder : VoiceEncoder

    Returns
    -------
    HeardVoices

    Raises
    ------
    AssetError
        If there is speech, and the speaker encoder is missing.

    Examples
    --------
    >>> len(hear_voices(Recording.from_text("Nothing is heard in words."), VoiceEncoder()).steps)
    0
    """
    power, frames = _speech_power(recording)
    count = max(1, int(np.ceil(recording.span.end / STEP - 1e-6)))
    numbers = np.minimum(((frames + 0.5) / _RATE + recording.sound_start) / STEP, count - 1).astype(int)
    steps = np.flatnonzero(np.bincount(numbers, minlength=count) >= STEP * _RATE / 2)
    middles = ((steps + 0.5) * STEP - recording.sound_start) * _RATE
    starts = np.searchsorted(frames, middles) - _HEARD // 2
    starts = np.clip(starts, 0, max(0, len(power) - _HEARD))
    rows = [encoder.embed_power(batch) for batch in _stretches(power, starts)]
    return HeardVoices(steps, np.concatenate([np.empty((0, 256)), *rows]), count)


def _stretches(power: np.ndarray, starts: np.ndarray) -> Iterator[np.ndarray]:
    """Batches (at most 32, 160, 40) of mel power, each a second of speech that is repeated until it fills them."""
    for i in range(0, len(starts), _BATCH):
        yield np.stack([np.resize(power[s : s + _HEARD], (FRAMES, MELS)) for s in starts[i : i + _BATCH]])


def _speech_power(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Mel power (n, 40) of the frames of 10 ms in which there is speech, and their numbers (n,) in the sound."""
    power, numbers, energy = [np.empty((0, MELS), dtype=np.float32)], [np.empty(0, dtype=int)], 0.0
    starts = np.arange(recording.sound_start, recording.span.end, _BLOCK).tolist() if recording.has_sound else []
    blocks = tuple(Segment(t, t + _BLOCK) for t in starts)
    for i, samples in enumerate(recording.sound(Timeline(blocks)) if blocks else ()):
        spoken = np.flatnonzero(np.repeat(speech_frames(samples), VAD_FRAME * _RATE // SAMPLE_RATE))
        own = mel_power(samples)[spoken]
        power.append(own)
        numbers.append(spoken + round(i * _BLOCK * _RATE))
        energy += float(np.sum(samples.reshape(-1)[_samples_of(spoken)].astype(float) ** 2))
    frames = np.concatenate(numbers)
    mean = energy / max(1, len(frames) * SAMPLE_RATE // _RATE)
    return np.concatenate(power) * np.float32(level_gain(mean) ** 2), frames


def _samples_of(frames: np.ndarray) -> np.ndarray:
    """Numbers of the samples of frames of 10 ms."""
    length = SAMPLE_RATE // _RATE
    return np.asarray((frames[:, None] * length + np.arange(length)).ravel())


def _groups(rows: np.ndarray, count: int) -> np.ndarray:
    """Group (n,) of every row, by k-means: as good as spectral and agglomerative clustering here, and fast."""
    from sklearn.cluster import KMeans  # takes a second to load

    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int)]
    return np.asarray(KMeans(count, n_init=10, random_state=0).fit(some).predict(rows))


def _directions(own: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean direction (k, 256) of every voice from its share (n, k) of the rows (n, 256)."""
    sums = own.T @ rows
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9))
