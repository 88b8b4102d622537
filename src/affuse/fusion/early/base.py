"""The bases of classifiers over feature blocks: labels, gaps and scales are handled here, once."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.utils.validation import check_is_fitted

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.early.blocks import Blocks, Layout, check_features, present_blocks, resolve_blocks
from affuse.fusion.estimator import check_groups, label_frequencies

__all__ = ["BlockClassifier", "EarlyFuser", "check_labels", "inner_splits"]

Splits = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
_INNER_FOLDS = 5


class BlockClassifier(ClassifierMixin, BaseEstimator):
    """Base class of classifiers over X (n_samples, n_features) whose ``blocks`` name the columns of every modality.

    A block that is NaN throughout is a modality that the row lacks.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Labels in sorted order.
    prior_ : array of shape (n_classes,)
        Label frequencies in `fit`, each label counted once more; `predict` answers the most frequent label for rows
        without any block.
    n_features_in_ : int
        Number of columns.

    Examples
    --------
    >>> from affuse.fusion.early import Concatenation
    >>> issubclass(Concatenation, BlockClassifier)
    True
    """

    blocks: Blocks

    def _layout(self) -> Layout:
        return resolve_blocks(self.blocks, self.n_features_in_)

    def _start(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None) -> tuple[Array, Columns, Groups]:
        """Check what `fit` gets, and set what is known without learning."""
        X = check_features(X)
        self.n_features_in_ = X.shape[1]
        self.classes_, columns = check_labels(y, len(X))
        self.prior_ = label_frequencies(columns, len(self.classes_))
        return X, columns, check_groups(groups, len(X), "X")

    def _answers(self, P: Array) -> NDArray[Any]:
        """Labels (n,) of the most probable columns of P (n, k), the most frequent label where a row is NaN."""
        empty: Mask = np.isnan(P[:, 0])
        columns = np.where(empty, self.prior_.argmax(), np.where(empty[:, None], 0.0, P).argmax(axis=1))
        return np.asarray(self.classes_[columns])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def check_labels(y: ArrayLike, n: int) -> tuple[NDArray[Any], Columns]:
    """Distinct labels (k,) and the column of every row (n,). Raises DataError where y does not fit or k < 2."""
    y = np.asarray(y)
    if y.shape != (n,):
        raise DataError(f"X has {n} rows, but y has {len(y) if y.ndim == 1 else f'the shape {y.shape}'}")
    labels, columns = np.unique(y, return_inverse=True)
    if len(labels) < 2:
        raise DataError(f"a classifier needs rows of at least two labels; got {len(labels)}")
    return labels, columns.astype(np.intp)


class EarlyFuser(BlockClassifier):
    """Base class of early fusion: standardised blocks become one table of features, from which any classifier learns.

    A subclass writes `join`, and `learn` if it learns. Every block is standardised by its mean and standard deviation
    over the rows of `fit` that have it. Gaps: a missing block is imputed by that mean, and one indicator a block, 1 in
    gaps, is added for the classifier. A row without any block is NaN in `predict_proba`. A block that no row of `fit`
    has is not used.

    Attributes
    ----------
    classifier_ : scikit-learn classifier
        The fitted classifier.
    seen_ : array of bool of shape (n_blocks,)
        Which blocks, in alphabetical order, any row of `fit` had.

    Examples
    --------
    A fuser that sums blocks of the same width:

    >>> class SumOfBlocks(EarlyFuser):
    ...     def __init__(self, blocks, classifier=None):
    ...         self.blocks = blocks
    ...         self.classifier = classifier
    ...     def join(self, parts):
    ...         return sum(parts.values())
    >>> X, y = np.array([[0.0, 0.1], [0.2, 0.0], [1.0, 0.9], [0.8, np.nan]]), [0, 0, 1, 1]
    >>> SumOfBlocks({"face": [0], "voice": [1]}).fit(X, y).predict(X)
    array([0, 0, 1, 1])
    """

    classifier: Any

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from features and labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            NaN where a block is missing.
        y : array of shape (n_samples,)
            Any labels.
        groups : array of shape (n_samples,), optional
            What inner cross-validation must not split.

        Returns
        -------
        EarlyFuser
            The estimator itself.

        Raises
        ------
        DataError, ConfigError
            If X, y or the blocks do not fit each other.
        """
        X, columns, groups = self._start(X, y, groups)
        layout = self._layout()
        here = present_blocks(X, layout)
        self.seen_ = here.any(axis=0)
        self._learn_scales(X, layout, here)
        rows = here.any(axis=1)
        if len(np.unique(columns[rows])) < 2:
            raise DataError("early fusion needs rows with features of at least two labels; got one or none")
        X, here, columns, groups = X[rows], here[rows], columns[rows], None if groups is None else groups[rows]
        parts = self._parts(X, layout, here)
        self.learn(parts, here, columns, groups)
        self.classifier_ = _model(self.classifier, columns, groups).fit(self._features(parts, here), columns)
        return self

    def learn(self, parts: dict[str, Array], here: Mask, y: Columns, groups: Groups) -> None:
        """Hook for subclasses: set learned attributes. By default nothing is learned.

        Parameters
        ----------
        parts : dict of str to array of shape (n_samples, n_block_features)
            Standardised blocks, 0 in gaps.
        here : array of bool of shape (n_samples, n_blocks)
            Which block is present in which row.
        y : array of int of shape (n_samples,)
            Columns of the labels.
        groups : array of shape (n_samples,) or None
            What inner cross-validation must not split.
        """

    def join(self, parts: dict[str, Array]) -> Array:
        """Hook for subclasses: one table from the standardised blocks.

        Parameters
        ----------
        parts : dict of str to array of shape (n_samples, n_block_features)
            Standardised blocks, 0 in gaps.

        Returns
        -------
        array of shape (n_samples, n_joined)
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it joins blocks")

    def features(self, X: ArrayLike) -> Array:
        """What the classifier sees: the joined blocks, then one indicator of gaps a block.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_joined + n_blocks)
        """
        return self._features(*self._read(X))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            NaN where a block is missing.

        Returns
        -------
        array of shape (n_samples, n_classes)
            NaN for rows without any block.
        """
        parts, here = self._read(X)
        P = np.zeros((len(here), len(self.classes_)))
        if len(P):
            P[:, self.classifier_.classes_] = self.classifier_.predict_proba(self._features(parts, here))
        P[~here.any(axis=1)] = np.nan
        return P

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Most probable labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,)
            The most frequent label of `fit` for rows without any block.
        """
        return self._answers(self.predict_proba(X))

    def _read(self, X: ArrayLike) -> tuple[dict[str, Array], Mask]:
        check_is_fitted(self)
        X = check_features(X, self.n_features_in_)
        layout = self._layout()
        here = present_blocks(X, layout) & self.seen_
        return self._parts(X, layout, here), here

    def _features(self, parts: dict[str, Array], here: Mask) -> Array:
        return np.concatenate([self.join(parts), ~here], axis=1)

    def _learn_scales(self, X: Array, layout: Layout, here: Mask) -> None:
        self.means_: dict[str, Array] = {}
        self.scales_: dict[str, Array] = {}
        for j, (name, columns) in enumerate(layout.items()):
            block = X[np.ix_(here[:, j], columns)] if here[:, j].any() else np.zeros((1, len(columns)))
            deviations = block.std(axis=0)
            self.means_[name] = block.mean(axis=0)
            self.scales_[name] = np.where(deviations > 1e-12 * np.abs(block).max(axis=0), deviations, 1.0)

    def _parts(self, X: Array, layout: Layout, here: Mask) -> dict[str, Array]:
        return {
            name: np.where(here[:, [j]], (X[:, columns] - self.means_[name]) / self.scales_[name], 0.0)
            for j, (name, columns) in enumerate(layout.items())
        }


def _model(classifier: Any, y: Columns, groups: Groups) -> Any:
    """An unfitted classifier that gives probabilities, calibrated by inner folds where it has none of its own."""
    model = LogisticRegression(C=0.1, max_iter=1000) if classifier is None else clone(classifier)
    if hasattr(model, "predict_proba"):
        return model
    return CalibratedClassifierCV(model, cv=inner_splits(y, groups), ensemble=False)


def inner_splits(y: Columns, groups: Groups = None) -> Splits:
    """Up to five folds of the rows (n,), none of which splits a group; by label where there are no groups."""
    rows = np.zeros((len(y), 1))
    if groups is not None and len(np.unique(groups)) > 1:
        return list(GroupKFold(min(_INNER_FOLDS, len(np.unique(groups)))).split(rows, y, groups))
    rarest = int(np.unique(y, return_counts=True)[1].min())
    if rarest > 1:
        return list(StratifiedKFold(min(_INNER_FOLDS, rarest), shuffle=True, random_state=0).split(rows, y))
    return list(KFold(min(_INNER_FOLDS, len(y)), shuffle=True, random_state=0).split(rows))
