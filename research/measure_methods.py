"""One method on one benchmark: trained, exported and tested, with its accuracy and its times."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import Tensor

from affuse import features, loop, weights
from affuse.data.own import DataOptions, Sample, TrainingData, read
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.experts.face.crop import HAAR_FRAMING, Framing
from affuse.features.base import Extractor
from affuse.features.faces import Face
from affuse.features.items import Item, NoEvidenceError
from affuse.features.landmarks import locate
from affuse.training import networks
from affuse.training.augment.picture import transform
from affuse.training.config import TrainConfig, resolve
from affuse.training.inputs import Augmentation, Clips, Draw, Inputs, Store, inputs_of
from affuse.training.module import Classification, Data, Split
from affuse.training.networks import tokenizers
from affuse.training.networks.base import Network
from affuse.training.networks.exporter import export
from affuse.training.run import plan_of
from affuse.training.seeds import threads
from affuse.training.settings import build

__all__ = [
    "ENLARGED",
    "Benchmark",
    "ByFeatures",
    "ByNetwork",
    "Frames",
    "Method",
    "Points",
    "Result",
    "Samples",
    "measure",
    "moving",
    "samples_of",
]

_SECONDS = 2.0  # length of the pieces of sound that a network learns from
_TOKENS = 64
_VOCABULARY = 6000
_EVERY = 3  # of the log-mel frames, which are 10 ms apart
_TIMED = 30  # items that times are measured on

ENLARGED = 4
"""Times that a small picture is enlarged for landmarks, which come in whole pixels."""


@dataclass(frozen=True)
class ByFeatures:
    """A feature set by name, and a support vector machine over it; ``note`` stands below the table."""

    extractor: str
    note: str = ""


@dataclass(frozen=True)
class ByNetwork:
    """A network by name, trained for ``epochs``; ``training`` are options of that table that differ from the default.

    ``units``: it also learns the action units of the rows.
    """

    network: str
    epochs: int
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    units: bool = False
    note: str = ""


Method = ByFeatures | ByNetwork


@dataclass(frozen=True)
class Benchmark:
    """Rows of a corpus, drawn by a fixed seed, and the methods that are compared on them.

    Parameters
    ----------
    title: of the table. corpus: as `affuse.data.own.read` knows it. modality: what the methods judge.
    n_train, n_test: rows at most. methods: by name. reading: modality that the corpus is read for, where it is another
    one. seeds: networks are trained once with each.
    """

    title: str
    corpus: str
    modality: str
    n_train: int
    n_test: int
    methods: Mapping[str, Method]
    reading: str | None = None
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Result:
    """What a method reached: accuracy with its 95 % interval over people, and one accuracy a seed.

    ``weights``: numbers that the trained model keeps. ``passes`` over the training rows, ``seconds`` each;
    ``milliseconds`` an answer.
    """

    accuracy: float
    interval: tuple[float, float]
    seeds: tuple[float, ...]
    weights: int
    passes: int
    seconds: float
    milliseconds: float


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled samples of a benchmark, to train and to test with."""

    data: TrainingData
    train: list[Sample]
    test: list[Sample]
    store: Store


class _Plain:
    """Base of inputs that are never augmented; rows are numbers of samples."""

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Inputs by name."""
        raise NotImplementedError

    def learning(self, rows: np.ndarray, draw: Draw) -> dict[str, Tensor]:
        """The same."""
        return self.plain(rows)

    def whole(self, row: int) -> dict[str, Tensor]:
        """Inputs of one sample."""
        return self.plain(np.array([row]))


class Frames(_Plain):
    """Vectors of successive frames (t, d) as "frames" (n, t, d), the shorter ones padded by 0, and "lengths" (n,)."""

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self.frames = frames

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Frames and their number."""
        parts = [torch.from_numpy(self.frames[row].astype(np.float32)) for row in rows]
        lengths = torch.tensor([len(part) for part in parts])
        return {"frames": torch.nn.utils.rnn.pad_sequence(parts, batch_first=True), "lengths": lengths}


