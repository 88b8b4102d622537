"""What an extractor is: items are measured one by one, then rows are made of what was measured.

The two steps are apart because the first is slow, the same for every question and kept on disk, while the second may
learn (a vocabulary) and must then learn from nothing but the rows of a training fold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from affuse.errors import ConfigError, DataError, MissingExtraError

if TYPE_CHECKING:
    from affuse.features.cache import FeatureStore

__all__ = ["Array", "Clip", "Extractor", "Features", "Item", "Measured", "NoEvidenceError", "Progress", "library"]

Array = NDArray[np.floating[Any]]
Progress = Callable[[int, int], None]
"""Called with the number of items done and of all items."""


@dataclass(frozen=True)
class Clip:
    """A stretch of a recording, from ``start`` to ``end`` in seconds; all that there is where they are None."""

    path: Path
    start: float | None = None
    end: float | None = None


Item = str | Path | Clip | np.ndarray
"""Text: str. Voice: a path, a `Clip` or mono samples (n,) at 16 kHz. Face: a path, a `Clip` or a uint8 picture."""


class NoEvidenceError(Exception):
    """There is nothing to measure in an item; the message says why. It becomes a row of NaN with a reason."""


@dataclass(frozen=True)
class Measured:
    """What one item shows before anything is learned: ``value``, or None with the ``reason``."""

    value: Any
    reason: str = ""


@dataclass(frozen=True)
class Features:
    """Rows of features: ``values`` (n, d), NaN rows where ``reasons`` (n) says why; ``names`` (d) of the columns."""

    values: Array
    names: tuple[str, ...]
    reasons: tuple[str, ...]


class Extractor(TransformerMixin, BaseEstimator):
    """Base of all extractors, which are scikit-learn transformers: items (n) in, features (n, d) out.

    A subclass writes `look`, and `_learn` and `_rows` where it learns. Its constructor only stores.

    Attributes
    ----------
    name, modality: how it is asked for, and what it reads ("text", "voice" or "face"). unit: of its values.
    learns: whether `fit` learns anything. kept: whether what was measured is worth keeping on disk.
    extra: the extra of affuse that it needs, if any. libraries: distributions whose version decides its values.
    measures: what is measured, where several extractors share it. version: raised with every change of what is
    measured, so that nothing old is taken from disk.
    """

    name: ClassVar[str]
    modality: ClassVar[str]
    unit: ClassVar[str]
    learns: ClassVar[bool] = False
    kept: ClassVar[bool] = True
    extra: ClassVar[str] = ""
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)
    measures: ClassVar[str] = ""
    version: ClassVar[int] = 1

    def look(self, item: Item) -> Any:
        """What one item shows; raises `NoEvidenceError` where it shows nothing."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it measures")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns (d,)."""
        raise NotImplementedError(f"{type(self).__name__} does not name its columns")

    def measure(
        self, items: Sequence[Item | None], progress: Progress | None = None, store: FeatureStore | None = None
    ) -> list[Measured]:
        """Measure every item, or take it from ``store``, where it was kept under its content and these settings.

        An item that is None is a gap. Raises MediaError where a recording cannot be read, MissingExtraError and
        AssetError where a part is missing.
        """
        keep = store if self.kept else None
        settings = self.fingerprint() if keep is not None else ""
        found = []
        for i, item in enumerate(items, 1):
            if item is None:
                found.append(Measured(None, "nothing given"))
            else:
                found.append(self._measure(item) if keep is None else keep.recall(item, settings, self._measure))
            if progress is not None:
                progress(i, len(items))
        return found

    def learn(self, measured: Sequence[Measured]) -> Self:
        """Learn from what was measured. Raises DataError where there is nothing to learn from."""
        values = [m.value for m in measured if m.value is not None]
        if self.learns and not values:
            raise DataError(f"{self.name} has nothing to learn from: {_first_reason(measured)}")
        self._learn(values)
        return self

    def rows(self, measured: Sequence[Measured]) -> Array:
        """Features (n, d) of what was measured; a row of NaN where there is nothing."""
        here = np.array([m.value is not None for m in measured], dtype=bool)
        width = len(self.get_feature_names_out())
        X = np.full((len(measured), width), np.nan)
        if here.any():
            X[here] = self._rows([m.value for m in measured if m.value is not None])
        return X

    def fit(self, items: Sequence[Item], y: Any = None) -> Self:
        """Learn from items where `learns`; ``y`` is not used."""
        return self.learn(self.measure(items)) if self.learns else self

    def transform(self, items: Sequence[Item]) -> Array:
        """Features (n, d) of items; a row of NaN where there is nothing to measure."""
        return self.rows(self.measure(items))

    def extract(
        self, items: Sequence[Item], progress: Progress | None = None, store: FeatureStore | None = None
    ) -> Features:
        """`transform` with progress, a store, the names of the columns and the reasons for gaps."""
        measured = self.measure(items, progress, store)
        names = tuple(str(name) for name in self.get_feature_names_out())
        return Features(self.rows(measured), names, tuple(m.reason for m in measured))

    def fingerprint(self) -> str:
        """Everything besides the item that decides what is measured: settings, versions, weights."""
        facts = {
            "name": self.measures or self.name,
            "version": self.version,
            "settings": self.get_params(deep=False),
            "libraries": {name: metadata.version(name) for name in self.libraries},
            "weights": self.weights(),
        }
        return json.dumps(facts, sort_keys=True, default=str)

    def weights(self) -> dict[str, str]:
        """SHA-256 by name of the weights that decide what is measured."""
        return {}

    def _measure(self, item: Item) -> Measured:
        try:
            return Measured(self.look(item))
        except NoEvidenceError as nothing:
            return Measured(None, str(nothing))

    def _learn(self, values: list[Any]) -> None:
        """Set learned state from what items showed. Nothing to learn unless overridden."""

    def _rows(self, values: list[Any]) -> Array:
        return np.stack(values)

    def __sklearn_is_fitted__(self) -> bool:
        return not self.learns or any(name.endswith("_") and not name.startswith("_") for name in vars(self))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.requires_fit = self.learns
        return tags


def library(name: str, distribution: str, extra: str) -> Any:
    """An optional library; raises MissingExtraError, with the command that installs it, where it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtraError(distribution, extra) from error


def one_of(value: Any, name: str, valid: Sequence[Any]) -> Any:
    """``value``; raises ConfigError, with the valid ones, where it is not among them."""
    if value not in valid:
        raise ConfigError(f"unknown {name} {value!r}; known: {', '.join(map(str, valid))}")
    return value


def _first_reason(measured: Sequence[Measured]) -> str:
    return next((m.reason for m in measured if m.reason), "there are no items")
