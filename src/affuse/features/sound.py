"""Sound for extractors: samples of an item, contours over time and what is left of them in one row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from affuse.errors import ConfigError, DataError
from affuse.experts.voice import SILENCE, level
from affuse.features.base import Extractor, library, one_of
from affuse.features.items import Array, Clip, Item, NoEvidenceError
from affuse.media import SAMPLE_RATE, Recording
from affuse.timeline import Segment, Timeline

__all__ = [
    "HOP",
    "LEVEL_WINDOW",
    "SHORTEST",
    "STATISTICS",
    "SoundExtractor",
    "heard",
    "levels",
    "librosa",
    "samples_of",
    "segment_of",
]

HOP = SAMPLE_RATE // 100
"""Samples from one frame to the next: 10 ms."""

LEVEL_WINDOW = 1024
"""Samples over which a level is taken: 64 ms, nearly four periods of the lowest voice."""

_SPEECH_RANGE = 25.0  # dB below the loudest frames within which somebody speaks (de Jong & Wempe 2009)
_FLOOR = 1e-10  # of power: -100 dB

SHORTEST = SAMPLE_RATE // 10
"""Samples below which there is too little sound to measure: a tenth of a second, eleven frames."""

STATISTICS: dict[str, Callable[[Array], Array]] = {
    "mean": lambda S: S.mean(axis=0),
    "std": lambda S: S.std(axis=0),
    "min": lambda S: S.min(axis=0),
    "p10": lambda S: np.percentile(S, 10, axis=0),
    "median": lambda S: np.median(S, axis=0),
    "p90": lambda S: np.percentile(S, 90, axis=0),
    "max": lambda S: S.max(axis=0),
    "skew": lambda S: np.nan_to_num(stats.skew(S, axis=0)),
}
"""What may be kept of a contour (t, d) over time: (d,). The skewness of a constant is 0."""


def librosa() -> Any:
    """The library librosa (McFee et al. 2015, doi:10.25080/Majora-7b98e3ed-003), which takes a moment to load."""
    return library("librosa", "librosa", "features")


def segment_of(clip: Clip, recording: Recording) -> Segment:
    """The stretch of the recording that a clip names. Raises DataError where it lies outside or ends too early."""
    start = 0.0 if clip.start is None else clip.start
    end = recording.span.end if clip.end is None else clip.end
    if not 0 <= start < end or start >= recording.span.end:
        raise DataError(f"{clip.path} lasts {recording.span.end:g} s; it has no stretch from {start:g} s to {end:g} s")
    return Segment(start, end)


def samples_of(item: Item) -> NDArray[np.float32]:
    """Mono samples (n,) at 16 kHz of a path, a `Clip` or samples.

    Raises NoEvidenceError where there is no sound, silence or less than `SHORTEST`; MediaError where a file is broken;
    DataError where samples are not a row of finite numbers.
    """
    if isinstance(item, np.ndarray):
        samples = np.asarray(item, dtype=np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise DataError(f"sound is one row of finite samples; got an array of shape {samples.shape}")
    else:
        samples = _decoded(item if isinstance(item, Clip) else Clip(Path(item)))
    if len(samples) == 0:
        raise NoEvidenceError("no sound")
    if level(samples) < SILENCE:
        raise NoEvidenceError("silence")
    if len(samples) < SHORTEST:
        raise NoEvidenceError("too little sound")
    return samples


def _decoded(clip: Clip) -> NDArray[np.float32]:
    recording = Recording.open(clip.path)
    return next(recording.sound(Timeline((segment_of(clip, recording),))))


def levels(samples: Array) -> Array:
    """Level (t,) in dB re full scale (RMS over 64 ms) every 10 ms; at least -100."""
    rms = librosa().feature.rms(y=samples, frame_length=LEVEL_WINDOW, hop_length=HOP, pad_mode="constant")[0]
    return np.asarray(10 * np.log10(np.maximum(rms.astype(float) ** 2, _FLOOR)))


def heard(level: Array) -> NDArray[np.bool_]:
    """Which frames (t,) are within 25 dB of the loudest (their 99th percentile)."""
    return np.asarray(level > np.percentile(level, 99) - _SPEECH_RANGE)


class SoundExtractor(Extractor):
    """Base of contours over time: a subclass writes `contour`, and one row keeps ``statistics`` of every column.

    Statistics are those of the frames that are `heard`: with silence and pauses in them, MFCC tell eight emotions of
    unseen actors (RAVDESS) apart in 41 % of clips instead of 53 %. Columns are ordered by statistic: the mean of all,
    then the deviation of all, and so on.
    """

    modality: ClassVar[str] = "voice"
    extra: ClassVar[str] = "features"
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "numpy", "scipy")
    version: ClassVar[int] = 2

    statistics: tuple[str, ...]

    def contour(self, samples: Array) -> Array:
        """Values (t, d), one row every 10 ms, of samples (n,) at 16 kHz; frame i lies around i · 10 ms."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it measures")

    def contour_names(self) -> list[str]:
        """Names of the columns (d) of `contour`."""
        raise NotImplementedError(f"{type(self).__name__} does not name its columns")

    def frames(self, item: Item) -> Array:
        """The whole `contour` (t, d) of an item. Raises as `samples_of` does."""
        return self.contour(samples_of(item))

    def look(self, item: Item) -> Array:
        """Statistics (d · s,) over the frames that are heard."""
        if not self.statistics:
            raise ConfigError(f"{self.name} needs at least one statistic of: {', '.join(STATISTICS)}")
        kept = [STATISTICS[one_of(name, "statistic", list(STATISTICS))] for name in self.statistics]
        samples = samples_of(item)
        contour = self.contour(samples)[heard(levels(samples))]
        return np.concatenate([statistic(contour) for statistic in kept])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names such as "mfcc_1_mean"."""
        return np.array([f"{name}_{statistic}" for statistic in self.statistics for name in self.contour_names()])
