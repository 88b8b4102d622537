"""Votes: only the order of the labels counts, or the first label and how sure its modality is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.estimator import Fuser, check_vector
from affuse.fusion.rules.averaging import LEAST_WEIGHT, accuracy_log_odds

__all__ = ["BordaCount", "ConfidenceWeightedVote", "MajorityVote", "WeightedVote"]

# How much a summed probability counts beside a whole vote: it settles ties between votes and nothing else.
TIE_BREAK = 1e-6

# Up to so many votes fit into a byte.
MOST_COUNTED = 255


class MajorityVote(Fuser):
    """One vote a modality for its most probable label; the answer is the share of votes.

    Gaps: no vote. A modality with several most probable labels splits its vote evenly. Ties between votes go to the
    greater mean probability, which makes up a millionth of the answer; then to the first column.
    """

    def combine(self, P: Array, here: Mask) -> Array:
        """Shares of votes (n, k) over axis 1 of P (n, m, k)."""
        return _count(P, here)


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
    """Every modality gives a label as many points as there are labels it finds less probable, added up.

    Ho et al. 1994, doi:10.1109/34.273716. The answer is the share of points. Gaps: no points. Equally probable labels
    share their points. Ties go to the greater mean probability, which makes up a millionth of the answer; then to the
    first column.
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
    turned, first = _first_labels(P)
    weights = weights.T[:, None]
    if _is_split(first, weights[:, 0] == 0):
        weights = weights / first.sum(axis=1, keepdims=True)
    votes = first.astype(float)
    votes *= weights  # twice as quick as a product of truths and numbers
    return _settled(votes.sum(axis=0), turned.sum(axis=0)).T


def _count(P: Array, here: Mask) -> Array:
    """Shares of votes (n, k) of P (n, m, k), gaps NaN: `_tally` with equal weights, quicker."""
    turned, first = _first_labels(P)
    gaps = ~here.T
    if P.shape[1] > MOST_COUNTED or _is_split(first, gaps):
        return _tally(P, np.asarray(here, dtype=float))
    votes = first.view(np.uint8).sum(axis=0, dtype=np.uint8)
    votes -= gaps.view(np.uint8).sum(axis=0, dtype=np.uint8)  # in gaps all labels are equal, so all were counted
    return _settled(votes.astype(float), turned.sum(axis=0)).T


def _first_labels(P: Array) -> tuple[Array, Mask]:
    """P (n, m, k) turned to (m, k, n), gaps 0, and where its greatest probabilities are.

    With labels before rows in memory, maxima and sums over few labels run along whole rows.
    """
    turned = np.fmax(P.transpose(1, 2, 0), 0.0, order="C")
    return turned, turned == turned.max(axis=1, keepdims=True)


def _is_split(first: Mask, gaps: Mask) -> bool:
    """Whether any modality has several first labels (m, k, n); in ``gaps`` (m, n) all are."""
    m, k, n = first.shape
    return bool(np.count_nonzero(first) > n * m + (k - 1) * np.count_nonzero(gaps))


def _settled(scores: Array, means: Array) -> Array:
    """Scores (k, n) plus a millionth of the summed probabilities ``means`` (k, n), scaled to sum to 1 over axis 0."""
    means *= TIE_BREAK
    scores += means
    scores /= np.maximum(scores.sum(axis=0), np.finfo(float).tiny)
    return scores
