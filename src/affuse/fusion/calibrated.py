"""The calibrated logarithmic opinion pool as a scikit-learn estimator: affuse's default fuser."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, Groups, Mask, present
from affuse.fusion.estimator import Fuser, check_vector, label_frequencies
from affuse.fusion.pooling import FLOOR, log_pool
from affuse.fusion.schema import LEAST, Check, numbers
from affuse.fusion.temperature import fit_temperatures, temperature_scale

__all__ = ["CalibratedLogPool", "fit_weights"]


class CalibratedLogPool(Fuser):
    """Logarithmic opinion pool with one learned temperature and weight a modality, shrunk towards the product rule.

    ``log q = log prior + Σ_m w_m (log p_m - log prior_m)``. Temperatures calibrate every modality by itself; weights
    then minimise the negative log-likelihood of the pooled answer plus ``shrinkage / n`` times half the squared
    distance of the weights from 1, which is the product rule. Gaps: left out. Ties: the first column.

    Parameters
    ----------
    shrinkage : float
        Pull of the weights towards 1, in rows: with as many rows as that, data and product rule count about the same.
    prior : array of shape (n_classes,), optional
        Label frequencies of the answer; those of ``y`` where None.

    Attributes
    ----------
    temperatures_, weights_ : array of shape (n_modalities,)
        Temperature and weight of every modality.
    priors_ : array of shape (n_modalities, n_classes)
        Label frequencies of the rows in which each modality was present.
    prior_ : array of shape (n_classes,)
        Label frequencies of the answer.

    References
    ----------
    Genest & Zidek (1986), Combining probability distributions. doi:10.1214/ss/1177013825

    Guo et al. (2017), On calibration of modern neural networks. arXiv:1706.04599

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> P = rng.dirichlet([1, 1], size=(200, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> CalibratedLogPool().fit(P, y).score(P, y)
    1.0
    """

    def __init__(self, shrinkage: float = 50.0, prior: ArrayLike | None = None) -> None:
        self.shrinkage = shrinkage
        self.prior = prior

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {
            "temperatures_": numbers(m, low=LEAST),
            "weights_": numbers(m, low=0.0),
            "priors_": numbers(m, k, low=LEAST, high=1.0),
            "prior_": numbers(k, low=LEAST, high=1.0),
        }

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn temperatures, then weights; a prior that was given replaces the one of the labels
        m, k = P.shape[1:]
        here = present(P)
        if self.prior is not None:
            prior = np.maximum(check_vector(self.prior, k, "prior", "classes"), FLOOR)
            self.prior_ = prior / prior.sum()
        self.temperatures_ = fit_temperatures(P, y)
        self.priors_ = np.array([label_frequencies(y[here[:, j]], k) for j in range(m)])
        self.weights_ = fit_weights(
            temperature_scale(P, self.temperatures_), y, self.priors_, self.prior_, self.shrinkage
        )

    def combine(self, P: Array, here: Mask) -> Array:
        # Pool of the calibrated P (n, m, k)
        return log_pool(temperature_scale(P, self.temperatures_), self.weights_, self.priors_, self.prior_)


def fit_weights(P: Array, y: Columns, priors: Array, prior: Array, shrinkage: float) -> Array:
    """Weights (m,) of a logarithmic pool over calibrated P (n, m, k), shrunk to 1; see `CalibratedLogPool`."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    here = present(P)
    usable = here.any(axis=1)
    P, y, here = P[usable], y[usable], here[usable]
    n, m, _ = P.shape
    if n == 0:
        return np.ones(m)
    ratio = np.where(here[:, :, None], np.log(np.maximum(P, FLOOR)) - np.log(priors), 0.0)
    rows = np.arange(n)

    def loss(weights: Array) -> tuple[float, Array]:
        L = log_softmax(np.log(prior) + np.einsum("m,nmk->nk", weights, ratio), axis=1)
        slope = np.einsum("nk,nmk->m", np.exp(L), ratio) - ratio[rows, :, y].sum(axis=0)
        pull = shrinkage / n
        value = -L[rows, y].mean() + pull * ((weights - 1) ** 2).sum() / 2
        return value, slope / n + pull * (weights - 1)

    found = minimize(loss, np.ones(m), jac=True, method="L-BFGS-B", bounds=[(0.0, 5.0)] * m)
    return np.asarray(found.x)
