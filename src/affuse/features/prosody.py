"""Prosody: melody, loudness, tempo, pauses and the roughness of a voice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from affuse.features.base import Extractor
from affuse.features.items import Array, Item, NoEvidenceError
from affuse.features.sound import HOP, LEVEL_WINDOW, heard, levels, librosa, samples_of
from affuse.media import SAMPLE_RATE

__all__ = ["Prosody", "Voice", "jitter", "listen", "pauses", "pulses", "shimmer", "syllable_rate"]

_LOWEST, _HIGHEST = 60.0, 600.0  # Hz: a low male voice to a shout
_RESOLUTION = 0.2  # semitones between the candidates of F0; where plain YIN agrees, its parabola is finer

_SHORTEST_PAUSE = 0.15  # seconds; the closures of stops are shorter

# Praat's bounds: neighbours that differ by more are not two cycles of one voice.
_MOST_PERIOD_RATIO = 1.3
_MOST_AMPLITUDE_RATIO = 1.6

_FLOOR = 1e-10  # of power, so that silence has a logarithm

_VOWELS = (300.0, 4000.0)  # Hz
_ENVELOPE_RATE = 200  # a second
_ENVELOPE_FLOOR = 1e-3  # of the loudest vowels' power: -30 dB
_ENVELOPE_BINS = 1 << 15  # an envelope of up to 2.7 minutes; the rest of a longer stretch is not read
_FIRST_RATE = 5.0  # syllables a second
_MOST_ROUNDS = 50

_SHORTEST_SPEECH = 0.5  # seconds: about two syllables


@dataclass(frozen=True)
class Voice:
    """Melody and loudness every 10 ms: ``f0`` (t,) in Hz, NaN where unvoiced; ``level`` (t,) in dB re full scale."""

    f0: Array
    level: Array

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """Which frames (t,) have a pitch."""
        return ~np.isnan(self.f0)

    @property
    def loud(self) -> NDArray[np.bool_]:
        """Which frames (t,) are within 25 dB of the loudest (their 99th percentile)."""
        return heard(self.level)


def listen(samples: Array) -> Voice:
    """F0 by probabilistic YIN (Mauch & Dixon 2014, doi:10.1109/ICASSP.2014.6853678) and RMS level over 64 ms.

    Candidates lie between 60 and 600 Hz. ``samples`` (n,) at 16 kHz; frame i lies around i · 10 ms.
    """
    library = librosa()
    framing = {"frame_length": LEVEL_WINDOW, "hop_length": HOP, "pad_mode": "constant"}
    bounds = {"fmin": _LOWEST, "fmax": _HIGHEST, "sr": SAMPLE_RATE}
    f0, voiced, _ = library.pyin(samples, resolution=_RESOLUTION, **bounds, **framing)
    fine = library.yin(samples, **bounds, **framing)
    agree = np.abs(np.log2(fine / f0)) < _RESOLUTION / 12
    return Voice(np.where(voiced, np.where(agree, fine, f0), np.nan), levels(samples))


def syllable_rate(samples: Array) -> float:
    """Syllables a second: the mean modulation frequency of the loudness of vowels, found where it keeps its place.

    After the moment of the envelope's spectrum (Morgan, Fosler & Mirghafori 1997, Eurospeech), between 300 and 4000 Hz
    and in dB; the moment is geometric and over one octave to each side of itself, so speech that is 1.5 times as fast
    reads 1.5 times as much (1.46 on average over clips sped up by WSOLA). On clips of known sentences it correlates
    with the true rate by .78 and reads 7 % low; counts of syllable nuclei (de Jong & Wempe 2009) by .32 at best.
    """
    vowels = sosfiltfilt(butter(2, _VOWELS, "bandpass", fs=SAMPLE_RATE, output="sos"), samples)
    step = SAMPLE_RATE // _ENVELOPE_RATE
    power = (vowels[: len(vowels) // step * step] ** 2).reshape(-1, step).mean(axis=1)
    loudness = 10 * np.log10(power + np.percentile(power, 99) * _ENVELOPE_FLOOR + _FLOOR)
    spectrum = np.abs(np.fft.rfft((loudness - loudness.mean()) * np.hanning(len(loudness)), _ENVELOPE_BINS)) ** 2
    frequencies = np.fft.rfftfreq(_ENVELOPE_BINS, 1 / _ENVELOPE_RATE)
    rate = _FIRST_RATE
    for _ in range(_MOST_ROUNDS):
        near = (frequencies >= rate / 2) & (frequencies <= rate * 2)
        before, rate = rate, float(np.exp(np.average(np.log(frequencies[near]), weights=spectrum[near] + _FLOOR)))
        if abs(rate - before) < 1e-4:
            break
    return rate


def pauses(voice: Voice) -> Array:
    """Lengths in seconds of the silences of at least 0.15 s between the first and the last loud frame."""
    return np.array(
        [
            (end - start) * HOP / SAMPLE_RATE
            for start, end in _runs(~voice.loud)
            if start > 0 and end < len(voice.level) and (end - start) * HOP >= _SHORTEST_PAUSE * SAMPLE_RATE
        ]
    )


def pulses(samples: Array, voice: Voice) -> Iterator[tuple[Array, Array]]:
    """For every voiced stretch, the times (p,) in seconds and heights (p,) of the peaks of its cycles.

    From the highest peak outwards, the next one is the highest between 0.75 and 1.25 periods away; its time is that of
    the parabola through its neighbours.
    """
    for start, end in _runs(voice.voiced):
        stretch = np.asarray(samples[start * HOP : end * HOP], dtype=float)
        if len(stretch) < 3:
            continue
        if -stretch.min() > stretch.max():
            stretch = -stretch
        periods = SAMPLE_RATE / voice.f0[start:end]
        peaks = np.array(_peaks(stretch, periods))
        times, heights = _parabolic(stretch, peaks)
        yield (start * HOP + times) / SAMPLE_RATE, heights


def _peaks(stretch: Array, periods: Array) -> list[int]:
    first = int(stretch[1:-1].argmax()) + 1
    found = [first]
    for direction in (-1, 1):
        at = first
        while True:
            period = periods[min(at // HOP, len(periods) - 1)]
            near, far = at + direction * 0.75 * period, at + direction * 1.25 * period
            low, high = round(min(near, far)), round(max(near, far)) + 1
            if low < 1 or high > len(stretch) - 1:
                break
            at = low + int(stretch[low:high].argmax())
            found.append(at)
    return sorted(found)


def _parabolic(stretch: Array, peaks: NDArray[np.intp]) -> tuple[Array, Array]:
    """Times (p,) in samples and heights (p,) of the tops of the parabolas through peaks and their neighbours."""
    before, here, after = (stretch[peaks + step] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    shift: Array = np.divide(before - after, 2 * bend, out=np.zeros(len(peaks)), where=bend < 0)
    shift = np.clip(shift, -0.5, 0.5)  # a peak on the edge of its search is none
    return peaks + shift, here - (before - after) * shift / 4


def jitter(stretches: list[Array]) -> float:
    """Mean change of the period from cycle to cycle over the mean period, of pulse times (p,) by stretch.

    "Jitter (local)" of Praat: neighbours whose ratio exceeds 1.3 are left out. NaN with fewer than two periods.
    """
    return _change([np.diff(times) for times in stretches], _MOST_PERIOD_RATIO)


def shimmer(stretches: list[Array]) -> float:
    """Mean change of the height from cycle to cycle over the mean height, of pulse heights (p,) by stretch.

    "Shimmer (local)" of Praat: neighbours whose ratio exceeds 1.6 are left out. NaN with fewer than two cycles.
    """
    return _change([heights[heights > 0] for heights in stretches], _MOST_AMPLITUDE_RATIO)


def _change(stretches: list[Array], most: float) -> float:
    pairs = np.concatenate([np.stack([s[:-1], s[1:]], axis=1) for s in stretches if len(s) > 1] or [np.empty((0, 2))])
    pairs = pairs[pairs.max(axis=1) <= most * pairs.min(axis=1)]
    return float(np.abs(np.diff(pairs, axis=1)).mean() / pairs.mean()) if len(pairs) else np.nan


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end of every stretch of True in ``mask`` (t,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


class Prosody(Extractor):
    """Melody (F0), loudness, speaking rate, pauses, jitter and shimmer of a stretch of speech.

    Pitch in Hz, its range (90th to 10th percentile) and slope in semitones; level in dB re full scale (RMS over 64 ms)
    of the frames within 25 dB of the loudest; `syllable_rate`, pauses and their share over the time from the first to
    the last such frame. No evidence where less than half a second is heard or nothing is voiced: a whisper has no F0.
    """

    name: ClassVar[str] = "prosody"
    modality: ClassVar[str] = "voice"
    unit: ClassVar[str] = "Hz, semitones, dB, 1/s, s, shares"
    extra: ClassVar[str] = "features"
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "numpy", "scipy")

    _NAMES: ClassVar[tuple[str, ...]] = (
        *("f0_mean_hz", "f0_median_hz", "f0_std_hz", "f0_range_semitones", "f0_slope_semitones_per_s", "voiced_share"),
        *("level_mean_db", "level_std_db", "level_range_db"),
        *("speaking_rate_per_s", "pauses_per_s", "pause_mean_s", "pause_share"),
        *("jitter", "shimmer", "duration_s"),
    )

    def look(self, item: Item) -> Array:
        """The values (16,) of one item."""
        samples = samples_of(item)
        voice = listen(samples)
        stretches = list(pulses(samples, voice))
        facts = _melody(voice) | _loudness(voice) | _tempo(samples, voice)
        facts["jitter"] = jitter([times for times, _ in stretches])
        facts["shimmer"] = shimmer([heights for _, heights in stretches])
        facts["duration_s"] = len(samples) / SAMPLE_RATE
        values = np.array([facts[name] for name in self._NAMES])
        if np.isnan(values).any():
            raise NoEvidenceError("too little voiced sound")
        return values

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names with their units."""
        return np.array(self._NAMES)


