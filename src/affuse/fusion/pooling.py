"""The logarithmic opinion pool as plain functions of arrays; scikit-learn is needed to learn one, not to use one."""

from __future__ import annotations

import numpy as np

from affuse.fusion.base import Array, Mask, present, softmax

__all__ = ["FLOOR", "common_cause_pool", "log_pool", "separation"]

# Least probability of an expert: a single probability of zero would otherwise exclude a label.
FLOOR = 1e-6


def log_pool(P: Array, weights: Array, priors: Array, prior: Array) -> Array:
    """Weighted logarithmic opinion pool with prior correction.

    ``log q = log prior + Σ_m weights[m] · (log P[m] - log priors[m])``, normalised. With weights of 1 this is Bayes'
    product rule for modalities that are independent given the label.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; a modality that is NaN in a row is left out there.
    weights : array of shape (n_modalities,)
    priors : array of shape (n_modalities, n_classes)
        Label frequencies that each expert was trained under.
    prior : array of shape (n_classes,)
        Label frequencies of the answer.

    Returns
    -------
    array of shape (n_samples, n_classes)
        NaN for rows without any modality.

    References
    ----------
    Genest & Zidek (1986), Combining probability distributions. doi:10.1214/ss/1177013825

    Examples
    --------
    >>> even = np.full((2, 2), 0.5)
    >>> log_pool(np.array([[[0.8, 0.2], [0.8, 0.2]]]), np.ones(2), even, even[0]).round(3)
    array([[0.941, 0.059]])
    """
    here = present(P)
    ratio = np.log(np.maximum(P, FLOOR)) - np.log(priors)
    L = np.log(prior) + np.einsum("m,nmk->nk", np.asarray(weights), np.where(here[:, :, None], ratio, 0.0))
    q = softmax(L)
    q[~here.any(axis=1)] = np.nan
    return q


def common_cause_pool(P: Array, weights: Array, priors: Array, prior: Array, separate: float) -> Array:
    """Logarithmic pool for modalities that may have different causes.

    With the prior probability ``separate`` every modality of a row expresses an emotion of its own. Otherwise one
    emotion is the common cause of all of them, which is what the product of `log_pool` assumes. The answers of both
    cases are averaged, weighted by their posterior probability: the product where modalities agree, the mean of their
    opinions where they contradict each other. Conflict thus costs confidence.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; a modality that is NaN in a row is left out there.
    weights : array of shape (n_modalities,)
    priors : array of shape (n_modalities, n_classes)
        Label frequencies that each expert was trained under.
    prior : array of shape (n_classes,)
        Label frequencies of the answer.
    separate : float
        Prior probability of different causes, at least 0 and below 1; with 0 this is `log_pool`.

    Returns
    -------
    array of shape (n_samples, n_classes)
        NaN for rows without any modality.

    References
    ----------
    Körding et al. (2007), Causal inference in multisensory perception. doi:10.1371/journal.pone.0000943

    Examples
    --------
    Two certain modalities that contradict each other end uncertain, two that agree do not:

    >>> P = np.array([[[0.99, 0.01], [0.04, 0.96]], [[0.99, 0.01], [0.96, 0.04]]])
    >>> even = np.full((2, 2), 0.5)
    >>> common_cause_pool(P, np.ones(2), even, even[0], separate=0.2).round(2)
    array([[0.6, 0.4],
           [1. , 0. ]])
    """
    joints = _log_joints(P, weights, priors, prior)
    return _blend(*joints, _separation(*joints, separate))


def separation(P: Array, weights: Array, priors: Array, prior: Array, separate: float) -> Array:
    """Posterior probability (n,) that the modalities have different causes (Körding et al., 2007, eq. 2)."""
    return _separation(*_log_joints(P, weights, priors, prior), separate)


def _separation(alone: Array, common: Array, here: Mask, separate: float) -> Array:
    apart = np.where(here, np.logaddexp.reduce(alone, axis=2), 0.0).sum(axis=1)
    odds = (separate / (1 - separate)) * np.exp(np.clip(apart - np.logaddexp.reduce(common, axis=1), -500, 500))
    return np.asarray(odds / (1 + odds))


def _blend(alone: Array, common: Array, here: Mask, share: Array) -> Array:
    opinions = np.where(here[:, :, None], np.exp(alone - np.logaddexp.reduce(alone, axis=2, keepdims=True)), 0.0)
    count = here.sum(axis=1)[:, None]
    mean = np.divide(opinions.sum(axis=1), count, out=np.full(common.shape, np.nan), where=count > 0)
    product = np.exp(common - np.logaddexp.reduce(common, axis=1, keepdims=True))
    return np.asarray((1 - share[:, None]) * product + share[:, None] * mean)


def _log_joints(P: Array, weights: Array, priors: Array, prior: Array) -> tuple[Array, Array, Mask]:
    """Log of prior times evidence, of every modality alone (n, m, k) and of all (n, k), and which are present."""
    here = present(P)
    evidence = np.asarray(weights)[:, None] * (np.log(np.maximum(P, FLOOR)) - np.log(priors))
    evidence = np.where(here[:, :, None], evidence, 0.0)
    return np.log(prior) + evidence, np.log(prior) + evidence.sum(axis=1), here
