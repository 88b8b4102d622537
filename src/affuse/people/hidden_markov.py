"""The forward-backward algorithm, which both models of turns use (Rabiner 1989, doi:10.1109/5.18626)."""

from __future__ import annotations

import numpy as np

__all__ = ["forward_backward"]


def forward_backward(likely: np.ndarray, first: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, float]:
    """How probable every state of a hidden Markov model is at every step, given all of them.

    Blocks of steps, as many as each has steps, are worked through side by side, so that an hour takes few operations.

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
    n, k = likely.shape
    length = max(1, int(np.ceil(np.sqrt(n))))
    count = -(-n // length)
    blocks = np.ones((count, length, k))  # steps after the last one say nothing
    blocks.reshape(-1, k)[:n] = likely
    products = _products(blocks, step)
    forward, total = _forward(blocks, _from_left(products, first), step)
    joint = forward * _backward(blocks, _from_right(products), step)
    joint = joint.reshape(-1, k)[:n]
    return np.asarray(joint / joint.sum(axis=1, keepdims=True)), total


def _products(blocks: np.ndarray, step: np.ndarray) -> np.ndarray:
    """What the steps of every block do to the probabilities before it: (b, k, k), up to a factor a block."""
    found = np.broadcast_to(np.eye(len(step)), (len(blocks), *step.shape))
    for own in blocks.swapaxes(0, 1):
        found = (found * own[:, None]) @ step
        found = found / found.max(axis=(1, 2), keepdims=True)
    return found


def _from_left(products: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Probabilities (b, k) of the first state of every block, given the blocks before it."""
    found = [first]
    for own in products[:-1]:
        following = found[-1] @ own
        found.append(following / following.sum())
    return np.array(found)


def _from_right(products: np.ndarray) -> np.ndarray:
    """Likelihood (b, k) of the blocks after every block in each first state of theirs, up to a factor."""
    found = [np.ones(products.shape[-1])]
    for own in products[:0:-1]:
        before = own @ found[-1]
        found.append(before / before.max())
    return np.array(found[::-1])


def _forward(blocks: np.ndarray, before: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, float]:
    """Probabilities (b, l, k) of the states given all up to each step, and the log-likelihood of all steps."""
    found, total = np.empty_like(blocks), 0.0
    for i, own in enumerate(blocks.swapaxes(0, 1)):
        joint = before * own
        sums = joint.sum(axis=1, keepdims=True)
        found[:, i] = joint / sums
        total += float(np.log(sums).sum())
        before = found[:, i] @ step
    return found, total


def _backward(blocks: np.ndarray, after: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Likelihood (b, l, k) of all after each step in each of its states, up to a factor a step."""
    found = np.empty_like(blocks)
    for i in range(blocks.shape[1] - 1, -1, -1):
        behind = after @ step.T
        found[:, i] = behind / behind.sum(axis=1, keepdims=True)
        after = found[:, i] * blocks[:, i]
    return found
