"""Linear mixed model of log-probabilities: coordinates, estimation, and prediction of a random effect.

Rows x of label y and person p are ``x = mean[y] + u[p] + e`` with normal u and e; see `RandomEffectsFusion`.
"""

from __future__ import annotations

import numpy as np

from affuse.fusion.base import Array, Columns, Mask

__all__ = ["coordinates", "fit_mixed_model", "helmert", "predicted_shift"]

_ITERATIONS = 12
_FEWEST_PAIRS = 30  # rows that show two modalities together, below which their errors count as independent
_PRIOR_ROWS = 2.0  # of the overall mean in the mean of every label
_SHRINKAGE = 10.0  # rows that pull the covariance within a label towards a sphere, more than there are dimensions
# Spread of persons, as a share of the spread of one person's clips, where the rows do not say who is who. On CREMA-D
# votes, RAVDESS and EMO-DB it was between 0.1 and 0.4.
_USUAL_PERSON_SHARE = 0.25


def helmert(k: int) -> Array:
    """Orthonormal contrasts (k, k - 1): columns that sum to 0 (Helmert's matrix).

    References
    ----------
    Egozcue et al. (2003), Isometric logratio transformations. doi:10.1023/A:1023818214614

    Examples
    --------
    >>> np.round(helmert(3).T @ helmert(3), 9) + 0.0
    array([[1., 0.],
           [0., 1.]])
    """
    basis = np.zeros((k, k - 1))
    for j in range(1, k):
        basis[:j, j - 1] = 1 / np.sqrt(j * (j + 1))
        basis[j, j - 1] = -j / np.sqrt(j * (j + 1))
    return basis


def coordinates(P: Array, floor: float) -> Array:
    """Log-probabilities of P (n, m, k), floored, as contrasts (n, m (k - 1)); NaN where a modality is missing."""
    n, _, k = P.shape
    return np.asarray((np.log(np.maximum(P, floor)) @ helmert(k)).reshape(n, -1))


def predicted_shift(X: Array, counts: Array, centre: Array, noise: Array, before: Array) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d) of the shift of rows X (n, d), NaN in gaps, whose mean would be ``centre``."""
    here = ~np.isnan(X)
    precision = np.linalg.inv(before + 1e-9 * np.eye(len(before)))
    pull = np.zeros(X.shape[1])
    for own in np.unique(here, axis=0):
        rows = (here == own).all(axis=1)
        Q = np.zeros_like(before)
        Q[np.ix_(own, own)] = np.linalg.inv(noise[np.ix_(own, own)])
        precision = precision + counts[rows].sum() * Q
        pull += Q @ (counts[rows] @ np.where(own, X[rows] - centre, 0.0))
    after = np.linalg.inv(precision)
    return after @ pull, after


def fit_mixed_model(X: Array, y: Columns, people: Columns | None, m: int, k: int) -> tuple[Array, Array, Array]:
    """Means (k, d), covariance within (d, d) and between persons (d, d), by expectation-maximisation."""
    here = ~np.isnan(X)
    filled = np.where(here, X, 0.0)
    counts = np.bincount(y, minlength=k)
    # Halfway between rows and labels counting alike: rare labels matter, without a few rows of them deciding.
    weights = np.sqrt(len(y) / (max(1, (counts > 0).sum()) * np.maximum(counts, 1)))[y]
    means = _means(filled, here, y, k)
    within = _within(filled - means[y], here, weights, np.zeros((1, X.shape[1], X.shape[1])), None, m)
    person = _USUAL_PERSON_SHARE * _spheres(within, m)
    if people is None or people.max() + 1 >= len(y):  # every row by itself says nothing of persons
        return means, within, person
    for _ in range(_ITERATIONS):
        shifts, spreads = _persons(filled - means[y], here, people, within, person)
        person = (shifts[:, :, None] * shifts[:, None, :] + spreads).mean(axis=0)
        person = 0.9 * person + 0.1 * _spheres(person, m)
        means = _means(filled - shifts[people], here, y, k)
        within = _within(filled - means[y] - shifts[people], here, weights, spreads, people, m)
    return means, within, person


def _means(X: Array, here: Mask, y: Columns, k: int) -> Array:
    overall = np.where(here, X, 0.0).sum(axis=0) / np.maximum(here.sum(axis=0), 1)
    onehot = np.eye(k)[y]
    total = onehot.T @ np.where(here, X, 0.0) + _PRIOR_ROWS * overall
    return np.asarray(total / (onehot.T @ here + _PRIOR_ROWS))


def _within(E: Array, here: Mask, weights: Array, spreads: Array, people: Columns | None, m: int) -> Array:
    """Covariance of residuals E (n, d), block by block from the rows that show both modalities, shrunk and regular."""
    E = np.where(here, E, 0.0)
    W = here * weights[:, None]
    both = W.T @ here
    spread = spreads[people].mean(axis=0) if people is not None else spreads[0]
    covariance = (E * weights[:, None]).T @ E / np.maximum(both, 1e-9) + spread
    pairs = here.T.astype(float) @ here
    covariance = np.where(pairs >= _FEWEST_PAIRS, covariance, np.where(_own_blocks(len(both), m), covariance, 0.0))
    pull = (len(both) + _SHRINKAGE) / (np.maximum(np.diag(pairs), 1) + len(both) + _SHRINKAGE)
    keep = np.sqrt(np.outer(1 - pull, 1 - pull))
    covariance = keep * covariance + np.diag(pull) * np.maximum(_spheres(covariance, m), 0.05 * np.eye(len(both)))
    return _regular(covariance)


def _own_blocks(d: int, m: int) -> Mask:
    block = np.arange(d) // (d // m)
    return np.asarray(block[:, None] == block[None])


def _spheres(covariance: Array, m: int) -> Array:
    """The same trace in every modality, evenly over its contrasts."""
    traces = np.diag(covariance).reshape(m, -1).mean(axis=1)
    return np.diag(np.repeat(traces, len(covariance) // m))


def _regular(covariance: Array) -> Array:
    """The nearest matrix whose smallest eigenvalue is a thousandth of the largest."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return np.asarray((vectors * np.maximum(values, values.max() * 1e-3)) @ vectors.T)


def _persons(E: Array, here: Mask, people: Columns, within: Array, person: Array) -> tuple[Array, Array]:
    """Posterior means (p, d) and covariances (p, d, d) of all persons' shifts, from residuals E (n, d)."""
    count, d = int(people.max()) + 1, E.shape[1]
    precision = np.tile(np.linalg.inv(person), (count, 1, 1))
    pull = np.zeros((count, d))
    for own in np.unique(here, axis=0):
        rows = (here == own).all(axis=1)
        Q = np.zeros((d, d))
        Q[np.ix_(own, own)] = np.linalg.inv(within[np.ix_(own, own)])
        precision += np.bincount(people[rows], minlength=count)[:, None, None] * Q
        np.add.at(pull, people[rows], E[rows] @ Q)
    spreads = np.linalg.inv(precision)
    return np.einsum("pde,pe->pd", spreads, pull), spreads
