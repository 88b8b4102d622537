"""A client's own rows: read, checked and turned into numbers on the client's machine, which they never leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from affuse import weights
from affuse.data.own import DataOptions, Sample, TrainingData, read, waveform
from affuse.data.own.splits import set_aside
from affuse.data.predictions import join, read_predictions
from affuse.errors import ConfigError, DataError
from affuse.features.cache import FeatureStore
from affuse.features.embeddings import VoiceEmbedding
from affuse.features.items import Clip, Measured, NoEvidenceError
from affuse.fusion.base import present
from affuse.fusion.dynamic import centred_logits
from affuse.media import SAMPLE_RATE

__all__ = ["Rows", "Table", "aligned", "fuser_inputs", "numbers", "read_rows", "voice_width"]

_LONGEST = 20 * SAMPLE_RATE  # of sound that the encoder reads at once, as in the voice expert
_HELD_OUT = 0.2  # share of a fuser's rows that only measure, in whole groups


@dataclass(frozen=True, eq=False)
class Table:
    """Rows as numbers.

    Parameters
    ----------
    X : array of shape (n, d)
        Inputs as they are, NaN where something is missing.
    Y : array of shape (n, k)
        Shares of the labels.

    Examples
    --------
    >>> len(Table(np.zeros((3, 2)), np.eye(2)[[0, 1, 1]]))
    3
    """

    X: np.ndarray
    Y: np.ndarray

    def __len__(self) -> int:
        return len(self.X)


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows of one client.

    Parameters
    ----------
    kind : str
        One of `affuse.federated.plan.KINDS`.
    labels : tuple of str
        In the order of the columns of ``Y``.
    train, held_out : Table
        Rows to learn from, and rows of other speakers that set the temperature and measure.
    columns : tuple of str
        Names of the numbers of a joint expert.
    modalities : tuple of str
        Of a fuser.
    notes : tuple of str
        Sentences about how the rows were read.

    Examples
    --------
    >>> table = Table(np.zeros((3, 2)), np.eye(2)[[0, 1, 1]])
    >>> Rows("voice", ("anger", "sadness"), table, table).labels
    ('anger', 'sadness')
    """

    kind: str
    labels: tuple[str, ...]
    train: Table
    held_out: Table
    columns: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_rows(kind: str, sources: Sequence[str | Path], options: DataOptions | None = None) -> Rows:
    """Read a client's own data.

    Parameters
    ----------
    kind : {"voice", "joint", "fuser"}
        What is learned.
    sources : sequence of str or Path
        For an expert one folder, table or corpus, as `affuse.data.own.read` takes it. For a fuser one table of
        probabilities a modality, with true labels and, where known, groups, as ``affuse train`` leaves them.
    options : DataOptions, optional
        How the rows of an expert are read.

    Returns
    -------
    Rows

    Raises
    ------
    DataError
        If the data cannot be used, or hold no row to learn from.
    ConfigError
        If an option does not fit.

    Examples
    --------
    >>> lines = [f"{i},{'0.9,0.1,happy' if i % 2 else '0.2,0.8,sad'},{i // 4}" for i in range(20)]
    >>> _ = Path("face.csv").write_text("\\n".join(["id,happy,sad,label,group", *lines]))
    >>> rows = read_rows("fuser", ["face.csv"])
    >>> rows.labels, len(rows.train), len(rows.held_out)
    (('happy', 'sad'), 16, 4)
    """
    if kind == "fuser":
        return _read_predictions([Path(source) for source in sources])
    if len(sources) != 1:
        raise ConfigError(f"an expert learns from one --data; got {len(sources)}")
    data = read(sources[0], kind, options or DataOptions())
    if kind == "joint" and not data.column_names:
        raise DataError(f"{sources[0]} holds no numbers beside the voice; learn an expert of the kind voice from it")
    train, held_out = (numbers(data, split) for split in ("train", "dev"))
    _need_rows(train, str(sources[0]))
    return Rows(kind, data.labels.labels, train, held_out, data.column_names, (), data.notes)


