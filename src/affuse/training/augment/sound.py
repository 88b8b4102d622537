"""Augmentation of sound: noise at a given ratio, speed, pitch, rooms, codecs and gain, on 16 kHz mono waveforms.

Each change is a function with its strength as an argument, which is what robustness is measured with;
`SoundAugmentation` draws the strengths. Speed after Ko et al. 2015 (doi:10.21437/Interspeech.2015-711), noise and rooms
after Ko et al. 2017 (doi:10.1109/ICASSP.2017.7953152). Nothing here needs more than scipy and FFmpeg, which
affuse always has.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from affuse.errors import ConfigError
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Timeline
from affuse.training.augment.ranges import Range, check_range, check_share, drawn

__all__ = [
    "CODECS",
    "COLOURS",
    "SoundAugmentation",
    "add_noise",
    "babble",
    "change_gain",
    "change_speed",
    "coloured_noise",
    "reverberate",
    "room_response",
    "shift_pitch",
    "through_codec",
]

COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}
"""Noise by the exponent e of its power spectrum 1/f^e."""

CODECS = ("telephone", "opus", "amr")
"""Ways of transmission: 300…3400 Hz with µ-law (G.711), Opus at 16 kbit/s, AMR narrow band at 4.75 kbit/s."""


@dataclass(frozen=True)
class SoundAugmentation:
    """Another recording of the same utterance: another voice, room, microphone and line.

    Calling it changes a waveform (n,) float32 at 16 kHz; every random choice comes from the generator given. None and
    an empty tuple switch a change off.

    Parameters
    ----------
    noise_snr : tuple of float, optional
        Smallest and largest signal-to-noise ratio in dB.
    noises : tuple of str
        Colours of `COLOURS` that the noise is drawn from, and "babble", which takes the clips given with the call.
    noise_folder : str, optional
        Folder of recordings to draw noise from instead.
    speed : tuple of float, optional
        Factors; 1.5 is half again as fast, and higher.
    pitch : tuple of float, optional
        Semitones; the duration stays.
    reverberation : tuple of float, optional
        Times in seconds in which a room's sound falls by 60 dB.
    codec : tuple of str
        Names of `CODECS`, one of which is drawn.
    gain : tuple of float, optional
        dB; what exceeds full scale is clipped.
    probability : float
        Of each change by itself.

    Raises
    ------
    ConfigError
        If a value is out of range.

    References
    ----------
    Ko et al. (2015), Audio augmentation for speech recognition. doi:10.21437/Interspeech.2015-711

    Ko et al. (2017), A study on data augmentation of reverberant speech. doi:10.1109/ICASSP.2017.7953152

    Examples
    --------
    >>> tone = np.sin(np.arange(16000) / 10).astype(np.float32)
    >>> faster = SoundAugmentation(speed=(1.25, 1.25), probability=1)(tone, np.random.default_rng(0))
    >>> faster.shape
    (12800,)
    """

    noise_snr: Range | None = None
    noises: tuple[str, ...] = ("white", "pink", "babble")
    noise_folder: str | None = None
    speed: Range | None = None
    pitch: Range | None = None
    reverberation: Range | None = None
    codec: tuple[str, ...] = ()
    gain: Range | None = None
    probability: float = 0.5

    def __post_init__(self) -> None:
        check_range("noise_snr", self.noise_snr, -60, 100)
        check_range("speed", self.speed, 0.25, 4)
        check_range("pitch", self.pitch, -12, 12)
        check_range("reverberation", self.reverberation, 0.01, 10)
        check_range("gain", self.gain, -60, 60)
        check_share("probability", self.probability)
        _check_names("codec", self.codec, CODECS)
        _check_names("noises", self.noises, (*COLOURS, "babble"))
        if self.noise_folder is not None:
            _recordings(self.noise_folder)

    def __call__(self, waveform: np.ndarray, rng: np.random.Generator, others: Sequence[np.ndarray] = ()) -> np.ndarray:
        """Waveform (n,) float32 in, (m,) float32 out; ``others`` are clips to make babble of."""
        if not len(waveform):
            return waveform
        changed = waveform
        if self.speed is not None and self._happens(rng):
            changed = change_speed(changed, drawn(self.speed, rng))
        if self.pitch is not None and self._happens(rng):
            changed = shift_pitch(changed, drawn(self.pitch, rng))
        if self.reverberation is not None and self._happens(rng):
            changed = reverberate(changed, room_response(drawn(self.reverberation, rng), rng))
        if self.noise_snr is not None and self._happens(rng):
            ratio = drawn(self.noise_snr, rng)
            changed = add_noise(changed, self._noise(len(changed), rng, others), ratio)
        if self.gain is not None and self._happens(rng):
            changed = change_gain(changed, drawn(self.gain, rng))
        if self.codec and self._happens(rng):
            changed = through_codec(changed, str(rng.choice(self.codec)))
        return np.ascontiguousarray(changed, dtype=np.float32)

    def _happens(self, rng: np.random.Generator) -> bool:
        return bool(rng.random() < self.probability)

    def _noise(self, n: int, rng: np.random.Generator, others: Sequence[np.ndarray]) -> np.ndarray:
        if self.noise_folder is not None:
            recordings = _recordings(self.noise_folder)
            return _piece(_decoded(recordings[rng.integers(len(recordings))]), n, rng)
        colours = [name for name in self.noises if name != "babble" or len(others)]
        if not colours:
            colours = ["white"]  # babble alone was asked for, and nobody else is there to talk
        colour = str(rng.choice(colours))
        return babble(others, n, rng) if colour == "babble" else coloured_noise(n, colour, rng)


def add_noise(waveform: np.ndarray, noise: np.ndarray, snr: float) -> np.ndarray:
    """Waveform (n,) with ``noise`` (n,) so loud that the ratio of their mean powers is ``snr`` in dB.

    Where either is silent no ratio exists, and the waveform comes back as it was.
    """
    signal, disturbance = _power(waveform), _power(noise)
    if signal == 0 or disturbance == 0:
        return waveform
    return (waveform + noise * math.sqrt(signal / disturbance * 10 ** (-snr / 10))).astype(np.float32)


def coloured_noise(n: int, colour: str, rng: np.random.Generator) -> np.ndarray:
    """Noise (n,) float32 of unit power whose spectrum falls as `COLOURS` says, made by shaping a white spectrum.

    Below 20 Hz, where nothing is heard, the spectrum is flat. Raises ConfigError for an unknown colour.
    """
    _check_names("noises", (colour,), tuple(COLOURS))
    frequency = np.maximum(np.fft.rfftfreq(n, 1 / SAMPLE_RATE), 20.0)
    spectrum = np.fft.rfft(rng.standard_normal(n)) * frequency ** (-COLOURS[colour] / 2)
    noise = np.fft.irfft(spectrum, n)
    return (noise / math.sqrt(_power(noise))).astype(np.float32)


def babble(clips: Sequence[np.ndarray], n: int, rng: np.random.Generator, voices: int = 5) -> np.ndarray:
    """Several people talking at once (n,): ``voices`` clips drawn at random, equally loud, repeated to length."""
    total = np.zeros(n, dtype=np.float32)
    for _ in range(voices):
        piece = _piece(clips[int(rng.integers(len(clips)))], n, rng)
        total += piece / math.sqrt(_power(piece) or 1.0)
    return total


def change_speed(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Waveform (n,) played ``speed`` times as fast: (n / speed,) float32, pitch and tempo together."""
    from scipy.signal import resample_poly

    ratio = Fraction(speed).limit_denominator(40)
    changed = waveform if ratio == 1 else resample_poly(waveform, ratio.denominator, ratio.numerator)
    return np.ascontiguousarray(changed, dtype=np.float32)


