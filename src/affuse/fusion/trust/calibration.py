"""Calibration of every modality by itself, before fusion.

These are transformers from P to P that go into scikit-learn's pipelines.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.isotonic import IsotonicRegression
from sklearn.utils.validation import check_is_fitted

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, check_probabilities, checked_blocks, present
from affuse.fusion.estimator import columns_of
from affuse.fusion.pooling import FLOOR
from affuse.fusion.temperature import fit_pulled, temperature_scale

__all__ = ["IsotonicScaling", "TemperatureScaling", "VectorScaling"]


class _Scaling(TransformerMixin, BaseEstimator):
    """Base of transformers P (n, m, k) -> P (n, m, k) that learn one map a modality; gaps stay gaps."""

    def fit(self, P: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn one map a modality from held-out answers.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing. A modality without any row keeps its probabilities.
        y : array of shape (n_samples,)
            The right labels, as in `Fuser.fit`.
        groups : array of shape (n_samples,), optional
            Not used.

        Returns
        -------
        TransformerMixin
            The transformer itself.

        Raises
        ------
        DataError
            If shapes do not fit.
        """
        P = check_probabilities(P)
        self.classes_, columns = columns_of(y, len(P), P.shape[2])
        self.n_modalities_ = P.shape[1]
        here = present(P)
        self.maps_ = [self._fit_one(P[here[:, j], j], columns[here[:, j]]) for j in range(P.shape[1])]
        return self

    def transform(self, P: ArrayLike) -> Array:
        """Calibrated probabilities.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)

        Returns
        -------
        array of shape (n_samples, n_modalities, n_classes)
            NaN where P is NaN.
        """
        check_is_fitted(self)
        P = np.asarray(P)
        scaled = np.empty(P.shape)
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            scaled[rows] = np.nan
            for j, found in enumerate(self.maps_):
                scaled[rows][here[:, j], j] = self._apply(found, block[here[:, j], j])
        return scaled

    def _fit_one(self, P: Array, y: Columns) -> Any:
        raise NotImplementedError

    def _apply(self, found: Any, P: Array) -> Array:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        tags.target_tags.required = True
        return tags


class TemperatureScaling(_Scaling):
    """Calibration by one temperature a modality, which does not change the order of the labels.

    ``softmax(log p / T)`` with the T that minimises the negative log-likelihood, pulled towards 1 where rows are few.

    Attributes
    ----------
    maps_ : list of float
        Temperature of every modality.
    classes_ : array of shape (n_classes,)
        Labels of the columns.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks. arXiv:1706.04599

    Examples
    --------
    An expert that says 90 % and is right in 3 of 4 rows:

    >>> P = np.tile([[[0.9, 0.1]]], (400, 1, 1))
    >>> TemperatureScaling().fit(P, [0, 0, 0, 1] * 100).transform(P[:1]).round(1)
    array([[[0.8, 0.2]]])
    """

    def _fit_one(self, P: Array, y: Columns) -> float:
        return fit_pulled(P, y)

    def _apply(self, found: float, P: Array) -> Array:
        return temperature_scale(P[:, None], np.array([found]))[:, 0]


class VectorScaling(_Scaling):
    """Calibration by one slope and one offset a label and modality: ``softmax(a · log p + b)``, by maximum likelihood.

    Parameters
    ----------
    penalty : float
        Pull of the slopes towards 1 and of the offsets towards 0, in rows; above 0.

    Attributes
    ----------
    maps_ : list of array of shape (2, n_classes)
        Slopes and offsets of every modality.
    classes_ : array of shape (n_classes,)
        Labels of the columns.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks. arXiv:1706.04599

    Examples
    --------
    >>> P = np.tile([[[0.9, 0.1]]], (400, 1, 1))
    >>> VectorScaling().fit(P, [0, 0, 0, 1] * 100).transform(P[:1]).round(2)
    array([[[0.75, 0.25]]])
    """

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def _fit_one(self, P: Array, y: Columns) -> Array:
        if not self.penalty > 0:
            raise ConfigError(f"penalty must be above 0; got {self.penalty}")
        k = P.shape[1]
        start = np.concatenate([np.ones(k), np.zeros(k)])
        if len(y) == 0:
            return start.reshape(2, k)
        L = np.log(np.maximum(P, FLOOR))
        L -= L.mean(axis=1, keepdims=True)
        rows = np.arange(len(y))

        def loss(flat: Array) -> tuple[float, Array]:
            slopes, offsets = flat.reshape(2, k)
            log_q = log_softmax(slopes * L + offsets, axis=1)
            error = np.exp(log_q)
            error[rows, y] -= 1
            slope = np.concatenate([(error * L).sum(axis=0), error.sum(axis=0)]) + self.penalty * (flat - start)
            value = -log_q[rows, y].sum() + self.penalty * ((flat - start) ** 2).sum() / 2
            return value / len(y), slope / len(y)

        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x.reshape(2, k))

    def _apply(self, found: Array, P: Array) -> Array:
        L = np.log(np.maximum(P, FLOOR))
        return np.asarray(softmax(found[0] * (L - L.mean(axis=1, keepdims=True)) + found[1], axis=1))


class IsotonicScaling(_Scaling):
    """Calibration by one rising step function a label and modality (one against the rest), normalised.

    Needs some hundred rows a label; with fewer, temperatures are safer.

    Attributes
    ----------
    maps_ : list of list of sklearn.isotonic.IsotonicRegression
        Step functions of every modality, one a label.
    classes_ : array of shape (n_classes,)
        Labels of the columns.

    References
    ----------
    Zadrozny & Elkan (2002), Transforming classifier scores into accurate multiclass probability estimates.
    doi:10.1145/775047.775151

    Examples
    --------
    >>> P = np.tile([[[0.9, 0.1]]], (400, 1, 1))
    >>> IsotonicScaling().fit(P, [0, 0, 0, 1] * 100).transform(P[:1]).round(2)
    array([[[0.75, 0.25]]])
    """

    def _fit_one(self, P: Array, y: Columns) -> list[IsotonicRegression]:
        steps = []
        for c in range(P.shape[1]):
            step = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
            steps.append(step.fit(P[:, c], y == c) if len(y) else step.fit([0.0, 1.0], [0.0, 1.0]))
        return steps

    def _apply(self, found: list[IsotonicRegression], P: Array) -> Array:
        if len(P) == 0:
            return P
        scaled = np.stack([step.predict(P[:, c]) for c, step in enumerate(found)], axis=1)
        scaled = np.maximum(scaled, FLOOR)
        return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))
