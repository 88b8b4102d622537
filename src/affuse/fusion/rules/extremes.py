"""Order statistics of the probabilities: maximum, minimum and median over the modalities.

Kittler et al. 1998, doi:10.1109/34.667881.
"""

from __future__ import annotations

import numpy as np

from affuse.fusion.base import Array, Mask, without_gaps
from affuse.fusion.estimator import Fuser
from affuse.fusion.pooling import FLOOR

__all__ = ["MaxRule", "MedianRule", "MinRule"]

# Up to so many modalities, comparing pairs of them is quicker than sorting every row.
MOST_EXCHANGES = 8

# More than any probability: where gaps go when probabilities are sorted.
BEYOND = 2.0


def _normalised(scores: Array) -> Array:
    scores /= (scores @ np.ones(scores.shape[1]))[:, None]
    return scores


class MaxRule(Fuser):
    """Greatest probability of every label over the modalities, normalised: ``q ∝ max_m p_m``.

    Gaps: left out. Ties: the first column.

    References
    ----------
    Kittler et al. (1998), On combining classifiers, eq. 13. doi:10.1109/34.667881

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> MaxRule().fit(P, ["happy", "sad"]).predict_proba(P)
    array([[0.6, 0.4],
           [0.2, 0.8]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
        filled = without_gaps(P)
        greatest = filled[:, 0].copy()
        for j in range(1, P.shape[1]):  # a loop over few modalities is several times quicker than max(axis=1)
            np.maximum(greatest, filled[:, j], out=greatest)
        return _normalised(np.maximum(greatest, FLOOR, out=greatest))


class MinRule(Fuser):
    """Least probability of every label over the modalities, normalised: ``q ∝ min_m p_m``.

    Gaps: left out. Probabilities below 1e-6 count as 1e-6, so where the experts together exclude every label, all
    labels are equally probable. Ties: the first column.

    References
    ----------
    Kittler et al. (1998), On combining classifiers, eq. 15. doi:10.1109/34.667881

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.3, 0.7]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> MinRule().fit(P, ["happy", "sad"]).predict_proba(P)
    array([[0.75, 0.25],
           [0.2 , 0.8 ]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
        least = np.ones((len(P), P.shape[2]))
        for j in range(P.shape[1]):
            np.fmin(least, P[:, j], out=least)
        return _normalised(np.maximum(least, FLOOR, out=least))


class MedianRule(Fuser):
    """Median probability of every label over the modalities, normalised: ``q ∝ median_m p_m``.

    One expert that is far off changes little; with two modalities this is the mean. Gaps: left out. Where all medians
    are 0, all labels are equally probable. Ties: the first column.

    References
    ----------
    Kittler et al. (1998), On combining classifiers, eq. 17. doi:10.1109/34.667881

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.8, 0.2], [0.0, 1.0]], [[0.2, 0.8], [0.3, 0.7], [0.4, 0.6]]])
    >>> MedianRule().fit(P, ["happy", "sad"]).predict_proba(P)
    array([[0.8, 0.2],
           [0.3, 0.7]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
        ordered = _sorted(P)
        count = np.maximum(here.sum(axis=1), 1)
        rows = np.arange(len(P))
        median = (ordered[(count - 1) // 2, rows] + ordered[count // 2, rows]) / 2
        return _normalised(np.maximum(median, FLOOR, out=median))


def _sorted(P: Array) -> Array:
    """P (n, m, k) sorted over the modalities, gaps last: (m, n, k)."""
    if P.shape[1] > MOST_EXCHANGES:
        return np.moveaxis(np.sort(np.fmin(P, BEYOND), axis=1), 1, 0)
    ordered = np.fmin(P, BEYOND).transpose(1, 0, 2).copy()
    for end in range(len(ordered) - 1, 0, -1):  # bubbles whole modalities: few, and each exchange runs along memory
        for i in range(end):
            less = np.minimum(ordered[i], ordered[i + 1])
            np.maximum(ordered[i], ordered[i + 1], out=ordered[i + 1])
            ordered[i] = less
    return ordered
