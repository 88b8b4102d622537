"""What an extractor is: items are measured one by one, then rows are made of what was measured.

The two steps are apart because the first is slow, the same for every question and kept on disk, while the second may
learn (a vocabulary) and must then learn from nothing but the rows of a training fold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from affuse.errors import ConfigError, DataError, MissingExtraError
from affuse.features.cache import FeatureStore
from affuse.features.items import Array, Features, Item, Measured, NoEvidenceError
from affuse.progress import Progress

__all__ = ["Extractor", "library", "one_of"]


class Extractor(TransformerMixin, BaseEstimator):
    """Base of all extractors, which are scikit-learn transformers: items in, rows of features out.

    A subclass writes `look`, and ``_learn`` and ``_rows`` where it learns. Its constructor only stores.

    Attributes
    ----------
    name : str
        Name by which it is registered.
    modality : str
        What it reads: "text", "voice" or "face".
    unit : str
        Unit of its values.
    learns : bool
        Whether `fit` learns anything.
    kept : bool
        Whether what was measured is worth keeping on disk.
    extra : str
        Extra of affuse that it needs; empty where it needs none.
    libraries : tuple of str
        Distributions whose versions decide its values.
    measures : str
        What is measured, where several extractors share it.
    version : int
        Raised with every change of what is measured, so that nothing old is taken from disk.

    Examples
    --------
    >>> class Length(Extractor):
    ...     name, modality, unit = "length", "text", "characters"
    ...
    ...     def look(self, item):
    ...         return np.array([len(item)], dtype=float)
    ...
    ...     def get_feature_names_out(self, input_features=None):
    ...         return np.array(["length"])
    >>> Length().fit_transform(["so", "good"])
    array([[2.],
           [4.]])
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
        """What one item shows, before anything is learned.

        Parameters
        ----------
        item : str, Path, Clip or array
            Text, a recording, a stretch of one, samples or a picture.

        Returns
        -------
        object
            What the rows are made of; usually an array of shape (n_features,).

        Raises
        ------
        NoEvidenceError
            If the item shows nothing.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it measures")

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns.

        Parameters
        ----------
        input_features : object
            Not used; scikit-learn gives it.

        Returns
        -------
        array of str, shape (n_features,)
        """
        raise NotImplementedError(f"{type(self).__name__} does not name its columns")

    def measure(
        self, items: Sequence[Item | None], progress: Progress | None = None, store: FeatureStore | None = None
    ) -> list[Measured]:
        """Measure every item, or take it from a store, where it lies under its content and these settings.

        Parameters
        ----------
        items : sequence of items, length n_items
            An item that is None is a gap.
        progress : callable, optional
            Called with the name of the extractor and the share of the items that is done.
        store : FeatureStore, optional
            Where what was measured is kept.

        Returns
        -------
        list of Measured, length n_items

        Raises
        ------
        MediaError
            If a recording cannot be read.
        MissingExtraError
            If a library is missing.
        AssetError
            If weights are missing.
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
                progress(self.name, i / len(items))
        return found

    def learn(self, measured: Sequence[Measured]) -> Self:
        """Learn from what was measured.

        Parameters
        ----------
        measured : sequence of Measured
            Of the rows of a training fold.

        Returns
        -------
        Extractor
            Itself.

        Raises
        ------
        DataError
            If there is nothing to learn from.
        """
        values = [m.value for m in measured if m.value is not None]
        if self.learns and not values:
            raise DataError(f"{self.name} has nothing to learn from: {_first_reason(measured)}")
        self._learn(values)
        return self

    def rows(self, measured: Sequence[Measured]) -> Array:
        """Rows of features of what was measured.

        Parameters
        ----------
        measured : sequence of Measured, length n_items
            As `measure` gives them.

        Returns
        -------
        array of shape (n_items, n_features)
            A row of NaN where there is no evidence.
        """
        here = np.array([m.value is not None for m in measured], dtype=bool)
        width = len(self.get_feature_names_out())
        X = np.full((len(measured), width), np.nan)
        if here.any():
            X[here] = self._rows([m.value for m in measured if m.value is not None])
        return X

    def fit(self, items: Sequence[Item], y: Any = None) -> Self:
        """Learn from items, where there is anything to learn.

        Parameters
        ----------
        items : sequence of items
            Texts, recordings, clips, samples or pictures.
        y : object
            Not used; scikit-learn gives it.

        Returns
        -------
        Extractor
            Itself.
        """
        return self.learn(self.measure(items)) if self.learns else self

    def transform(self, items: Sequence[Item]) -> Array:
        """Features of items.

        Parameters
        ----------
        items : sequence of items, length n_items
            Texts, recordings, clips, samples or pictures.

        Returns
        -------
        array of shape (n_items, n_features)
            A row of NaN where there is no evidence.
        """
        return self.rows(self.measure(items))

    def extract(
        self, items: Sequence[Item], progress: Progress | None = None, store: FeatureStore | None = None
    ) -> Features:
        """`transform` with progress, a store, the names of the columns and the reasons for gaps.

        Parameters
        ----------
        items : sequence of items, length n_items
            Texts, recordings, clips, samples or pictures.
        progress : callable, optional
            Called with the name of the extractor and the share of the items that is done.
        store : FeatureStore, optional
            Where what was measured is kept.

        Returns
        -------
        Features
        """
        measured = self.measure(items, progress, store)
        names = tuple(str(name) for name in self.get_feature_names_out())
        return Features(self.rows(measured), names, tuple(m.reason for m in measured))

    def fingerprint(self) -> str:
        """Everything besides the item that decides what is measured: settings, versions, weights.

        Returns
        -------
        str
            JSON.
        """
        facts = {
            "name": self.measures or self.name,
            "version": self.version,
            "settings": self.get_params(deep=False),
            "libraries": {name: metadata.version(name) for name in self.libraries},
            "weights": self.weights(),
        }
        return json.dumps(facts, sort_keys=True, default=str)

    def weights(self) -> dict[str, str]:
        """Checksums of the weights that decide what is measured.

        Returns
        -------
        dict of str to str
            SHA-256 by name of the weights.
        """
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


def one_of(value: Any, name: str, known: Sequence[Any]) -> Any:
    """``value``; raises ConfigError, with the known ones, where it is not among them."""
    if value not in known:
        raise ConfigError(f"unknown {name} {value!r}; known: {', '.join(map(str, known))}")
    return value


def _first_reason(measured: Sequence[Measured]) -> str:
    return next((m.reason for m in measured if m.reason), "there are no items")
