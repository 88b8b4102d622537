"""Blocks side by side: plain and weighted concatenation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.early.base import EarlyFuser, inner_splits
from affuse.fusion.early.blocks import Blocks
from affuse.fusion.estimator import check_vector

__all__ = ["Concatenation", "WeightedConcatenation"]

# A block without any skill still counts a little: it may help the others, and a weight of 0 could not be undone.
_LEAST_WEIGHT = 0.05


class Concatenation(EarlyFuser):
    """All standardised blocks side by side: ``x = [x_1; …; x_M; gaps]``.

    Gaps: the training mean of the block, and an indicator.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns of every modality, such as ``{"text": slice(0, 384), "audio": slice(384, 457)}``.
    classifier : scikit-learn classifier, optional
        Multinomial logistic regression where None. One without probabilities, such as a support vector machine, is
        calibrated by group-wise cross-validation (Platt's sigmoid).

    Attributes
    ----------
    classifier_ : scikit-learn classifier
        The fitted classifier.

    References
    ----------
    Atrey et al. (2010), Multimodal fusion for multimedia analysis: a survey. doi:10.1007/s00530-010-0182-0

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + 2 * y[:, None]
    >>> X[0, :2] = np.nan  # the first row has no face
    >>> fuser = Concatenation({"face": slice(0, 2), "voice": slice(2, 5)}).fit(X, y)
    >>> fuser.predict_proba(X).shape
    (60, 2)
    """

    def __init__(self, blocks: Blocks, classifier: Any = None) -> None:
        self.blocks = blocks
        self.classifier = classifier

    def join(self, parts: dict[str, Array]) -> Array:
        # Blocks (n, d_m) side by side (n, Σ d_m)
        return np.concatenate(list(parts.values()), axis=1)


class WeightedConcatenation(EarlyFuser):
    """Standardised blocks side by side, scaled so that a block's weight, not its number of columns, decides its share.

    Block m is multiplied by ``w_m / rms(w) · sqrt(D / (M d_m))``, with d_m columns of the block and D of all M blocks:
    equal weights and equal widths give `Concatenation`. The scale matters to every classifier that measures distances
    or is regularised. Gaps: the training mean of the block, and an indicator.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns of every modality, such as ``{"text": slice(0, 384), "audio": slice(384, 457)}``.
    weights : mapping of str to float, optional
        At least 0 for every block. Where None, how far above chance a logistic regression on the block alone is in
        (group-wise) cross-validation on the rows of `fit`.
    classifier : scikit-learn classifier, optional
        Multinomial logistic regression where None. One without probabilities, such as a support vector machine, is
        calibrated by group-wise cross-validation (Platt's sigmoid).

    Attributes
    ----------
    classifier_ : scikit-learn classifier
        The fitted classifier.
    weights_ : array of shape (n_blocks,)
        Weights by block in alphabetical order.

    References
    ----------
    Atrey et al. (2010), Multimodal fusion for multimedia analysis: a survey. doi:10.1007/s00530-010-0182-0

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + 2 * y[:, None]
    >>> X[0, :2] = np.nan  # the first row has no face
    >>> fuser = WeightedConcatenation({"face": slice(0, 2), "voice": slice(2, 5)}, {"face": 1, "voice": 2}).fit(X, y)
    >>> fuser.predict_proba(X).shape
    (60, 2)
    """

    def __init__(self, blocks: Blocks, weights: Mapping[str, float] | None = None, classifier: Any = None) -> None:
        self.blocks = blocks
        self.weights = weights
        self.classifier = classifier

    def learn(self, parts: dict[str, Array], here: Mask, y: Columns, groups: Groups) -> None:
        # Set ``weights_``, by block in alphabetical order (m,)
        if self.weights is None:
            skills = [_skill(part[h], y[h], None if groups is None else groups[h]) for part, h in _seen(parts, here)]
            self.weights_ = np.maximum(skills, _LEAST_WEIGHT)
            return
        if set(self.weights) != set(parts):
            raise ConfigError(f"weights are for {', '.join(self.weights)}, but the blocks are {', '.join(parts)}")
        self.weights_ = check_vector([self.weights[name] for name in parts], len(parts), "weights", "blocks")

    def join(self, parts: dict[str, Array]) -> Array:
        # Scaled blocks (n, d_m) side by side (n, Σ d_m)
        widths = np.array([part.shape[1] for part in parts.values()])
        even = np.sqrt(widths.sum() / (len(widths) * widths))
        factors = self.weights_ / np.sqrt((self.weights_**2).mean()) * even
        return np.concatenate([f * part for f, part in zip(factors, parts.values(), strict=True)], axis=1)


def _seen(parts: dict[str, Array], here: Mask) -> list[tuple[Array, Mask]]:
    return [(part, here[:, j]) for j, part in enumerate(parts.values())]


def _skill(part: Array, y: Columns, groups: Groups) -> float:
    """Cross-validated accuracy above that of the most frequent label, as a share of what is possible; at least 0."""
    if len(np.unique(y)) < 2:
        return 0.0
    hits = np.zeros(len(y), dtype=bool)
    chance = np.zeros(len(y), dtype=bool)
    for fit, test in inner_splits(y, groups):
        one_label = len(np.unique(y[fit])) < 2
        model = DummyClassifier() if one_label else LogisticRegression(C=0.1, max_iter=1000)
        hits[test] = model.fit(part[fit], y[fit]).predict(part[test]) == y[test]
        chance[test] = np.bincount(y[fit]).argmax() == y[test]
    return float(max(0.0, (hits.mean() - chance.mean()) / max(1 - chance.mean(), 1e-9)))