def aligned(rows: Rows, labels: Sequence[str]) -> Rows:
    """The same rows with the labels of the plan.

    Parameters
    ----------
    rows : Rows
    labels : sequence of str
        May hold labels that no row has.

    Returns
    -------
    Rows

    Raises
    ------
    DataError
        If a row has a label that the plan lacks.

    Examples
    --------
    >>> table = Table(np.zeros((2, 1)), np.eye(2))
    >>> aligned(Rows("voice", ("sadness", "anger"), table, table), ["anger", "fear", "sadness"]).train.Y
    array([[0., 0., 1.],
           [1., 0., 0.]])
    """
    unknown = [label for label in rows.labels if label not in labels]
    if unknown:
        raise DataError(
            f"these data have the label {', '.join(unknown)}, which the plan lacks; its labels: {', '.join(labels)}"
        )
    places = [list(labels).index(label) for label in rows.labels]

    def moved(table: Table) -> Table:
        Y = np.zeros((len(table), len(labels)))
        Y[:, places] = table.Y
        return Table(table.X, Y)

    if rows.kind != "fuser":
        return replace(rows, labels=tuple(labels), train=moved(rows.train), held_out=moved(rows.held_out))
    if set(labels) != set(rows.labels):
        lacking = [label for label in labels if label not in rows.labels]
        raise DataError(f"the tables of a fuser need a column for each label; these lack {', '.join(lacking)}")
    order = [rows.labels.index(label) for label in labels]
    m, k = len(rows.modalities), len(labels)

    def reordered(table: Table) -> Table:
        logits = table.X[:, : m * k].reshape(-1, m, k)[:, :, order].reshape(len(table), -1)
        return Table(np.concatenate([logits, table.X[:, m * k :]], axis=1), table.Y[:, order])

    return replace(rows, labels=tuple(labels), train=reordered(rows.train), held_out=reordered(rows.held_out))


def fuser_inputs(P: np.ndarray) -> np.ndarray:
    """What stacking learns from: centred log-probabilities and a 1 for every gap.

    Parameters
    ----------
    P : array of shape (n, m, k)
        NaN where a modality is missing.

    Returns
    -------
    array of shape (n, m k + m)

    Examples
    --------
    >>> fuser_inputs(np.array([[[0.5, 0.5], [np.nan, np.nan]]]))
    array([[0., 0., 0., 0., 0., 1.]])
    """
    return np.concatenate([centred_logits(P).reshape(len(P), -1), ~present(P)], axis=1)


def voice_width() -> int:
    """Numbers that the shipped voice network hears in a clip.

    Returns
    -------
    int

    Examples
    --------
    >>> voice_width()
    32
    """
    return len(VoiceEmbedding().get_feature_names_out())


def numbers(data: TrainingData, split: str, keep_silent: bool = False) -> Table:
    """What the shipped voice network hears in the labelled rows of a split, and their columns of numbers.

    Parameters
    ----------
    data : TrainingData
    split : str
        "train" or "dev".
    keep_silent : bool
        Whether to keep rows without anything to learn from, as NaN.

    Returns
    -------
    Table
    """
    samples = [sample for sample in data.split(split) if sample.label is not None]
    width, k, store = voice_width(), len(data.labels), FeatureStore()
    X = np.full((len(samples), width + len(data.column_names)), np.nan)
    Y = np.zeros((len(samples), k))
    for x, y, sample in zip(X, Y, samples, strict=True):
        if sample.path is not None:
            x[:width] = _embedding(sample, store)
        if sample.columns is not None:
            x[width:] = sample.columns
        y[:] = np.eye(k)[sample.label] if sample.distribution is None else sample.distribution
    heard = keep_silent | ~np.isnan(X).all(axis=1)  # a row that says nothing teaches nothing
    return Table(X[heard], Y[heard])


def _embedding(sample: Sample, store: FeatureStore) -> np.ndarray:
    """What the voice network hears, the mean over equal pieces of long sound; NaN where there is too little.

    It is kept in the cache of affuse, so that a client who is started again need not listen again.
    """
    assert sample.path is not None
    clip = Clip(sample.path, sample.start, sample.end)
    settings = f"federated {weights.digest('voice')}"
    value = store.recall(clip, settings, lambda item: _measured(sample)).value
    return np.full(voice_width(), np.nan) if value is None else value


def _measured(sample: Sample) -> Measured:
    extractor = VoiceEmbedding()
    sound = waveform(sample)
    try:
        pieces = np.array_split(sound, max(1, math.ceil(len(sound) / _LONGEST)))
        return Measured(np.asarray(np.mean([extractor.look(piece) for piece in pieces], axis=0)))
    except NoEvidenceError as error:
        return Measured(None, str(error))


def _read_predictions(paths: Sequence[Path]) -> Rows:
    tables = [read_predictions(path, group_column="group" if _has_groups(path) else None) for path in paths]
    found = join(tables).labelled
    listed = " and ".join(map(str, paths))
    if len(found) == 0:
        raise DataError(f"{listed} hold no row with a true label; a fuser learns from a column named label")
    speakers = [str(group) for group in found.groups]
    apart = set_aside(found.targets, speakers, _HELD_OUT, 0)
    X, Y = fuser_inputs(found.P), np.eye(len(found.labels))[found.targets]
    train = Table(X[~apart], Y[~apart])
    _need_rows(train, listed)
    return Rows("fuser", found.labels, train, Table(X[apart], Y[apart]), (), found.modalities)


def _has_groups(path: Path) -> bool:
    from affuse.tables import read_table

    return "group" in read_table(path, ["id"]).columns


def _need_rows(train: Table, source: str) -> None:
    if len(train) < 2:
        raise DataError(f"{source} holds {len(train)} rows to learn from; a client needs at least 2")
