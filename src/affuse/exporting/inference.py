"""Asking experts about fixed inputs and held-out rows, and catching what their networks are asked meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import DataError
from affuse.evaluation.experts import waveform
from affuse.exporting.licences import allows
from affuse.testing import synthetic
from affuse.weight_sets import COMMERCIAL

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from affuse.data.corpora import Dataset
    from affuse.experts.base import Expert

__all__ = ["WatchedSession", "answers", "classify", "datasets_for", "evenly", "feeds_for", "training_sets", "watched"]

_CALIBRATION_ROWS = 64  # a data set: ranges of activations hardly change with more


def answers(expert: Expert, clip: Path) -> np.ndarray:
    """Probabilities (n, k) about `affuse.testing.synthetic` inputs, or ``clip`` where it reads only recordings."""
    if expert.abilities.classifies:
        return classify(expert, _inputs(expert.modality))
    return _read(expert, clip)


@cache
def _inputs(modality: str) -> Sequence[Any]:
    if modality == "text":
        return [text for texts in synthetic.SENTENCES.values() for text in texts]
    return list(synthetic.pictures()) if modality == "face" else synthetic.waveforms()


def classify(expert: Expert, inputs: Sequence[Any]) -> np.ndarray:
    """Probabilities (n, k) about single inputs: pictures, sounds or their files, or texts."""
    if expert.modality != "voice":
        return np.asarray(expert.classify(inputs), dtype=float)
    sounds = [waveform(item) if isinstance(item, Path) else item for item in inputs]
    return np.stack([np.asarray(expert.classify(sound), dtype=float) for sound in sounds])


def training_sets(expert: Expert, data: Path) -> list[Dataset]:
    """The training data in ``data`` that an expert may be calibrated on.

    Weights for commercial use stay free of data that exclude it.
    """
    from affuse.data import corpora

    found = datasets_for(expert, data, "train")
    if expert.weight_set != COMMERCIAL:
        return found
    return [rows for rows in found if allows(corpora.find(rows.name).licence) == "yes"]


def feeds_for(expert: Expert, clip: Path, sets: Sequence[Dataset] = ()) -> list[dict[str, np.ndarray]]:
    """What the network of ``expert`` is fed for rows of training data, or without any for the fixed inputs."""
    with watched(expert) as watches:
        for rows in sets:
            classify(expert, evenly(rows, _CALIBRATION_ROWS).inputs)
        if not sets:
            answers(expert, clip)
    return [row for watch in watches for feed in watch.feeds for row in _single(feed)]


def datasets_for(expert: Expert, data: Path, split: str) -> list[Dataset]:
    """The corpora in ``data`` that hold rows which ``expert`` can answer."""
    from affuse.data import corpora
    from affuse.labels import SENTIMENT

    found = []
    for name in corpora.names():
        try:
            rows = corpora.load(name, data, split)
        except DataError:
            continue  # this corpus is not there
        if expert.abilities.languages and rows.language not in (None, *expert.abilities.languages):
            continue
        known = {*expert.labels.labels, *(SENTIMENT.labels if expert.modality == "text" else ())}
        if rows.modality == expert.modality and set(rows.labels.labels) <= known and expert.abilities.classifies:
            found.append(rows)
    return found


def evenly(rows: Dataset, n: int | None) -> Dataset:
    """At most ``n`` rows, spread evenly over all."""
    if n is None or len(rows) <= n:
        return rows
    kept = np.unique(np.linspace(0, len(rows) - 1, n).round().astype(int))
    inputs = rows.inputs[kept] if isinstance(rows.inputs, np.ndarray) else [rows.inputs[i] for i in kept]
    votes, marks = (None if own is None else own[kept] for own in (rows.votes, rows.marks))
    columns = {name: [values[i] for i in kept] for name, values in rows.columns.items()}
    return replace(
        rows, inputs=inputs, targets=rows.targets[kept], groups=rows.groups[kept], votes=votes, columns=columns,
        marks=marks,
    )  # fmt: skip


class WatchedSession:
    """A network that takes down what it is fed, and how many seconds of processor it takes for that."""

    def __init__(self, network: InferenceSession) -> None:
        self._network = network
        self.feeds: list[dict[str, np.ndarray]] = []
        self.seconds = 0.0

    def run(self, outputs: Sequence[str] | None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """As the network itself."""
        began = time.thread_time()
        found: list[np.ndarray] = self._network.run(outputs, feed)
        self.seconds += time.thread_time() - began
        self.feeds.append(feed)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


@contextmanager
def watched(expert: Expert) -> Iterator[list[WatchedSession]]:
    """Watch the networks of an expert, which are loaded if they are not yet."""
    watches, before = [], []
    for holder, name in expert.sessions():
        network = getattr(holder, name)
        watches.append(WatchedSession(network))
        # Where a cached property keeps its value, also on a frozen package.
        vars(holder)[name] = watches[-1]
        before.append((holder, name, network))
    try:
        yield watches
    finally:
        for holder, name, network in before:
            vars(holder)[name] = network


def _single(feed: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The rows of a batch one by one, as the calibrator wants them: of the same size."""
    n = min(len(values) for values in feed.values())
    for i in range(n):
        yield {name: values[i : i + 1] for name, values in feed.items()}


def _read(expert: Expert, clip: Path) -> np.ndarray:
    from affuse.media import Recording
    from affuse.timeline import Timeline

    recording = Recording.open(clip)
    return np.asarray(expert.read(recording, Timeline.windows(recording.duration, 3.0, 1.0))[0].probabilities)
