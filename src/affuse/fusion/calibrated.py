"""The calibrated logarithmic opinion pool as a scikit-learn estimator: affuse's default fuser."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from affuse.errors import DataError
from affuse.fusion.base import Array, check_probabilities, present
from affuse.fusion.pooling import FLOOR, log_pool, soften

__all__ = ["CalibratedLogPool", "fit_temperature", "fit_weights"]


class CalibratedLogPool(ClassifierMixin, BaseEstimator):
    """Logarithmic opinion pool with one learned temperature and weight a modality, shrunk towards the product rule.

    Temperatures calibrate every modality by itself (Guo et al. 2017, arXiv:1706.04599); weights then minimise the negative
    log-likelihood of the pooled answer plus ``shrinkage`` / n times the squared distance of the weights from 1, which is the
    product rule. ``shrinkage`` counts in rows: with as many rows as that, data and rule weigh about the same.

    Parameters
    ----------
    shrinkage: pull of the weights towards 1, in rows.
    prior: label frequencies (k,) of the answer; those of ``y`` where None.

    Attributes
    ----------
    classes_ (k,), temperatures_ (m,), weights_ (m,), priors_ (m, k), prior_ (k,)
    """

    def __init__(self, shrinkage: float = 50.0, prior: ArrayLike | None = None) -> None:
        self.shrinkage = shrinkage
        self.prior = prior

    def fit(self, P: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from held-out outputs P (n, m, k) with NaN for gaps, and labels y (n,) that are the columns 0…k-1.

        ``groups`` is accepted for the sake of group-wise cross-validation and changes nothing. Raises DataError on bad shapes.
        """
        P = check_probabilities(P)
        y = np.asarray(y)
        n, m, k = P.shape
        if len(y) != n:
            raise DataError(f"P has {n} rows, but y has {len(y)}")
        if not np.isin(y, np.arange(k)).all():
            raise DataError(f"labels must be columns of P, 0 to {k - 1}; got {sorted(set(y.tolist()))}")
        self.classes_ = np.arange(k)
        here = present(P)
        self.temperatures_ = np.array([fit_temperature(P[here[:, j], j], y[here[:, j]]) for j in range(m)])
        frequencies = [np.bincount(y[here[:, j]], minlength=k) + 1.0 for j in range(m)]  # one more each: none is zero
        self.priors_ = np.array([f / f.sum() for f in frequencies])
        overall = np.bincount(y, minlength=k) + 1.0
        self.prior_ = overall / overall.sum() if self.prior is None else np.asarray(self.prior, dtype=float)
        calibrated = soften(P, self.temperatures_)
        self.weights_ = fit_weights(calibrated, y, self.priors_, self.prior_, self.shrinkage)
        return self

    def predict_proba(self, P: ArrayLike) -> Array:
        """Fused probabilities (n, k); a row without any evidence is NaN."""
        check_is_fitted(self)
        P = check_probabilities(P, len(self.weights_), len(self.classes_))
        return log_pool(soften(P, self.temperatures_), self.weights_, self.priors_, self.prior_)

    def predict(self, P: ArrayLike) -> Array:
        """Most probable column (n,); a row without any evidence falls back to the most frequent label of ``fit``."""
        fused = self.predict_proba(P)
        fused[np.isnan(fused).any(axis=1)] = self.prior_
        return np.asarray(self.classes_[fused.argmax(axis=1)])


def fit_temperature(P: Array, y: Array) -> float:
    """Temperature that minimises the negative log-likelihood of P (n, k) at labels y (n,); 1 where there are no rows."""
    if len(y) == 0:
        return 1.0
    L = np.log(np.maximum(P, FLOOR))
    rows = np.arange(len(y))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(L / np.exp(log_temperature), axis=1)[rows, y].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.5, 2.5), method="bounded").x))


def fit_weights(P: Array, y: Array, priors: Array, prior: Array, shrinkage: float) -> Array:
    """Weights (m,) of a logarithmic pool over calibrated P (n, m, k), shrunk to 1; see `CalibratedLogPool`."""
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
