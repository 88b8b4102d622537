"""Explanation of a fused answer: conflict between the modalities, and the exact share of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

import numpy as np

from affuse.fusion.base import Array, Columns, Mask, present
from affuse.fusion.estimator import Fuser

__all__ = [
    "SURE",
    "conflict",
    "conflict_in_words",
    "contradicting",
    "contradiction",
    "contradictory",
    "log_odds",
    "shapley_shares",
    "shares_and_points",
    "shares_of",
]


def conflict(P: Array) -> Array:
    """Generalised Jensen-Shannon divergence between the modalities of each sample.

    The divergence of the M equally weighted modalities that are present is divided by its upper bound ``log M``.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; NaN where a modality is missing.

    Returns
    -------
    array of shape (n_samples,)
        0 (same opinion) to 1 (disjoint opinions); NaN with fewer than two modalities.

    References
    ----------
    Lin (1991), Divergence measures based on the Shannon entropy. doi:10.1109/18.61115

    Examples
    --------
    >>> conflict(np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.7, 0.3], [0.7, 0.3]]]))
    array([1., 0.])
    """
    here = present(P)
    count = here.sum(axis=1)
    filled = np.where(here[:, :, None], P, 0.0)
    n_present = np.maximum(count, 1)
    mixture = filled.sum(axis=1) / n_present[:, None]
    divergence = _entropy(mixture) - _entropy(filled).sum(axis=1) / n_present
    scaled = np.clip(divergence / np.log2(np.maximum(count, 2)), 0.0, 1.0)
    return np.where(count >= 2, scaled, np.nan)


def _entropy(P: Array) -> Array:
    return np.asarray(-(P * np.log2(np.where(P > 0, P, 1.0))).sum(axis=-1))


SURE = 0.6
"""Least probability of a modality's own emotion with which it can contradict another.

Where it cannot be a contradiction, few are called one: of moments that ten people who hear and see agree on (CREMA-D),
calibrated judgements of people who only hear and only see contradict in 4.0 % (10.3 % at 0.4, 2.3 % at 0.7); of
RAVDESS, two models of voice and face in 6.1 %. Where voice and face are of different moments, 28 and 38 % of the true
contradictions are still found.
"""

_WITHOUT_EMOTION = ("neutral", "calm", "boredom")
# Surprise takes either valence: one is gladly surprised, or starts with fright. Sentiment labels follow their sign.
_COMPATIBLE = (
    frozenset(("surprise", "happiness")),
    frozenset(("surprise", "fear")),
    frozenset(("surprise", "positive")),
    frozenset(("surprise", "negative")),
    frozenset(("happiness", "positive")),
    *(frozenset((label, "negative")) for label in ("anger", "disgust", "fear", "sadness", "contempt")),
    frozenset(("disgust", "contempt")),
)


def contradictory(labels: Sequence[str]) -> Mask:
    """Which pairs of labels contradict each other.

    Two different emotions do. Neutral, calm and boredom contradict nothing; surprise is compatible with happiness and
    with fear.

    Parameters
    ----------
    labels : sequence of str

    Returns
    -------
    array of bool of shape (n_classes, n_classes)
        Symmetric.

    Examples
    --------
    >>> contradictory(("happiness", "anger", "neutral"))[0]
    array([False,  True, False])
    """
    pairs = np.ones((len(labels), len(labels)), dtype=bool)
    for i, one in enumerate(labels):
        for j, other in enumerate(labels):
            peaceful = one == other or one in _WITHOUT_EMOTION or other in _WITHOUT_EMOTION
            pairs[i, j] = not peaceful and frozenset((one, other)) not in _COMPATIBLE
    return pairs


def contradicting(P: Array, labels: Sequence[str], sure: float = SURE) -> Mask:
    """Which modalities contradict another one; see `contradiction`.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
    labels : sequence of str
        Names of the classes.
    sure : float
        Least probability of a modality's own most probable label.

    Returns
    -------
    array of bool of shape (n_samples, n_modalities)
    """
    P = np.asarray(P, dtype=float)
    filled = np.where(np.isnan(P), 0.0, P)
    winners = filled.argmax(axis=2)
    certain = present(P) & (filled.max(axis=2) >= sure)
    opposed = contradictory(labels)[winners[:, :, None], winners[:, None, :]]
    return np.asarray((opposed & certain[:, :, None] & certain[:, None, :]).any(axis=2))


def contradiction(P: Array, labels: Sequence[str], sure: float = SURE) -> Mask:
    """Whether two modalities are each certain of emotions that contradict each other.

    Parameters
    ----------
    P : array of shape (n, m, k)
        Each modality's own calibrated probabilities; NaN where it says nothing.
    labels : sequence of str
        Names of the k classes.
    sure : float
        Least probability of a modality's own winner; see `SURE`.

    Returns
    -------
    array of bool of shape (n,)

    Examples
    --------
    A smiling face over an angry voice is a contradiction, a neutral face is not:

    >>> labels = ("happiness", "anger", "neutral")
    >>> P = np.array([[[0.8, 0.1, 0.1], [0.1, 0.9, 0.0]], [[0.1, 0.1, 0.8], [0.1, 0.9, 0.0]]])
    >>> contradiction(P, labels)
    array([ True, False])
    """
    return np.asarray(contradicting(P, labels, sure).any(axis=1))


def conflict_in_words(P: Array, modalities: Sequence[str], labels: Sequence[str], sure: float = SURE) -> str:
    """Which modalities contradict each other in one row, as words for a report.

    Parameters
    ----------
    P : array of shape (n_modalities, n_classes)
        Each modality's own calibrated probabilities; NaN where it is missing.
    modalities : sequence of str
        Names of the modalities.
    labels : sequence of str
        Names of the classes.
    sure : float
        Least probability of a modality's own most probable label, from which it can contradict another.

    Returns
    -------
    str
        Empty where no modalities contradict each other; the others are not named.

    Examples
    --------
    >>> P = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    >>> conflict_in_words(P, ("face", "voice", "text"), ("happiness", "anger"))
    'face says happiness, voice and text say anger'
    """
    by_label: dict[str, list[str]] = {}
    for modality, row, contradicts in zip(modalities, P, contradicting(P[None], labels, sure)[0], strict=True):
        if contradicts:
            by_label.setdefault(labels[int(row.argmax())], []).append(modality)
    return ", ".join(
        f"{' and '.join(names)} {'says' if len(names) == 1 else 'say'} {label}" for label, names in by_label.items()
    )


def log_odds(p: Array) -> Array:
    """Log-odds of probabilities, kept finite."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p) - np.log1p(-p))