def _melody(voice: Voice) -> dict[str, float]:
    f0 = voice.f0[voice.voiced]
    if len(f0) < 3:
        raise NoEvidenceError("nothing voiced")
    pitch = 12 * np.log2(f0)
    low, high = np.percentile(pitch, [10, 90])
    times = np.flatnonzero(voice.voiced) * HOP / SAMPLE_RATE
    return {
        "f0_mean_hz": float(f0.mean()),
        "f0_median_hz": float(np.median(f0)),
        "f0_std_hz": float(f0.std()),
        "f0_range_semitones": float(high - low),
        "f0_slope_semitones_per_s": float(np.polyfit(times, pitch, 1)[0]),
        "voiced_share": float(voice.voiced[voice.loud].mean()),
    }


def _loudness(voice: Voice) -> dict[str, float]:
    level = voice.level[voice.loud]
    low, high = np.percentile(level, [10, 90])
    return {
        "level_mean_db": float(level.mean()),
        "level_std_db": float(level.std()),
        "level_range_db": float(high - low),
    }


def _tempo(samples: Array, voice: Voice) -> dict[str, float]:
    loud = np.flatnonzero(voice.loud)
    heard = samples[loud[0] * HOP : (loud[-1] + 1) * HOP]
    seconds = len(heard) / SAMPLE_RATE
    if seconds < _SHORTEST_SPEECH:
        raise NoEvidenceError("too little sound")
    silent = pauses(voice)
    return {
        "speaking_rate_per_s": syllable_rate(heard),
        "pauses_per_s": len(silent) / seconds,
        "pause_mean_s": float(silent.mean()) if len(silent) else 0.0,
        "pause_share": float(silent.sum() / seconds),
    }
