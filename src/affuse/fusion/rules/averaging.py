"""The linear opinion pool: means of probabilities, plain or weighted by what is known about a modality or a row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, Groups, Mask, without_gaps
from affuse.fusion.estimator import Fuser, check_vector
from affuse.fusion.schema import Check, numbers
from affuse.fusion.weighting import LEAST_WEIGHT, accuracy_log_odds, weighted_mean

__all__ = ["EntropyWeighted", "MeanRule", "PerformanceWeighted", "WeightedMeanRule"]


class MeanRule(Fuser):
    """Mean of the probabilities (sum rule): ``q = Σ_m p_m / M`` over the M modalities that are present.

    Gaps: left out. Ties: the first column.

    References
    ----------
    Kittler et al. (1998), On combining classifiers, eq. 11. doi:10.1109/34.667881

    Examples
    --------
    The second row lacks the second modality:

    >>> P = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> MeanRule().fit(P, ["happy", "sad"]).predict_proba(P)
    array([[0.75, 0.25],
           [0.2 , 0.8 ]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
        total = np.einsum("nmk->nk", without_gaps(P))
        total /= np.maximum(here @ np.ones(here.shape[1]), 1)[:, None]
        return np.asarray(total)


class WeightedMeanRule(Fuser):
    """Weighted mean of the probabilities (linear opinion pool): ``q = Σ_m w_m p_m / Σ_m w_m``.

    Gaps: the weights of the modalities that are present are scaled to sum to 1; where all of those are 0, they count
    alike. Ties: the first column.

    Parameters
    ----------
    weights : array of shape (n_modalities,), optional
        At least 0, in any scale; equal where None.

    Attributes
    ----------
    weights_ : array of shape (n_modalities,)
        Weights that sum to 1.

    References
    ----------
    Stone (1961), The opinion pool. doi:10.1214/aoms/1177704873

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> WeightedMeanRule([3, 1]).fit(P, ["happy", "sad"]).predict_proba(P)
    array([[0.8, 0.2],
           [0.2, 0.8]])
    """

    def __init__(self, weights: ArrayLike | None = None) -> None:
        self.weights = weights

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"weights_": numbers(m, low=0.0)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        m = P.shape[1]
        weights = np.ones(m) if self.weights is None else check_vector(self.weights, m, "weights", "modalities")
        self.weights_ = weights / weights.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        return weighted_mean(P, here * np.maximum(self.weights_, LEAST_WEIGHT))


class PerformanceWeighted(Fuser):
    """Mean of the probabilities, weighted by how often each modality was right on the rows of `fit`.

    ``w_m = log(a_m / (1 - a_m)) + log(k - 1)`` with the accuracy a_m (one right and one wrong row added) and k labels:
    log-odds over chance. A modality at chance has a weight next to 0. Fit on held-out outputs: on its own training rows
    an expert looks better than it is. Gaps and ties: as in `WeightedMeanRule`.

    Attributes
    ----------
    weights_ : array of shape (n_modalities,)
        Weights that sum to 1.

    References
    ----------
    Kuncheva & Rodríguez (2014), A weighted voting framework for classifiers ensembles. doi:10.1007/s10115-012-0586-6

    Examples
    --------
    The first modality is right in both rows, the second in one of two, which is chance:

    >>> P = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [0.7, 0.3]]])
    >>> PerformanceWeighted().fit(P, ["happy", "sad"]).weights_.round(3)
    array([1., 0.])
    """

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"weights_": numbers(m, low=0.0)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        weights = accuracy_log_odds(P, y)
        self.weights_ = weights / weights.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        return weighted_mean(P, here * np.maximum(self.weights_, LEAST_WEIGHT))


class EntropyWeighted(Fuser):
    """Mean of the probabilities, weighted in every row by how certain each modality is.

    ``w_m = 1 - H(p_m) / log k`` with Shannon's entropy H and k labels: 1 for a certain answer, 0 for a uniform one;
    then the weighted mean. Gaps: left out. Where all present modalities are uniform, they count alike. Ties: the first
    column.

    References
    ----------
    Shannon (1948), A mathematical theory of communication. doi:10.1002/j.1538-7305.1948.tb01338.x

    Examples
    --------
    A uniform modality changes nothing:

    >>> P = np.array([[[0.9, 0.1], [0.5, 0.5]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> EntropyWeighted().fit(P, ["happy", "sad"]).predict_proba(P).round(3)
    array([[0.9, 0.1],
           [0.2, 0.8]])
    """

    def combine(self, P: Array, here: Mask) -> Array:
        k = P.shape[2]
        filled = without_gaps(P)
        entropy = -np.einsum("nmk,nmk->nm", filled, np.log(np.where(filled > 0, filled, 1.0)))
        certainty = 1 - entropy / np.log(max(k, 2))
        return weighted_mean(P, here * np.maximum(certainty, LEAST_WEIGHT))
