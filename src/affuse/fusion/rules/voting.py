"""Votes: only each modality's most probable label counts, or its order of the labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.estimator import Fuser, check_vector
from affuse.fusion.schema import Check, numbers
from affuse.fusion.weighting import LEAST_WEIGHT, accuracy_log_odds

__all__ = ["BordaCount", "ConfidenceWeightedVote", "MajorityVote", "WeightedVote"]

# How much a summed probability counts beside a whole vote: it settles ties between votes and nothing else.
TIE_BREAK = 1e-6

# Up to so many votes fit into a byte.
MOST_COUNTED = 255


class MajorityVote(Fuser):
    """One vote a modality for its most probable label: ``q = share of the votes``.

    Gaps: no vote. A modality with several most probable labels splits its vote evenly. Ties between votes go to the
    label with the greater mean probability, which makes up 1e-6 of the answer; then to the first column.

    References
    ----------
    Kittler et al. (1998), On combining classifiers, eq. 20. doi:10.1109/34.667881

    Examples
    --------
    >>> P = np.array([[[0.6, 0.4], [0.7, 0.3], [0.0, 1.0]], [[0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]])
    >>> MajorityVote().fit(P, ["happy", "sad"]).predict_proba(P).round(3)
    array([[0.667, 0.333],
           [0.   , 1.   ]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
        return _count(P, here)


class WeightedVote(Fuser):
    """Votes for the most probable label, weighted by modality: ``q ∝ Σ_m w_m · [label is the most probable of m]``.

    Gaps, split votes and ties: as in `MajorityVote`.

    Parameters
    ----------
    weights : array of shape (n_modalities,), optional
        At least 0, in any scale. Where None, `fit` takes ``log(a_m / (1 - a_m)) + log(k - 1)`` with the accuracy a_m
        of each modality (one right and one wrong row added) and k labels.

    Attributes
    ----------
    weights_ : array of shape (n_modalities,)
        Weights that sum to 1.

    References
    ----------
    Kuncheva & Rodríguez (2014), A weighted voting framework for classifiers ensembles. doi:10.1007/s10115-012-0586-6

    Examples
    --------
    >>> P = np.array([[[0.6, 0.4], [0.3, 0.7]], [[0.2, 0.8], [0.3, 0.7]]])
    >>> WeightedVote([3, 1]).fit(P, ["happy", "sad"]).predict_proba(P).round(3)
    array([[0.75, 0.25],
           [0.  , 1.  ]])
    """

    def __init__(self, weights: ArrayLike | None = None) -> None:
        self.weights = weights

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"weights_": numbers(m, low=0.0)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        m = P.shape[1]
        weights = (
            accuracy_log_odds(P, y) if self.weights is None else check_vector(self.weights, m, "weights", "modalities")
        )
        self.weights_ = weights / weights.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        return _tally(P, here * np.maximum(self.weights_, LEAST_WEIGHT))


class ConfidenceWeightedVote(Fuser):
    """Votes for the most probable label, each counting as much as its probability.

    ``q ∝ Σ_m max(p_m) · [label is the most probable of m]``. Gaps, split votes and ties: as in `MajorityVote`.

    References
    ----------
    Kuncheva (2014), Combining pattern classifiers, 2nd ed., chapter 4. doi:10.1002/9781118914564

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [0.3, 0.7]]])
    >>> ConfidenceWeightedVote().fit(P, ["happy", "sad"]).predict_proba(P).round(3)
    array([[0.6, 0.4],
           [0. , 1. ]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
        return _tally(P, np.fmax(P.transpose(2, 0, 1), 0.0, order="C").max(axis=0))


class BordaCount(Fuser):
    """Borda count: every modality gives a label one point for each label that it finds less probable.

    ``q = share of the points``. Gaps: no points. Equally probable labels share their points. Ties go to the label with
    the greater mean probability, which makes up 1e-6 of the answer; then to the first column.

    References
    ----------
    Ho, Hull & Srihari (1994), Decision combination in multiple classifier systems. doi:10.1109/34.273716

    Examples
    --------
    Points 2, 1, 0 of the first modality and 0, 2, 1 of the second:

    >>> P = np.array([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]])
    >>> BordaCount().fit(P, [0]).predict_proba(P).round(3)
    array([[0.333, 0.5  , 0.167]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
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
    """Scores (k, n) plus 1e-6 of the summed probabilities ``means`` (k, n), scaled to sum to 1 over axis 0."""
    means *= TIE_BREAK
    scores += means
    scores /= np.maximum(scores.sum(axis=0), np.finfo(float).tiny)
    return scores
