"""The forward-backward algorithm, which both models of turns use (Rabiner 1989, doi:10.1109/5.18626)."""

from __future__ import annotations

import numpy as np

__all__ = ["forward_backward"]


def forward_backward(likely: np.ndarray, first: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, float]:
    """How probable every state of a hidden Markov model is at every step, given all of them.

    Parameters
    ----------
    likely : array of shape (n, k)
        Likelihood of what is observed at each step in each of k states, above 0; up to a factor a step.
    first : array of shape (k,)
        Probabilities of the states at the first step.
    step : array of shape (k, k)
        Probability of the next state (column), given this one (row).

    Returns
    -------
    posteriors : array of shape (n, k)
        Rows sum to 1.
    evidence : float
        Log-likelihood of all steps.

    Examples
    --------
    >>> likely = np.array([[0.9, 0.1], [0.5, 0.5]])
    >>> posteriors, evidence = forward_backward(likely, np.array([0.5, 0.5]), np.array([[0.8, 0.2], [0.2, 0.8]]))
    >>> posteriors.round(2).tolist(), round(float(np.exp(evidence)), 2)
    ([[0.9, 0.1], [0.74, 0.26]], 0.25)
    """
    forward, backward = np.empty_like(likely), np.ones_like(likely)
    before, total = first, 0.0
    for i, own in enumerate(likely):
        found = before * own
        forward[i] = found / found.sum()
        total += float(np.log(found.sum()))
        before = forward[i] @ step
    for i in range(len(likely) - 2, -1, -1):
        found = step @ (likely[i + 1] * backward[i + 1])
        backward[i] = found / found.sum()
    joint = forward * backward
    return np.asarray(joint / joint.sum(axis=1, keepdims=True)), total
