"""Late fusion that starts from features: a classifier a block, fused by any rule."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from affuse.fusion import registry
from affuse.fusion.base import Array, Columns, Groups
from affuse.fusion.early import BlockClassifier, Blocks, Concatenation, check_features
from affuse.fusion.early.base import inner_splits

__all__ = ["LateFusion"]


class LateFusion(BlockClassifier):
    """Late fusion of features: a classifier a block, fused by a rule that learns from their cross-validated answers.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns of every modality, such as ``{"text": slice(0, 384), "audio": slice(384, 457)}``.
    rule : str
        Name of a fuser, one of `affuse.fusion.names`.
    classifier : scikit-learn classifier, optional
        Multinomial logistic regression where None. One without probabilities, such as a support vector machine, is
        calibrated by group-wise cross-validation (Platt's sigmoid).

    Attributes
    ----------
    experts_ : list of Concatenation
        Classifier of every block, blocks in alphabetical order.
    fuser_ : Fuser
        The fitted fuser.

    References
    ----------
    Wolpert (1992), Stacked generalization. doi:10.1016/S0893-6080(05)80023-1

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + 2 * y[:, None]
    >>> X[0, :2] = np.nan  # the first row has no face
    >>> LateFusion({"face": slice(0, 2), "voice": slice(2, 5)}, rule="mean").fit(X, y).predict_proba(X).shape
    (60, 2)
    """

    def __init__(self, blocks: Blocks, rule: str = "auto", classifier: Any = None) -> None:
        self.blocks = blocks
        self.rule = rule
        self.classifier = classifier

    def fit(self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from features and labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            NaN where a block is missing.
        y : array of shape (n_samples,)
            Any labels.
        groups : array of shape (n_samples,), optional
            What cross-validation must not split.

        Returns
        -------
        LateFusion
            The estimator itself.
        """
        X, columns, groups = self._start(X, y, groups)
        held_out = np.full((len(X), len(self.blocks), len(self.classes_)), np.nan)
        for fit, test in inner_splits(columns, groups):
            held_out[test] = self._answers_of(self._experts(X[fit], columns[fit], _of(groups, fit)), X[test])
        self.experts_ = self._experts(X, columns, groups)
        self.fuser_ = registry.make(self.rule).fit(held_out, columns, groups=groups)
        return self

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities (n, k) of X (n, d); a row without any block is NaN."""
        check_is_fitted(self)
        return np.asarray(self.fuser_.predict_proba(self._answers_of(self.experts_, check_features(X))))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Most probable label (n,); a row without any block falls back to the most frequent label of `fit`."""
        return self._answers(self.predict_proba(X))

    def _experts(self, X: Array, y: Columns, groups: Groups) -> list[Concatenation]:
        experts = (Concatenation({name: columns.tolist()}, self.classifier) for name, columns in self._layout().items())
        return [expert.fit(X, y, groups) for expert in experts]

    def _answers_of(self, experts: list[Concatenation], X: Array) -> Array:
        """P (n, m, k) of all experts; a label that an expert never saw has the probability 0."""
        P = np.full((len(X), len(experts), len(self.classes_)), np.nan)
        for j, expert in enumerate(experts):
            answers = expert.predict_proba(X)
            P[:, j] = np.where(np.isnan(answers[:, :1]), np.nan, 0.0)
            P[:, j, expert.classes_] = answers
        return P


def _of(groups: Groups, rows: NDArray[np.intp]) -> Groups:
    return None if groups is None else groups[rows]
