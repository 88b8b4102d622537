"""A small network in NumPy, so that a client needs no torch: what is sent, averaged and learned by every client.

A head is a list of arrays, ``[W, b]`` or ``[W1, b1, W2, b2]`` with one hidden layer of rectified units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import log_softmax, softmax

from affuse.federated.plan import Plan

__all__ = ["Head", "Noise", "first_weights", "loss_and_gradient", "private_gradient", "scores", "train_head"]

Head = list[np.ndarray]

_TINY = 1e-12


class Noise:
    """Noise of differential privacy: drawn from the system's source of chance, so that no seed gives it away.

    Parameters
    ----------
    deviation : float
        Standard deviation of the noise on a sum of gradients, in units of the largest norm of one.

    Examples
    --------
    >>> Noise(2.0).of((3,)).shape
    (3,)
    """

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation
        self._rng = np.random.default_rng()  # seeded by the system

    def of(self, shape: tuple[int, ...]) -> np.ndarray:
        """Noise of a shape.

        Parameters
        ----------
        shape : tuple of int

        Returns
        -------
        array
        """
        return self._rng.normal(0.0, self.deviation, shape)

    def chosen(self, n: int, share: float) -> np.ndarray:
        """Rows of a step: each by itself with the probability ``share`` (Poisson sampling).

        Parameters
        ----------
        n : int
            Rows.
        share : float
            Probability of one.

        Returns
        -------
        array of int
        """
        return np.flatnonzero(self._rng.random(n) < share)


def first_weights(n_inputs: int, n_labels: int, plan: Plan) -> Head:
    """Weights to begin with: drawn from the plan's seed (He et al. 2015), zeros in the last layer.

    Parameters
    ----------
    n_inputs, n_labels : int
        Width of the inputs and number of labels.
    plan : Plan
        Says how many hidden units there are.

    Returns
    -------
    list of array

    Examples
    --------
    >>> [a.shape for a in first_weights(3, 2, Plan("voice", hidden=4))]
    [(3, 4), (4,), (4, 2), (2,)]
    """
    rng = np.random.default_rng(plan.seed)
    head: Head = []
    if plan.hidden:
        head += [rng.normal(0, np.sqrt(2 / n_inputs), (n_inputs, plan.hidden)), np.zeros(plan.hidden)]
        n_inputs = plan.hidden
    return [*head, np.zeros((n_inputs, n_labels)), np.zeros(n_labels)]


def scores(head: Sequence[np.ndarray], X: np.ndarray) -> np.ndarray:
    """Logits of rows.

    Parameters
    ----------
    head : list of array
    X : array of shape (n, d)

    Returns
    -------
    array of shape (n, k)

    Examples
    --------
    >>> scores([np.eye(2), np.array([0.0, 1.0])], np.array([[2.0, 3.0]]))
    array([[2., 4.]])
    """
    return _layers(head, X)[-1]


def loss_and_gradient(
    head: Sequence[np.ndarray], X: np.ndarray, Y: np.ndarray, weights: np.ndarray, penalty: float = 0.0
) -> tuple[float, Head]:
    """Mean cross-entropy of rows, and its gradient.

    Parameters
    ----------
    head : list of array
    X : array of shape (n, d)
    Y : array of shape (n, k)
        Shares of the labels; they add up to 1.
    weights : array of shape (n,)
        Of the rows.
    penalty : float
        Half of it times the squared matrices is added.

    Returns
    -------
    tuple of float and list of array

    Examples
    --------
    >>> loss, gradient = loss_and_gradient([np.zeros((1, 2)), np.zeros(2)], np.ones((1, 1)), np.eye(2)[:1], np.ones(1))
    >>> round(loss, 4), gradient[1]
    (0.6931, array([-0.5,  0.5]))
    """
    layers = _layers(head, X)
    n = max(1, len(X))
    loss = float(-(weights[:, None] * Y * log_softmax(layers[-1], axis=1)).sum() / n)
    gradient: Head = []
    for inputs, errors in _errors(head, layers, Y, weights / n):
        gradient = [inputs.T @ errors, errors.sum(axis=0), *gradient]
    for place in range(0, len(head), 2):
        gradient[place] += penalty * head[place]
        loss += penalty * float((head[place] ** 2).sum()) / 2
    return loss, gradient


def private_gradient(
    head: Sequence[np.ndarray], X: np.ndarray, Y: np.ndarray, clip: float, expected: float, noise: Noise
) -> Head:
    """Gradient of rows of which none counts for more than ``clip``, with noise: a step of DP-SGD (arXiv:1607.00133).

    Parameters
    ----------
    head : list of array
    X : array of shape (n, d)
    Y : array of shape (n, k)
    clip : float
        Largest norm of a row's gradient over all arrays.
    expected : float
        Rows that a step draws on average; the sum is divided by it, not by the number that was drawn.
    noise : Noise
        Its deviation is in units of ``clip``.

    Returns
    -------
    list of array

    Examples
    --------
    >>> gradient = private_gradient([np.zeros((1, 2)), np.zeros(2)], np.ones((1, 1)), np.eye(2)[:1], 0.1, 1.0, Noise(0))
    >>> round(float(np.sqrt(sum((part**2).sum() for part in gradient))), 6)
    0.1
    """
    parts = list(_errors(head, _layers(head, X), Y, np.ones(len(X))))
    # A row's gradient of a layer is an outer product, whose norm is that of its two factors; the bias adds 1.
    squares = sum((errors**2).sum(axis=1) * ((inputs**2).sum(axis=1) + 1) for inputs, errors in parts)
    factors = np.minimum(1.0, clip / np.maximum(np.sqrt(squares), _TINY))[:, None]
    gradient: Head = []
    for inputs, errors in parts:
        gradient = [inputs.T @ (errors * factors), (errors * factors).sum(axis=0), *gradient]
    return [(part + clip * noise.of(part.shape)) / expected for part in gradient]


def train_head(
    head: Sequence[np.ndarray],
    X: np.ndarray,
    Y: np.ndarray,
    weights: np.ndarray,
    plan: Plan,
    round_number: int = 0,
    noise: Noise | None = None,
) -> Head:
    """Learn from rows for the epochs of one round, by plain gradient descent over small batches.

    Adam, started anew in every round, was tried: where clients had different labels, its average sometimes learned
    nothing, and that of gradient descent did.

    Parameters
    ----------
    head : list of array
        The common network, which is left as it is.
    X : array of shape (n, d)
    Y : array of shape (n, k)
        Shares of the labels.
    weights : array of shape (n,)
        Of the rows; with ``noise`` every row counts alike.
    plan : Plan
        How to learn.
    round_number : int
        Decides, with the plan's seed, the order of the rows.
    noise : Noise, optional
        Of differential privacy; rows are then drawn by chance and their gradients clipped.

    Returns
    -------
    list of array

    Examples
    --------
    >>> X, Y = np.array([[-1.0], [1.0]]), np.eye(2)
    >>> learned = train_head([np.zeros((1, 2)), np.zeros(2)], X, Y, np.ones(2), Plan("voice"))
    >>> scores(learned, X).argmax(axis=1)
    array([0, 1])
    """
    own = [np.array(part, dtype=float) for part in head]
    pull = plan.proximal if plan.strategy == "fedprox" else 0.0
    for rows in _batches(len(X), plan, round_number, noise):
        if noise is None:
            _, gradient = loss_and_gradient(own, X[rows], Y[rows], weights[rows], plan.penalty)
        else:
            gradient = private_gradient(own, X[rows], Y[rows], plan.clip, min(plan.batch_size, len(X)), noise)
        for part, slope, common in zip(own, gradient, head, strict=True):
            part -= plan.learning_rate * (slope + pull * (part - common))
    return own


def _batches(n: int, plan: Plan, round_number: int, noise: Noise | None) -> Iterator[np.ndarray]:
    size = min(plan.batch_size, n)
    if noise is not None:
        for _ in range(plan.epochs * round(n / size)):
            yield noise.chosen(n, size / n)
        return
    rng = np.random.default_rng([plan.seed, round_number])
    for _ in range(plan.epochs):
        order = rng.permutation(n)
        yield from (order[start : start + size] for start in range(0, n, size))


def _layers(head: Sequence[np.ndarray], X: np.ndarray) -> list[np.ndarray]:
    """Inputs of every layer, and the logits."""
    values = [np.asarray(X, dtype=float)]
    for place in range(0, len(head), 2):
        inputs = values[-1] if place == 0 else np.maximum(values[-1], 0.0)
        values[-1] = inputs
        values.append(inputs @ head[place] + head[place + 1])
    return values


def _errors(
    head: Sequence[np.ndarray], layers: Sequence[np.ndarray], Y: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """From the last layer to the first: its inputs (n, d), and the loss's slope (n, u) by what it gives."""
    errors = weights[:, None] * (softmax(layers[-1], axis=1) - Y)
    for place in range(len(head) - 2, -1, -2):
        inputs = layers[place // 2]
        yield inputs, errors
        errors = (errors @ head[place].T) * (inputs > 0)
