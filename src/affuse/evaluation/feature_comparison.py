"""Early and late fusion of features by name, cross-validated on anybody's own table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.data.feature_tables import chosen, item_of
from affuse.errors import DataError
from affuse.evaluation.formatting import measures_frame
from affuse.evaluation.intervals import cluster_bootstrap, fold_weights
from affuse.evaluation.metrics import confusion_matrix, f1_of_true_labels
from affuse.evaluation.significance import paired_permutation
from affuse.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.own import Sample, TrainingData
    from affuse.features import Extractor, FeatureStore, Measured

__all__ = ["COLUMNS", "FeatureComparison", "FeatureData", "compare_blocks", "compare_features", "read_features"]

COLUMNS = "columns"
"""The block of numbers that the table itself gives, beside the names of `affuse.features`."""

_FOLDS = 5
_WIDEST = 256  # columns of a block; a wider one is reduced by principal components of the fitting rows
_RULES = ("mean", "product", "stacking", "auto")


@dataclass(frozen=True)
class FeatureData:
    """Labelled rows and what was measured in them, before anything is learned.

    ``measured`` (n) by extractor, ``columns`` (n, d) of the table itself or None, ``y`` (n,) and ``groups`` (n,).
    """

    name: str
    labels: tuple[str, ...]
    y: np.ndarray
    groups: np.ndarray
    extractors: tuple[Extractor, ...]
    measured: Mapping[str, Sequence[Measured]]
    columns: np.ndarray | None
    notes: tuple[str, ...]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of all blocks."""
        return (*(e.name for e in self.extractors), *((COLUMNS,) if self.columns is not None else ()))


def read_features(
    manifest: Path, names: Sequence[str], patterns: Sequence[str] = (), store: FeatureStore | None = None
) -> FeatureData:
    """Read a table and measure its rows; those of the split "test" are left out.

    Raises DataError and ConfigError as `affuse.data.own.read` and `affuse.features.make` do.
    """
    from affuse.data.own import DataOptions, read

    own = [name for name in names if name != COLUMNS]
    extractors = chosen(own) if own else []
    modalities = {extractor.modality for extractor in extractors}
    modality = "joint" if COLUMNS in names else next((m for m in ("voice", "face", "text") if m in modalities), "joint")
    data = read(manifest, modality, DataOptions(columns=tuple(patterns)))
    samples = [s for s in data.samples if s.split != "test" and s.label is not None]
    found = {e.name: e.measure([item_of(s, e.modality) for s in samples], None, store) for e in extractors}
    labels = [s.label for s in samples]
    return FeatureData(
        data.name,
        data.labels.labels,
        np.array(labels, dtype=int),
        np.array([s.speaker or s.where for s in samples]),
        tuple(extractors),
        found,
        _columns(data, samples) if COLUMNS in names else None,
        (*data.notes, *_notes(data, samples, found)),
    )


def _columns(data: TrainingData, samples: Sequence[Sample]) -> np.ndarray:
    if not data.column_names:
        raise DataError(f"{data.name} has no numeric columns to compare; leave out {COLUMNS!r}")
    gap = np.full(len(data.column_names), np.nan)
    rows = np.stack([gap if s.columns is None else s.columns for s in samples])
    rows[np.isnan(rows).any(axis=1)] = np.nan  # a block is there or it is not
    return rows


def _notes(data: TrainingData, samples: Sequence[Sample], found: Mapping[str, Sequence[Measured]]) -> Iterator[str]:
    if len(samples) < len(data.samples):
        yield f"{len(data.samples) - len(samples)} rows of the split test were left out"
    if any(s.speaker is None for s in samples):
        yield "without a column speaker, one speaker may be in both train and test"
    for name, rows in found.items():
        gaps = [m.reason for m in rows if m.value is None]
        if gaps:
            reasons = ", ".join(sorted(set(gaps)))
            yield f"{name}: {len(gaps)} of {len(rows)} rows have no values ({reasons})"