class Points(_Plain):
    """Landmarks (n, 68, 2) in pixels."""

    def __init__(self, points: np.ndarray) -> None:
        self.points = points

    def plain(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Landmarks."""
        return {"landmarks": torch.from_numpy(self.points[rows].astype(np.float32))}


def moving(pictures: np.ndarray, frames: int, seed: int) -> np.ndarray:
    """Pictures (n, 1, s, s) uint8 as films: clips (n, 3, frames, s, s).

    The camera pans by up to a tenth of the side to each side and zooms by up to a quarter, evenly over the clip.
    """
    n = len(pictures)
    generator = torch.Generator().manual_seed(seed)
    start, end = (torch.rand(3, n, generator=generator) * 2 - 1 for _ in range(2))
    clips = np.empty((n, frames, *pictures.shape[2:]), np.uint8)
    still, images = torch.zeros(n), torch.from_numpy(pictures.astype(np.float32))
    for t, share in enumerate(torch.linspace(0, 1, frames)):
        x, y, zoom = torch.lerp(start, end, share)
        moved = transform(images, still, 1.125 + 0.125 * zoom, 0.1 * x, 0.1 * y, still.bool())
        clips[:, t] = moved[:, 0].round().byte().numpy()
    return np.broadcast_to(clips[:, None], (n, 3, *clips.shape[1:]))


def _log_mel(samples: Sequence[Sample]) -> Frames:
    """Log-mel of every clip, standardised by its own mean and deviation; one frame of zeros where it is silent."""
    extractor = features.make("log-mel")
    rows: list[np.ndarray | None] = []
    for sample in samples:
        try:
            contour = extractor.frames(sample.path)[::_EVERY]
        except NoEvidenceError:
            rows.append(None)
        else:
            rows.append((contour - contour.mean()) / contour.std())
    width = next(row.shape[1] for row in rows if row is not None)
    return Frames([np.zeros((1, width)) if row is None else row for row in rows])


def _landmarks(samples: Sequence[Sample]) -> Points:
    return Points(np.stack([locate(_enlarged(sample)) for sample in samples]))


def _enlarged(sample: Sample) -> Face:
    assert sample.pixels is not None
    size = ENLARGED * len(sample.pixels)
    image = cv2.cvtColor(cv2.resize(sample.pixels, (size, size), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)
    framing = Framing(1.0, HAAR_FRAMING.up)  # all of the picture is the face, as the extractors take it
    return Face(image, np.array([0.0, 0.0, size, size]), np.full((5, 2), np.nan), framing)


def measure(method: Method, benchmark: Benchmark, samples: Samples) -> Result:
    """Train and test a method, once a seed."""
    truth = np.array([sample.label for sample in samples.test])
    people = np.array([sample.speaker or f"row {i}" for i, sample in enumerate(samples.test)])
    if isinstance(method, ByFeatures):
        runs = [_by_features(method, samples)]
    else:
        runs = [_by_network(method, benchmark, samples, seed) for seed in benchmark.seeds]
    hits = np.stack([answers == truth for answers, *_ in runs]).astype(float)
    interval = cluster_bootstrap(hits.ravel(), np.tile(people, len(runs)))
    seconds, milliseconds = (float(np.mean([run[i] for run in runs])) for i in (2, 3))
    passes = method.epochs if isinstance(method, ByNetwork) else 1
    seeds = tuple(hits.mean(axis=1).tolist())
    return Result(float(hits.mean()), interval, seeds, runs[0][1], passes, seconds, milliseconds)


_Measured = tuple[np.ndarray, int, float, float]
"""Answers (n,), number of weights, seconds a pass, milliseconds an answer."""


def _by_features(method: ByFeatures, samples: Samples) -> _Measured:
    """A sample without evidence is left out of training, and counts as wrong in the test."""
    extractor = features.make(method.extractor)
    items = [_item(sample, extractor.modality) for sample in samples.train]
    store = features.FeatureStore()
    measured = extractor.measure(items, store=store)
    started = time.process_time()
    X = extractor.learn(measured).rows(measured)
    here = ~np.isnan(X).any(axis=1)
    model = LinearSVC(random_state=0) if extractor.modality == "text" and extractor.learns else _scaled_svm()
    model.fit(X[here], np.array([sample.label for sample in samples.train])[here])
    fitting = time.process_time() - started
    tested = [_item(sample, extractor.modality) for sample in samples.test]
    Z = extractor.rows(extractor.measure(tested, store=store))
    answers, known = np.full(len(Z), -1), ~np.isnan(Z).any(axis=1)
    answers[known] = model.predict(Z[known])
    looking, answering = _clocked(extractor, model, [tested[i] for i in np.flatnonzero(known)])
    return answers, _numbers(model), fitting + looking * len(items), 1000 * answering


def _item(sample: Sample, modality: str) -> Item:
    item = {"text": sample.text, "voice": sample.path, "face": sample.pixels}[modality]
    assert item is not None
    return item


def _scaled_svm() -> Any:
    return make_pipeline(StandardScaler(), SVC())


def _numbers(model: Any) -> int:
    """Numbers that a support vector machine keeps."""
    if isinstance(model, LinearSVC):
        return int(model.coef_.size + model.intercept_.size)
    machine = model[-1]
    return int(machine.support_vectors_.size + machine.dual_coef_.size + machine.intercept_.size)


def _clocked(extractor: Extractor, model: Any, items: Sequence[Item]) -> tuple[float, float]:
    """Processor seconds to measure an item, and to answer about it."""
    items = items[:_TIMED]
    extractor.measure(items[:1])  # what is loaded once is not the item's
    started = time.process_time()
    measured = extractor.measure(items)
    looked = time.process_time()
    for one in measured:
        model.predict(extractor.rows([one]))
    done = time.process_time()
    return (looked - started) / len(items), (done - started) / len(items)


def _by_network(method: ByNetwork, benchmark: Benchmark, samples: Samples, seed: int) -> _Measured:
    config = _config(method, benchmark, seed)
    network, tokenizer = _network(method, samples, seed)
    augmentation = Augmentation.of(config.augmentation)
    units = _units(samples) if method.units else None
    train = Split(_inputs(network, samples.train, tokenizer, augmentation, samples.store), _shares(samples), units)
    test = _inputs(network, samples.test, tokenizer, Augmentation(), samples.store)
    module = Classification(network, config.training, spectrum=augmentation.spectrum)
    with threads(1):
        started = time.process_time()
        loop.fit(module, Data(train, None, config.training), plan_of(config), monitor=None)
        seconds = (time.process_time() - started) / method.epochs
    answers, milliseconds = _answers(network, test, len(samples.test))
    return answers, network.count_parameters(), seconds, milliseconds


def _config(method: ByNetwork, benchmark: Benchmark, seed: int) -> TrainConfig:
    """The defaults of ``affuse train``, with what the method says over them."""
    own = {"epochs": method.epochs, "seed": seed, "patience": 0, "imbalance": "none", "ema_decay": 0.98}
    table = {
        "data": {"source": benchmark.corpus, "modality": benchmark.modality, "seconds": _SECONDS},
        "network": {"name": method.network},
        "training": {**own, **method.training},
        "device": {"accelerator": "cpu"},
    }
    return resolve(build(TrainConfig, table))


def _network(method: ByNetwork, samples: Samples, seed: int) -> tuple[Network, Any]:
    """An untrained network, and the tokenizer of one over tokens."""
    options, tokenizer = dict(method.options), None
    if "vocab_size" in networks.options(method.network):
        tokenizer = tokenizers.train((sample.text or "" for sample in samples.train), _VOCABULARY, _TOKENS)
        options["vocab_size"] = tokenizer.get_vocab_size()
    if method.units:
        options["n_action_units"] = _units(samples).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(loop.epoch_seed(seed))
        network = networks.make(method.network, len(samples.data.labels), **options)
    if tokenizer is None and network.reads == "tokens" and network.folder is not None:
        tokenizer = tokenizers.load(network.folder, _TOKENS)
    return network, tokenizer


def _units(samples: Samples) -> np.ndarray:
    """Intensities (n, u) of action units, NaN where unknown."""
    intensities = [i for i, name in enumerate(samples.data.column_names) if name.endswith("_r")]
    return np.stack([sample.columns[intensities] for sample in samples.train])  # type: ignore[index]


def _shares(samples: Samples) -> np.ndarray:
    """Targets (n, k): votes, where the corpus has them."""
    sure = np.eye(len(samples.data.labels))
    return np.stack([sure[s.label] if s.distribution is None else s.distribution for s in samples.train])


def _inputs(
    network: Network, samples: Sequence[Sample], tokenizer: Any, augmentation: Augmentation, store: Store
) -> Inputs:
    if network.reads == "frames":
        return _log_mel(samples)
    if network.reads == "landmarks":
        return _landmarks(samples)
    if network.reads == "clips":
        assert network.picture is not None
        frames = network.example()["clips"].shape[2]
        films = moving(store.pictures(samples, network.picture[0], 1), frames, len(samples))
        return Clips(films, augmentation.picture)
    return inputs_of(network, samples, store, _SECONDS, tokenizer, augmentation)


def _answers(network: Network, inputs: Inputs, n: int) -> tuple[np.ndarray, float]:
    """Labels (n,) that the exported network gives row by row, and milliseconds a row."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(network, path)
        session = weights.session(path)
    names = {entry.name for entry in session.get_inputs()}
    answers, spent = np.empty(n, dtype=int), 0.0
    for row in range(n):
        given = {name: value.numpy() for name, value in inputs.whole(row).items() if name in names}
        started = time.process_time()
        answers[row] = session.run(["probabilities"], given)[0][0].argmax()
        spent += time.process_time() - started
    return answers, 1000 * spent / n


def samples_of(benchmark: Benchmark, data: Path, store: Store) -> Samples:
    """The samples of a benchmark, drawn at random where the corpus has more."""
    found = read(benchmark.corpus, benchmark.reading or benchmark.modality, DataOptions(folder=data))
    rng = np.random.default_rng(0)

    def drawn(split: str, count: int) -> list[Sample]:
        samples = [sample for sample in found.split(split) if sample.label is not None]
        return [samples[i] for i in np.sort(rng.permutation(len(samples))[:count])]

    return Samples(found, drawn("train", benchmark.n_train), drawn("dev", benchmark.n_test), store)
