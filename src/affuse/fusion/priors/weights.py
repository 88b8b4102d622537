"""Weights of the entries of a prior, learned from labelled windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns
from affuse.fusion.priors.files import MAX_WEIGHT
from affuse.fusion.priors.prior import Prior
from affuse.fusion.priors.rules import Fired, Windows

__all__ = ["WEIGHT_SPREAD", "fit_rule_weights", "weigh"]

WEIGHT_SPREAD = 0.5
"""Standard deviation of the normal prior around 1: a weight that no data contradicts stays 1."""

_LEAST = 1e-12  # of a probability


def fit_rule_weights(prior: Prior, features: Fired | ArrayLike, P: ArrayLike, y: ArrayLike) -> Array:
    """Weight of every entry of a prior, by maximum a posteriori.

    Minimises the negative log-likelihood of ``softmax(P + features @ (weights * adds))`` at ``y`` plus ``(weights - 1)²
    / (2 WEIGHT_SPREAD²)``, weights at least 0. The function is convex, so there is one solution; the cap on words
    (`LEXICON_CAP`) is left out for that, and rows where it holds pull weights a little lower.

    Parameters
    ----------
    prior : Prior
        With n_entries words and rules.
    features : Fired or array of shape (n_samples, n_entries)
        Which entry holds in which row, see `Prior.fires`.
    P : array of shape (n_samples, n_classes)
        Log-probabilities without lexicon and rules; rows of NaN are not used.
    y : array of int of shape (n_samples,)
        Columns of the right labels; rows below 0 have none and are not used.

    Returns
    -------
    array of shape (n_entries,)

    Raises
    ------
    DataError
        If shapes differ, or a column of ``y`` does not exist.

    Examples
    --------
    >>> prior = Prior(("sad", "glad"), [1, 1], "mine", lexicon={"hooray": {"glad": 2.0}})
    >>> never_right = fit_rule_weights(prior, np.ones((200, 1)), np.log(np.full((200, 2), 0.5)), np.zeros(200))
    >>> never_right.round(2)
    array([0.])
    """
    from scipy.optimize import minimize  # takes a second to load; only learning needs it
    from scipy.special import log_softmax

    fired = features if isinstance(features, Fired) else Fired.from_dense(features)
    L, targets, rows, entries = _usable_rows(prior, fired, P, y)
    adds = prior.adds
    n, r = len(L), len(adds)
    if n == 0 or len(rows) == 0:
        return np.ones(r)
    A = adds[entries]
    precision = WEIGHT_SPREAD**-2

    def loss(weights: Array) -> tuple[float, Array]:
        values = A * weights[entries, None]
        Z = L + np.stack([np.bincount(rows, column, n) for column in values.T], axis=1)
        log_q = log_softmax(Z, axis=1)
        G = np.exp(log_q)
        G[np.arange(n), targets] -= 1.0
        slope = np.bincount(entries, (G[rows] * A).sum(axis=1), r)
        off = weights - 1.0
        value = -log_q[np.arange(n), targets].sum() + precision * (off @ off) / 2
        return float(value), slope + precision * off

    found = minimize(loss, np.ones(r), jac=True, method="L-BFGS-B", bounds=[(0.0, MAX_WEIGHT)] * r)
    return np.asarray(found.x)


def _usable_rows(prior: Prior, fired: Fired, P: ArrayLike, y: ArrayLike) -> tuple[Array, Columns, Columns, Columns]:
    """Log-probabilities and labels of rows to learn from, and the entries that hold there, rows renumbered."""
    L, targets = np.asarray(P, dtype=float), np.asarray(y).astype(np.intp)
    r, k = prior.adds.shape
    n = fired.shape[0]
    if fired.shape[1] != r:
        raise DataError(f"the prior has {r} entries; the features have {fired.shape[1]} columns")
    if L.shape != (n, k) or targets.shape != (n,):
        raise DataError(f"expected P of shape ({n}, {k}) and y of shape ({n},); got {L.shape} and {targets.shape}")
    if n and targets.max() >= k:
        raise DataError(f"y names column {targets.max()}; the prior has {k} labels")
    fires = np.zeros(n, dtype=bool)
    fires[fired.rows] = True
    kept = ~np.isnan(L).any(axis=1) & (targets >= 0) & fires  # a row in which nothing holds says nothing of weights
    number = np.cumsum(kept) - 1
    here = kept[fired.rows]
    return np.maximum(L[kept], np.log(_LEAST)), targets[kept], number[fired.rows[here]], fired.entries[here]


def weigh(prior: Prior, windows: Windows, P: ArrayLike, y: ArrayLike) -> Prior:
    """A prior whose entries are weighted by labelled windows.

    Parameters
    ----------
    prior : Prior
    windows : Windows
        What is known of n windows.
    P : array of shape (n_windows, n_classes)
        Class probabilities under the prior's frequencies, without lexicon and rules, from models that did not learn
        from these rows.
    y : array of int of shape (n_windows,)
        Columns of the right labels, below 0 where there is none.

    Returns
    -------
    Prior
        With `fit_rule_weights` as its weights.

    Examples
    --------
    A word that is never right loses its weight:

    >>> prior = Prior(("sad", "glad"), [1, 1], "mine", lexicon={"hooray": {"glad": 2.0}})
    >>> windows = Windows.of(["hooray"] * 200)
    >>> round(weigh(prior, windows, np.full((200, 2), 0.5), np.zeros(200)).weights["hooray"], 2)
    0.0
    """
    with np.errstate(divide="ignore"):
        L = np.log(np.asarray(P, dtype=float))
    return prior.with_weights(fit_rule_weights(prior, prior.fires(windows), L, y))
