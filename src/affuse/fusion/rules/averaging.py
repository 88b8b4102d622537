"""The linear opinion pool: means of probabilities, plain or weighted by what is known about a modality or a row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, Groups, Mask, without_gaps
from affuse.fusion.estimator import Fuser, check_vector

__all__ = [
    "EntropyWeighted",
    "MeanRule",
    "PerformanceWeighted",
    "WeightedMeanRule",
    "accuracy_log_odds",
    "weighted_mean",
]

# Least weight of a modality that speaks: where all that speak have no weight, they count alike.
LEAST_WEIGHT = 1e-9


def weighted_mean(P: Array, weights: Array) -> Array:
    """Mean over modalities of P (n, m, k), gaps NaN, by weights (n, m) that are 0 at gaps.

    Rows sum to 1 where any weight is.
    """
    total = np.einsum("nm,nmk->nk", weights, without_gaps(P))
    total /= np.maximum(weights.sum(axis=1), np.finfo(float).tiny)[:, None]
    return np.asarray(total)


def accuracy_log_odds(P: Array, y: Columns) -> Array:
    """Weight of every modality's vote (m,): log-odds of its accuracy in P (n, m, k) against labels y (n,).

    It is next to 0 at chance or below. ``log(a / (1 - a)) + log(k - 1)`` is the best weight of a vote where experts err
    independently and evenly (Kuncheva & Rodríguez 2014, doi:10.1007/s10115-012-0586-6). One row right and one wrong
    are added, so that no weight is infinite.
    """
    _, m, k = P.shape
    here = ~np.isnan(P[:, :, 0])
    right = np.array([(P[here[:, j], j].argmax(axis=1) == y[here[:, j]]).sum() for j in range(m)])
    accuracy = (right + 1) / (here.sum(axis=0) + 2)
    return np.asarray(np.maximum(np.log(accuracy / (1 - accuracy)) + np.log(max(k - 1, 1)), LEAST_WEIGHT))


class MeanRule(Fuser):
    """Mean of the probabilities (sum rule; Kittler et al. 1998, doi:10.1109/34.667881).

    Gaps: the mean is over the modalities that speak. Ties: the first column.
    """

    def combine(self, P: Array, here: Mask) -> Array:
        """Mean over axis 1 of P (n, m, k) where ``here``."""
        total = np.einsum("nmk->nk", without_gaps(P))
        total /= np.maximum(here @ np.ones(here.shape[1]), 1)[:, None]
        return np.asarray(total)


class WeightedMeanRule(Fuser):
    """Weighted mean of the probabilities (linear opinion pool; Stone 1961, doi:10.1214/aoms/1177704873).

    Gaps: the weights of the modalities that speak are scaled to sum to 1; where all of those are 0, they count alike.
    Ties: the first column.

    Parameters
    ----------
    weights: one number of at least 0 a modality (m,), in any scale; equal where None.
    """

    def __init__(self, weights: ArrayLike | None = None) -> None:
        self.weights = weights

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        """Check the weights against the modalities of P."""
        m = P.shape[1]
        weights = np.ones(m) if self.weights is None else check_vector(self.weights, m, "weights", "modalities")
        self.weights_ = weights / weights.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        """Weighted mean over axis 1 of P (n, m, k) where ``here``."""
        return weighted_mean(P, here * np.maximum(self.weights_, LEAST_WEIGHT))


class PerformanceWeighted(Fuser):
    """Mean of the probabilities, weighted by how often each modality was right on the rows of `fit`.

    Weights are log-odds of accuracy over chance (see `accuracy_log_odds`); a modality at chance has next to none.
    Gaps and ties as in `WeightedMeanRule`. Fit on held-out outputs: on its own training rows an expert looks better
    than it is.
    """

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        """Weigh every modality by its accuracy."""
        weights = accuracy_log_odds(P, y)
        self.weights_ = weights / weights.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        """Weighted mean over axis 1 of P (n, m, k) where ``here``."""
        return weighted_mean(P, here * np.maximum(self.weights_, LEAST_WEIGHT))


class EntropyWeighted(Fuser):
    """Mean of the probabilities, weighted row by row by how far each modality is from knowing nothing.

    The weight is ``1 - H(p) / log k`` with Shannon's entropy H: 1 for a certain answer, 0 for a uniform one. Gaps:
    left out. Where all that speak are uniform, they count alike. Ties: the first column.
    """

    def combine(self, P: Array, here: Mask) -> Array:
        """Mean over axis 1 of P (n, m, k), weighted by certainty."""
        k = P.shape[2]
        filled = without_gaps(P)
        entropy = -np.einsum("nmk,nmk->nm", filled, np.log(np.where(filled > 0, filled, 1.0)))
        certainty = 1 - entropy / np.log(max(k, 2))
        return weighted_mean(P, here * np.maximum(certainty, LEAST_WEIGHT))
