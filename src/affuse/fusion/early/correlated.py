"""Blocks by what they have in common: canonical correlation analysis."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.early.base import EarlyFuser
from affuse.fusion.early.blocks import Blocks

__all__ = ["CCAFusion"]

_TOLERANCE = 1e-6
_MOST_ITERATIONS = 20_000  # close canonical correlations converge slowly, but on a few whitened axes quickly in seconds


class CCAFusion(EarlyFuser):
    """Canonical variates of every pair of blocks side by side (canonical correlation analysis).

    Every block is first reduced to its whitened principal components, without which canonical correlations of wide
    blocks are those of noise. Then `sklearn.cross_decomposition.CCA` finds, for every pair of blocks, the axes ``w_a,
    w_b`` that maximise ``corr(X_a w_a, X_b w_b)``, on the rows that have both. The classifier sees both blocks'
    variates of every pair; with one block it sees the principal components. Gaps: the training mean of the block, whose
    variates are 0, and an indicator.

    Parameters
    ----------
    blocks : mapping of str to slice or list of int
        Columns of every modality, such as ``{"text": slice(0, 384), "audio": slice(384, 457)}``.
    n_components : int
        Canonical variates a pair, or fewer where a block has fewer columns.
    n_principal : int
        Principal components of a block, or fewer where it has fewer columns or rows.
    classifier : scikit-learn classifier, optional
        Multinomial logistic regression where None. One without probabilities, such as a support vector machine, is
        calibrated by group-wise cross-validation (Platt's sigmoid).

    Attributes
    ----------
    classifier_ : scikit-learn classifier
        The fitted classifier.
    whitening_ : dict of str to sklearn.decomposition.PCA
        Principal components of every block.
    pairs_ : list of (str, str, sklearn.cross_decomposition.CCA)
        Canonical correlations of every pair.

    References
    ----------
    Sun et al. (2005), A new method of feature fusion and its application in image recognition.
    doi:10.1016/j.patcog.2004.12.013

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> X = rng.normal(size=(60, 5)) + 2 * y[:, None]
    >>> X[0, :2] = np.nan  # the first row has no face
    >>> fuser = CCAFusion({"face": slice(0, 2), "voice": slice(2, 5)}).fit(X, y)
    >>> fuser.predict_proba(X).shape
    (60, 2)
    """

    def __init__(self, blocks: Blocks, n_components: int = 8, n_principal: int = 32, classifier: Any = None) -> None:
        self.blocks = blocks
        self.n_components = n_components
        self.n_principal = n_principal
        self.classifier = classifier

    def learn(self, parts: dict[str, Array], here: Mask, y: Columns, groups: Groups) -> None:
        # Fit principal components a block and one CCA a pair; pairs that share fewer than two rows are left out
        for name, value in (("n_components", self.n_components), ("n_principal", self.n_principal)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1; got {value}")
        models = {name: self._whitening(part[here[:, j]]) for j, (name, part) in enumerate(parts.items())}
        self.whitening_ = {name: model for name, model in models.items() if model is not None}
        position = {name: j for j, name in enumerate(parts)}
        self.pairs_: list[tuple[str, str, CCA]] = []
        reduced = self._reduced(parts)
        for first, second in combinations(self.whitening_, 2):
            both = here[:, position[first]] & here[:, position[second]]
            q = min(self.n_components, reduced[first].shape[1], reduced[second].shape[1], int(both.sum()) - 1)
            if q >= 1:
                model = CCA(q, scale=False, max_iter=_MOST_ITERATIONS, tol=_TOLERANCE)
                self.pairs_.append((first, second, model.fit(reduced[first][both], reduced[second][both])))

    def _whitening(self, block: Array) -> PCA | None:
        """Principal components of the rows of a block; None where these do not differ."""
        rank = int(np.linalg.matrix_rank(block - block.mean(axis=0))) if len(block) > 1 else 0
        return PCA(min(self.n_principal, rank), whiten=True, svd_solver="full").fit(block) if rank else None

    def _reduced(self, parts: dict[str, Array]) -> dict[str, Array]:
        return {name: model.transform(parts[name]) for name, model in self.whitening_.items()}

    def join(self, parts: dict[str, Array]) -> Array:
        # Canonical variates of all pairs (n, 2 q · pairs), or principal components where there is no pair
        reduced = self._reduced(parts)
        if not self.pairs_:
            return np.concatenate(list(reduced.values()), axis=1)
        variates = [side for a, b, model in self.pairs_ for side in model.transform(reduced[a], reduced[b])]
        return np.concatenate(variates, axis=1)