@dataclass(frozen=True)
class FeatureComparison:
    """What single blocks of features, early fusion and late fusion reach on the same rows; `compare_features` makes it.

    Parameters
    ----------
    data : FeatureData
        The rows.
    methods : mapping of str to dict
        Measures by method: ``kind``, ``accuracy``, ``ci95``, ``difference`` to the best single block, ``p``,
        ``macro_f1`` and ``fit_seconds``.
    best_single : str
        The single block with the highest accuracy on these very rows.

    Examples
    --------
    >>> table = Path("mine.csv")
    >>> words = {"joy": "what a good day", "sadness": "the sad end of it"}
    >>> lines = [f"{words[w]} {i},{w},s{i}" for i in range(6) for w in words]
    >>> _ = table.write_text("text,label,speaker\\n" + "\\n".join(lines))
    >>> found = compare_features(table, ["bag-of-words"], seeds=1)
    >>> found.methods["bag-of-words"]["accuracy"], found.to_dict()["groups"]
    (1.0, 6)
    """

    data: FeatureData
    methods: Mapping[str, Mapping[str, Any]]
    best_single: str

    def to_dict(self) -> dict[str, Any]:
        """All measures as JSON can hold them.

        Returns
        -------
        dict
            ``name``, ``rows``, ``groups``, ``labels``, ``blocks``, ``best_single``, ``methods`` and ``notes``.
        """
        data = self.data
        return {
            "name": data.name,
            "rows": len(data.y),
            "groups": len(np.unique(data.groups)),
            "labels": list(data.labels),
            "blocks": list(data.blocks),
            "best_single": self.best_single,
            "methods": {name: dict(found) for name, found in self.methods.items()},
            "notes": list(data.notes),
        }

    def to_frame(self) -> pd.DataFrame:
        """The measures as a table, best method first.

        Returns
        -------
        pandas.DataFrame
            One row a method: kind, accuracy with interval, difference to the best single block, p and macro F1.
        """
        columns = ["kind", "accuracy", "low", "high", "difference", "p", "macro_f1", "fit_seconds"]
        return measures_frame(self.methods, columns)


def compare_features(
    table: str | Path,
    features: Sequence[str],
    *,
    columns: Sequence[str] = (),
    seeds: int | Sequence[int] = 3,
    store: FeatureStore | None = None,
    progress: Progress | None = None,
) -> FeatureComparison:
    """Compare early and late fusion of features: cross-validated by speaker, with intervals and tests.

    Parameters
    ----------
    table : str or Path
        Table of recordings with path, start, end, text, label and speaker (CSV, TSV, Parquet), or a folder of them.
        Rows of the split "test" are left out.
    features : sequence of str
        Names of features (`affuse.features.names`); "columns" are the numbers that the table itself gives.
    columns : sequence of str
        With "columns": patterns of names of columns, such as "AU*"; all numbers by default.
    seeds : int or sequence of int
        Number of seeds, or seeds, of the folds.
    store : FeatureStore, optional
        Where measured features are kept.
    progress : callable, optional
        Called with "folds" and the share that is done.

    Returns
    -------
    FeatureComparison

    Raises
    ------
    ConfigError
        If a feature is unknown.
    DataError
        If the table does not fit, or there are fewer than two speakers.

    Examples
    --------
    >>> table = Path("mine.csv")
    >>> words = {"joy": "what a good day", "sadness": "the sad end of it"}
    >>> lines = [f"{words[w]} {i},{w},s{i}" for i in range(6) for w in words]
    >>> _ = table.write_text("text,label,speaker\\n" + "\\n".join(lines))
    >>> found = compare_features(table, ["bag-of-words"], seeds=1)
    >>> found.to_frame()["method"].tolist()
    ['bag-of-words', 'bag-of-words, SVM']
    """
    data = read_features(Path(table), features, columns, store)
    return compare_blocks(data, range(seeds) if isinstance(seeds, int) else seeds, progress)


def compare_blocks(data: FeatureData, seeds: Sequence[int], progress: Progress | None = None) -> FeatureComparison:
    """All measures by method: single blocks, early fusion, and late fusion of a classifier a block.

    Five folds by group, once a seed; vocabularies, scales and components are learned on the training rows alone.
    Raises DataError with fewer than two groups or where nothing was measured.
    """
    answers = _answers(data, seeds, progress)
    index = np.tile(np.arange(len(data.y)), len(seeds))
    y, groups = data.y[index], data.groups[index]
    weights = fold_weights(np.repeat(np.arange(len(seeds)), len(data.y)))
    hits = {name: (found["columns"].ravel() == y).astype(float) for name, found in answers.items()}
    best = max((n for n in answers if answers[n]["kind"] == "single"), key=lambda n: float(hits[n] @ weights))
    methods = {}
    for name, found in answers.items():
        difference = hits[name] - hits[best]
        confusion = confusion_matrix(y, found["columns"].ravel(), len(data.labels))
        methods[name] = {
            "kind": found["kind"],
            "accuracy": float(hits[name] @ weights),
            "ci95": list(cluster_bootstrap(hits[name], groups, weights)),
            "difference": float(difference @ weights),
            "p": paired_permutation(difference * weights, groups),
            "macro_f1": f1_of_true_labels(confusion),
            "fit_seconds": float(np.median(found["seconds"])),
        }
    return FeatureComparison(data, methods, best)


