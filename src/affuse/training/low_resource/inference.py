"""Inference: a package's network on samples, as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from affuse.data.own import Sample, clip, picture, waveform
from affuse.errors import ConfigError, DataError
from affuse.packages import Package
from affuse.packages.tokens import Tokens

__all__ = ["Predictions", "predict"]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Calibrated probabilities (n, k) and embeddings (n, d); a row of NaN where a sample gives the network nothing."""

    probabilities: np.ndarray
    embeddings: np.ndarray


def predict(package: Package, samples: Sequence[Sample]) -> Predictions:
    """Predictions of a package's network for samples, one after the other.

    Raises DataError without samples, ConfigError for a package that reads several things at once.
    """
    if not samples:
        raise DataError("there are no samples to predict")
    read = _reader(package)
    rows = [_answer(package, read(sample)) for sample in samples]
    width = next((len(embedding) for _, embedding in rows if embedding is not None), 0)
    unknown = np.full(len(package.description.labels), np.nan), np.full(width, np.nan)
    P, embeddings = zip(*(unknown if e is None else (p, e) for p, e in rows), strict=True)
    return Predictions(np.stack(P), np.stack(embeddings))


_Parts = list[tuple[dict[str, np.ndarray], int]]
"""Inputs of the parts of a sample, and how much each part weighs."""


def _reader(package: Package) -> Callable[[Sample], _Parts]:
    reads, inputs = package.description.reads, package.description.inputs
    if reads == ("waveform",):
        return lambda sample: _array("waveform", waveform(sample))
    if reads == ("images",):
        size, channels = int(inputs["images"]["size"]), int(inputs["images"]["channels"])
        return lambda sample: _array("images", picture(sample, size, channels))
    if reads == ("clips",):
        size, frames = int(inputs["clips"]["size"]), int(inputs["clips"]["frames"])
        return lambda sample: _array("clips", clip(sample, frames, size))
    if reads == ("tokens",):
        tokens = Tokens.of(package)
        return lambda sample: [
            ({"ids": part.ids, "mask": np.ones_like(part.ids)}, part.length) for part in tokens.parts(sample.text or "")
        ]
    raise ConfigError(
        f"{package.folder} reads {', '.join(reads)} at once; take a package that reads sound, faces or words alone"
    )


def _array(name: str, values: np.ndarray) -> _Parts:
    return [({name: values[None].astype(np.float32)}, 1)] if values.size else []


def _answer(package: Package, parts: _Parts) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not parts:
        return None, None
    answers = [package.session.run(["probabilities", "embedding"], inputs) for inputs, _ in parts]
    lengths = [length for _, length in parts]
    P, embedding = (np.average([answer[i][0] for answer in answers], axis=0, weights=lengths) for i in (0, 1))
    return np.asarray(P, dtype=float), np.asarray(embedding, dtype=float)
