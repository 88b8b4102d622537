"""Votes: only the order of the labels counts, or the first label and how sure its modality is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.estimator import Fuser, check_vector
from affuse.fusion.rules.averaging import LEAST_WEIGHT, accuracy_log_odds

__all__ = ["BordaCount", "ConfidenceWeightedVote", "MajorityVote", "WeightedVote"]

# Share of the answer that is the mean of the probabilities: it settles ties between votes and nothing else.
TIE_BREAK = 1e-6


class MajorityVote(Fuser):
    """One vote a modality for its most probable label; the answer is the share of votes.

    Gaps: no vote. A modality with several most probable labels splits its vote evenly. Ties between votes go to the
    greater mean probability, which makes up a millionth of the answer; then to the first column.
    """

    def combine(self, P: Array, here: Mask) -> Array:
        """Shares of votes (n, k) over axis 1 of P (n, m, k)."""
        return _tally(P, np.asarray(here, dtype=float))


class WeightedVote(Fuser):
    """Votes for the most probable label, each with the weight of its modality.

    Gaps, split votes and ties as in `MajorityVote`.

    Parameters
    ----------
    weights: one number of at least 0 a modality (m,); where None, learned in `fit` from accuracy (see
        `accuracy_log_odds`).
    """

    def __init__(self, weights: ArrayLike | None = None) -> None:
        self.weights = weights

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        """Check the weights, or learn them from how often every modality is right."""
        m = P.shape[1]
        weights = (
            accuracy_log_odds(P, y) if self.weights is None else check_vector(self.weights, m, "weights", "modalities")
        )
        self.weights_ = weights / weights.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        """Weighted shares of votes (n, k) over axis 1 of P (n, m, k)."""
        return _tally(P, here * np.maximum(self.weights_, LEAST_WEIGHT))


class ConfidenceWeightedVote(Fuser):
    """Votes for the most probable label, each counting as much as its probability.

    Gaps, split votes and ties as in `MajorityVote`.
    """

    def combine(self, P: Array, here: Mask) -> Array:
        """Shares of votes (n, k), weighted by the top probability of P (n, m, k)."""
        return _tally(P, np.fmax(P.transpose(2, 0, 1), 0.0, order="C").max(axis=0))


class BordaCount(Fuser):
    """Every modality gives a label as many points as there are labels it finds less probable (Ho et al. 1994.

    Doi:10.1109/34.273716). The answer is the share of points. Gaps: no points. Equally probable labels share their
    points. Ties go to the greater mean probability, which makes up a millionth of the answer; then to the first
    column.
    """

    def combine(self, P: Array, here: Mask) -> Array:
        """Shares of points (n, k) over axis 1 of P (n, m, k)."""
        turned = np.fmax(P.transpose(1, 2, 0), 0.0, order="C")  # as in `_tally`
        points = np.full(turned.shape, -0.5)  # half a point too many for being equal to itself
        for c in range(P.shape[2]):
            other = turned[:, c, None]
            points += turned > other
            points += 0.5 * (turned == other)
        points *= here.T[:, None]
        return _settled(points.sum(axis=0), turned.sum(axis=0)).T


def _tally(P: Array, weights: Array) -> Array:
    """Weighted shares of votes (n, k) of P (n, m, k), gaps NaN, by weights (n, m) that are 0 at gaps."""
    n, m, k = P.shape
    # Labels before rows in memory: maxima and sums over few labels then run along whole rows.
    turned = np.fmax(P.transpose(1, 2, 0), 0.0, order="C")
    first = turned == turned.max(axis=1, keepdims=True)
    weights = weights.T[:, None]
    if np.count_nonzero(first) > n * m + (k - 1) * np.count_nonzero(weights == 0):  # in gaps all labels are equal
        weights = weights / first.sum(axis=1, keepdims=True)
    return _settled((first * weights).sum(axis=0), turned.sum(axis=0)).T


def _settled(scores: Array, means: Array) -> Array:
    """Scores (k, n) scaled to sum to 1 over axis 0, ties settled by ``means`` (k, n), in any scale."""
    tiny = np.finfo(float).tiny
    scores *= (1 - TIE_BREAK) / np.maximum(scores.sum(axis=0), tiny)
    means *= TIE_BREAK / np.maximum(means.sum(axis=0), tiny)
    scores += means
    return scores