def shapley_shares(P: Array, fuse: Callable[[Array], Array] | Fuser, prior: Array, labels: Columns) -> Array:
    """Exact Shapley share of every modality in the log-odds of the answer.

    The value of a set of modalities is the log-odds that a row's label has when only the set is used; the empty set has
    those of the prior. All 2^m sets are evaluated.

    Parameters
    ----------
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; NaN where a modality is missing.
    fuse : function from (n, m, k) to (n, k), or a fitted fuser
        Of a fuser, `Fuser.partial_proba` is used: one that answers a row with a model of its choice is explained by
        that model, so that modalities which it does not use have shares of exactly 0.
    prior : array of shape (n_classes,) or (n_samples, n_classes)
        Answer without any modality.
    labels : array of int of shape (n_samples,)
        Columns of the answers that are explained.

    Returns
    -------
    array of shape (n_samples, n_modalities)
        Shares of a row add up to the log-odds of the full answer over the prior; NaN for missing modalities.

    References
    ----------
    Lundberg & Lee (2017), A unified approach to interpreting model predictions. arXiv:1705.07874

    Examples
    --------
    >>> P = np.array([[[0.8, 0.2], [0.5, 0.5]]])
    >>> mean = lambda P: np.nanmean(P, axis=1) if np.isfinite(P).any() else P[:, 0]
    >>> shapley_shares(P, mean, np.array([0.5, 0.5]), np.array([0])).round(3)
    array([[ 1.003, -0.384]])
    """

    def partial(keep: Mask) -> Array:
        if isinstance(fuse, Fuser):
            return fuse.partial_proba(P, keep)
        masked = P.copy()
        masked[:, ~keep] = np.nan
        return fuse(masked)

    return shares_of(partial, present(P), prior, labels)


def shares_of(partial: Callable[[Mask], Array], here: Mask, prior: Array, labels: Columns) -> Array:
    """`shapley_shares` of whatever answers (n, k) from only the modalities ``keep`` (m,): ``partial(keep)``.

    ``here`` (n, m) says which modality is present in which row.
    """
    return _shapley(_worths(partial, here, prior, labels, log_odds), here)


def shares_and_points(
    partial: Callable[[Mask], Array], here: Mask, prior: Array, labels: Columns
) -> tuple[Array, Array]:
    """`shares_of`, and the same in the probability of the label, which the shares of a row move from that of the prior.

    Probabilities are what readers of an answer see, log-odds what independent evidence adds up in. Both are exact
    Shapley values, of two measures of the same answers.
    """
    values = _worths(partial, here, prior, labels, np.asarray)
    return _shapley({members: log_odds(value) for members, value in values.items()}, here), _shapley(values, here)


def _worths(
    partial: Callable[[Mask], Array],
    here: Mask,
    prior: Array,
    labels: Columns,
    measure: Callable[[Array], Array],
) -> dict[frozenset[int], Array]:
    """The ``measure`` of the probability of each row's label, by the set of modalities that is used."""
    n, m = here.shape
    rows = np.arange(n)
    values: dict[frozenset[int], Array] = {}
    for size in range(m + 1):
        for members in combinations(range(m), size):
            fused = partial(np.isin(np.arange(m), members)) if members else np.full((n, np.shape(prior)[-1]), np.nan)
            # Members without evidence leave the prior's answer, as if they were not in the set.
            fused = np.where(np.isnan(fused).any(axis=1, keepdims=True), prior, fused)
            values[frozenset(members)] = measure(fused[rows, labels])
    return values


def _shapley(values: dict[frozenset[int], Array], here: Mask) -> Array:
    """Shapley values (n, m) of what sets of modalities are worth; NaN for missing modalities."""
    n, m = here.shape
    shares = np.zeros((n, m))
    for i in range(m):
        others = [j for j in range(m) if j != i]
        for size in range(m):
            weight = factorial(size) * factorial(m - size - 1) / factorial(m)
            for members in combinations(others, size):
                shares[:, i] += weight * (values[frozenset((*members, i))] - values[frozenset(members)])
    return np.where(here, shares, np.nan)