def shift_pitch(waveform: np.ndarray, semitones: float) -> np.ndarray:
    """Waveform (n,) float32 higher by ``semitones`` (12 are an octave) in the same time.

    Played faster and then stretched to its length by overlapping similar pieces (WSOLA: Verhelst & Roelands 1993,
    doi:10.1109/ICASSP.1993.319366; FFmpeg's atempo). Formants move with the pitch.
    """
    ratio = float(Fraction(2 ** (semitones / 12)).limit_denominator(40))
    if ratio == 1:
        return waveform
    # Silence behind the clip makes up for the last overlap, which atempo keeps to itself.
    padded = np.pad(change_speed(waveform, ratio), (0, SAMPLE_RATE // 4))
    return _fitted(_stretch(padded, 1 / ratio), len(waveform))


def room_response(rt60: float, rng: np.random.Generator, direct: float = 1.0) -> np.ndarray:
    """Impulse response (m,) float32 of a room whose sound falls by 60 dB in ``rt60`` seconds.

    Noise that decays exponentially (Polack 1988) behind the direct sound; ``direct`` is the energy of the direct
    sound by that of the room. The response has unit energy, so that speech stays about as loud.
    """
    n = max(2, round(rt60 * SAMPLE_RATE))
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / (rt60 * SAMPLE_RATE))
    tail[0] = 0.0
    tail[0] = math.sqrt(direct * float(tail @ tail))
    return (tail / math.sqrt(float(tail @ tail))).astype(np.float32)


def reverberate(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Waveform (n,) heard through ``response`` (m,): (n,) float32, the tail after the last sample cut off."""
    from scipy.signal import fftconvolve

    return fftconvolve(waveform, response)[: len(waveform)].astype(np.float32)


def change_gain(waveform: np.ndarray, decibels: float) -> np.ndarray:
    """Waveform (n,) float32 louder by ``decibels``; what exceeds -1…1 is clipped as a converter does."""
    return np.clip(waveform * 10 ** (decibels / 20), -1.0, 1.0).astype(np.float32)


def through_codec(waveform: np.ndarray, codec: str) -> np.ndarray:
    """Waveform (n,) float32 coded and decoded by one of `CODECS`. Raises ConfigError for others.

    Opus and AMR are FFmpeg's; where FFmpeg was built without one of them, ConfigError says so.
    """
    _check_names("codec", (codec,), CODECS)
    return _telephone(waveform) if codec == "telephone" else _coded(waveform, *_CONTAINERS[codec])


# Codec → FFmpeg's encoder, container, sample rate, bits a second. The low rate is where AMR is at its worst.
_CONTAINERS = {
    "opus": ("libopus", "ogg", 16000, 16000),
    "amr": ("libopencore_amrnb", "amr", 8000, 4750),
}


def _telephone(waveform: np.ndarray, mu: float = 255.0) -> np.ndarray:
    """ITU-T G.711: 300…3400 Hz, 8 kHz, 8 bits on a logarithmic scale."""
    from scipy.signal import butter, resample_poly, sosfiltfilt

    band = butter(4, (300, 3400), "bandpass", fs=8000, output="sos")
    # Room for the filter's transients where the clip is shorter than they are.
    padded = np.pad(resample_poly(waveform, 1, 2), 200)
    narrow = np.clip(sosfiltfilt(band, padded), -1, 1)
    levels = np.round(np.sign(narrow) * np.log1p(mu * np.abs(narrow)) / math.log1p(mu) * 127) / 127
    decoded = np.sign(levels) * np.expm1(np.abs(levels) * math.log1p(mu)) / mu
    return _fitted(resample_poly(decoded[200:-200], 2, 1), len(waveform))


def _coded(waveform: np.ndarray, encoder: str, container: str, rate: int, bits: int) -> np.ndarray:
    import av
    from av import AudioStream

    if encoder not in av.codecs_available:
        raise ConfigError(f"FFmpeg was built without {encoder} here; choose another codec of {', '.join(CODECS)}")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = cast(AudioStream, output.add_stream(encoder, rate=rate, layout="mono", bit_rate=bits))
        down = av.AudioResampler(stream.format.name, "mono", rate)
        # Silence behind the clip fills its last block and pushes it out of the coder.
        padded = np.pad(waveform, (0, SAMPLE_RATE // 10))
        for frame in (*down.resample(_frame(padded)), *down.resample(None), None):
            output.mux(stream.encode(frame))
    file.seek(0)
    with av.open(file, "r", format=container) as coded:
        up = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        frames = [out for frame in (*coded.decode(audio=0), None) for out in up.resample(frame)]
    return _fitted(np.concatenate([frame.to_ndarray()[0] for frame in frames]), len(waveform))


def _frame(waveform: np.ndarray) -> Any:
    from av import AudioFrame

    frame = AudioFrame.from_ndarray(np.ascontiguousarray(waveform, np.float32)[None], "flt", "mono")
    frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
    return frame


def _stretch(waveform: np.ndarray, tempo: float) -> np.ndarray:
    """Waveform (n,) in ``tempo`` times the speed at the same pitch, by FFmpeg's atempo."""
    from av.error import EOFError as NoMoreFrames
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono", time_base=Fraction(1, SAMPLE_RATE))
    graph.link_nodes(source, graph.add("atempo", f"{tempo:.6f}"), graph.add("abuffersink")).configure()
    graph.push(_frame(waveform))
    graph.push(None)
    pieces = []
    with suppress(NoMoreFrames):
        while True:
            pieces.append(graph.pull().to_ndarray()[0])
    return np.concatenate(pieces)


def _fitted(waveform: np.ndarray, n: int) -> np.ndarray:
    """Waveform cut, or filled with silence, to (n,) float32."""
    return np.pad(waveform[:n], (0, max(0, n - len(waveform)))).astype(np.float32)


def _piece(waveform: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch (n,) from a random place, the clip repeated where it is shorter."""
    repeated = np.tile(waveform, 1 + math.ceil(n / len(waveform)))
    start = rng.integers(len(repeated) - n)
    return repeated[start : start + n]


def _power(waveform: np.ndarray) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64)))


@lru_cache(maxsize=8)
def _recordings(folder: str) -> tuple[Path, ...]:
    place = Path(folder)
    if not place.is_dir():
        raise ConfigError(f"noise_folder {folder} is not a folder")
    files = tuple(sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")))
    if not files:
        raise ConfigError(f"noise_folder {folder} holds no recordings")
    return files


@lru_cache(maxsize=64)
def _decoded(path: Path) -> np.ndarray:
    recording = Recording.open(path)
    (waveform,) = recording.sound(Timeline((recording.span,)))
    if not waveform.any():
        raise ConfigError(f"{path} is silent, so it is no noise; take it out of noise_folder")
    return waveform


def _check_names(option: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"unknown name {unknown[0]!r} for {option}; known: {', '.join(known)}")
