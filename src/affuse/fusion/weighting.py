"""Weights of modalities: the weighted mean, and weights from accuracy."""

from __future__ import annotations

import numpy as np

from affuse.fusion.base import Array, Columns, present, without_gaps

__all__ = ["LEAST_WEIGHT", "accuracy_log_odds", "hits", "smoothed_accuracies", "weighted_mean"]

LEAST_WEIGHT = 1e-9
"""Weight that every present modality has at least: where all present ones have none, they count alike."""


def weighted_mean(P: Array, weights: Array) -> Array:
    """Mean over modalities of P (n, m, k), gaps NaN, by weights (n, m) that are 0 at gaps.

    Rows sum to 1 where any weight is above 0.
    """
    total = np.einsum("nm,nmk->nk", weights, without_gaps(P))
    total /= np.maximum(weights.sum(axis=1), np.finfo(float).tiny)[:, None]
    return np.asarray(total)


def hits(P: Array, y: Columns) -> Array:
    """1 where the most probable label of a present modality is right, else 0: (n, m) from P (n, m, k), y (n,)."""
    filled = np.where(np.isnan(P), -1.0, P)
    return np.asarray((filled.argmax(axis=2) == y[:, None]) & present(P), dtype=float)


def smoothed_accuracies(P: Array, y: Columns) -> Array:
    """Accuracy (m,) of every modality of P (n, m, k) against the columns y (n,), where it is present.

    One right and one wrong row are added, so that no accuracy is 0 or 1 (Laplace's rule of succession).
    """
    return np.asarray((hits(P, y).sum(axis=0) + 1) / (present(P).sum(axis=0) + 2))


def accuracy_log_odds(P: Array, y: Columns) -> Array:
    """Weight of every modality's vote (m,): log-odds of its accuracy in P (n, m, k) against the columns y (n,).

    It is next to 0 at chance or below. ``log(a / (1 - a)) + log(k - 1)`` is the best weight of a vote where experts err
    independently and evenly (Kuncheva & Rodríguez 2014, doi:10.1007/s10115-012-0586-6).
    """
    accuracy = smoothed_accuracies(P, y)
    return np.asarray(np.maximum(np.log(accuracy / (1 - accuracy)) + np.log(max(P.shape[2] - 1, 1)), LEAST_WEIGHT))
