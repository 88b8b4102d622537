"""Temperature scaling (Guo et al., 2017): the only fit of temperatures in affuse."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, present, softmax
from affuse.fusion.pooling import FLOOR

__all__ = ["fit_pulled", "fit_temperature", "fit_temperatures", "temperature_scale"]

_BOUND = 2.5
"""Largest size of the logarithm of a temperature: temperatures lie between 0.08 and 12.2."""

_PULL = 2.0
"""Factor of the squared logarithm for probabilities: a normal prior of standard deviation 1/2."""


def temperature_scale(P: Array, temperatures: ArrayLike) -> Array:
    """Divide the log-probabilities of every modality by its temperature, and normalise.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; rows of NaN stay so.
    temperatures : array of shape (n_modalities,)
        Above 1 makes a modality less certain, below 1 more certain; the order of the labels does not change.

    Returns
    -------
    array of shape (n_samples, n_modalities, n_classes)

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks. arXiv:1706.04599

    Examples
    --------
    >>> temperature_scale(np.array([[[0.9, 0.1]]]), [2.0])
    array([[[0.75, 0.25]]])
    """
    return softmax(np.log(np.maximum(P, FLOOR)) / np.asarray(temperatures)[:, None])


def fit_temperature(logits: ArrayLike, targets: ArrayLike, pull: float = 0.0) -> float:
    """Temperature that minimises the negative log-likelihood of held-out rows.

    Parameters
    ----------
    logits : array of shape (n_samples, n_classes)
        Logits or log-probabilities; -inf for classes that a row cannot have.
    targets : array of int of shape (n_samples,)
        Columns of the right classes.
    pull : float
        Strength of a normal prior on the logarithm of the temperature, which pulls the temperature towards 1 where
        rows are few (maximum a posteriori): ``pull`` times the squared logarithm is added to the summed loss.
        0 is maximum likelihood; 2 is a standard deviation of 1/2, with which four rows that happen to be right do not
        make an expert certain, and hundreds decide by themselves.

    Returns
    -------
    float
        Between 0.08 and 12.2; 1 without any row.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks. arXiv:1706.04599

    Examples
    --------
    A model that says 90 % and is right in 3 of 4 rows is too certain. Temperature 2 turns 90 % into 75 %:

    >>> round(fit_temperature(np.log([[0.9, 0.1]] * 4), [0, 0, 0, 1]), 3)
    2.0
    """
    from scipy.optimize import minimize_scalar  # slow to import, and only learning needs it
    from scipy.special import log_softmax

    L, y = np.asarray(logits), np.asarray(targets)
    if len(y) == 0:
        return 1.0
    rows = np.arange(len(y))

    def loss(log_temperature: float) -> float:
        likelihood = -log_softmax(L / np.exp(log_temperature), axis=1)[rows, y].mean()
        return float(likelihood + pull * log_temperature**2 / len(y))

    return float(np.exp(minimize_scalar(loss, bounds=(-_BOUND, _BOUND), method="bounded").x))


def fit_temperatures(P: Array, y: Columns) -> Array:
    """Temperature of every modality (m,), from held-out probabilities P (n, m, k) and the right columns y (n,).

    Few rows are pulled towards 1, see ``pull`` of `fit_temperature`.
    """
    here = present(P)
    return np.array([fit_pulled(P[here[:, j], j], y[here[:, j]]) for j in range(P.shape[1])])


def fit_pulled(P: Array, y: Columns) -> float:
    """Temperature of probabilities P (n, k), pulled towards 1 where rows are few."""
    return fit_temperature(np.log(np.maximum(P, FLOOR)), y, _PULL)