def _answers(data: FeatureData, seeds: Sequence[int], progress: Progress | None) -> dict[str, dict[str, Any]]:
    """For every method its kind, the answered columns (s, n) and the seconds of every fit."""
    from sklearn.model_selection import GroupKFold

    count = min(_FOLDS, len(np.unique(data.groups)))
    if count < 2:
        raise DataError(f"{data.name}: cross-validation needs at least two speakers or rows; got {count}")
    found: dict[str, dict[str, Any]] = {}
    for s, seed in enumerate(seeds):
        folds = GroupKFold(count, shuffle=True, random_state=seed).split(data.y, groups=data.groups)
        for number, (fit, test) in enumerate(folds, 1):
            if progress is not None:
                progress("folds", (s * count + number - 1) / (len(seeds) * count))
            X, blocks = _fold_features(data, fit, seed)
            for name, (kind, method) in _methods(blocks).items():
                started = time.perf_counter()
                try:
                    fitted = method.fit(X[fit], data.y[fit], groups=data.groups[fit])
                except DataError as error:
                    raise DataError(f"{data.name}: {name} cannot be fitted in fold {number}: {error}") from error
                seconds = time.perf_counter() - started
                facts = found.setdefault(
                    name, {"kind": kind, "columns": np.zeros((len(seeds), len(data.y)), dtype=int), "seconds": []}
                )
                facts["columns"][s, test] = fitted.predict(X[test])
                facts["seconds"].append(seconds)
    return found


def _fold_features(data: FeatureData, fit: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, slice]]:
    """Features (n, d) of all rows, with what is learned from the rows ``fit`` alone, and the columns of each block."""
    from sklearn.base import clone

    parts = {}
    for extractor in data.extractors:
        rows = data.measured[extractor.name]
        learned = clone(extractor).learn([rows[i] for i in fit])
        parts[extractor.name] = learned.rows(rows)
    if data.columns is not None:
        parts[COLUMNS] = data.columns
    parts = {name: _reduced(part, fit, seed) for name, part in parts.items()}
    ends = np.cumsum([part.shape[1] for part in parts.values()])
    blocks = {
        name: slice(int(end) - part.shape[1], int(end)) for (name, part), end in zip(parts.items(), ends, strict=True)
    }
    return np.concatenate(list(parts.values()), axis=1), blocks


def _reduced(part: np.ndarray, fit: np.ndarray, seed: int) -> np.ndarray:
    """A wide block (n, d) as its principal components, which for TF-IDF are those of latent semantic analysis."""
    from sklearn.decomposition import TruncatedSVD

    here = ~np.isnan(part).any(axis=1)
    known = fit[here[fit]]
    width = min(_WIDEST, len(known) - 1)
    if part.shape[1] <= _WIDEST or width < 1:
        return part
    centre = part[known].mean(axis=0)
    reducer = TruncatedSVD(min(width, part.shape[1] - 1), random_state=seed).fit(part[known] - centre)
    reduced = np.full((len(part), reducer.n_components), np.nan)
    reduced[here] = reducer.transform(part[here] - centre)
    return reduced


def _methods(blocks: Mapping[str, slice]) -> dict[str, tuple[str, Any]]:
    """Kind and unfitted estimator of every method; fusion needs two blocks."""
    from sklearn.svm import SVC

    from affuse.fusion.early import CCAFusion, Concatenation, ProductFusion, SumFusion, WeightedConcatenation
    from affuse.fusion.late import LateFusion

    methods: dict[str, tuple[str, Any]] = {
        name: ("single", Concatenation({name: columns})) for name, columns in blocks.items()
    }
    methods |= {f"{name}, SVM": ("single", Concatenation({name: columns}, SVC())) for name, columns in blocks.items()}
    if len(blocks) > 1:
        methods |= {
            "concatenation": ("early", Concatenation(blocks)),
            "concatenation, SVM": ("early", Concatenation(blocks, SVC())),
            "weighted concatenation": ("early", WeightedConcatenation(blocks)),
            "sum": ("early", SumFusion(blocks)),
            "product of blocks": ("early", ProductFusion(blocks)),
            "CCA": ("early", CCAFusion(blocks)),
        }
        methods |= {f"late, {rule}": ("late", LateFusion(blocks, rule)) for rule in _RULES}
    return methods
