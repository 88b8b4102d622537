"""The leak alarm.

It warns of experts that were trained on the rows from which a fuser is to learn.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affuse.errors import DataError, LeakWarning
from affuse.fusion.base import Array, Columns, check_probabilities, present
from affuse.fusion.estimator import columns_of
from affuse.fusion.weighting import hits

__all__ = ["Leak", "leak_alarm", "leak_alarm_features"]

# Speakers and videos differ by some points of accuracy without anything being wrong.
TOLERANCE = 0.05
LEVEL = 0.01


@dataclass(frozen=True)
class Leak:
    """One modality whose accuracy on the rows to learn from is too high; `leak_alarm` makes it.

    Parameters
    ----------
    modality : str
        Its name.
    fit_accuracy, held_out_accuracy : float
        Accuracy on the rows to learn from, and on held-out rows.
    p_value : float
        Of the test that the first is at most 5 points higher than the second.

    Examples
    --------
    >>> leak = Leak("face", fit_accuracy=0.99, held_out_accuracy=0.6, p_value=1e-9)
    >>> str(leak)[:51]
    'face is right in 99.0% of the rows to learn from, b'
    """

    modality: str
    fit_accuracy: float
    held_out_accuracy: float
    p_value: float

    def __str__(self) -> str:
        return (
            f"{self.modality} is right in {self.fit_accuracy:.1%} of the rows to learn from, but in "
            f"{self.held_out_accuracy:.1%} of held-out rows: it has probably learned from those rows; "
            "a fuser needs outputs on rows that its experts never saw"
        )


def leak_alarm(
    P_fit: ArrayLike,
    y_fit: ArrayLike,
    P_held_out: ArrayLike,
    y_held_out: ArrayLike,
    modalities: Sequence[str] | None = None,
) -> list[Leak]:
    """Warn of experts that were trained on the rows from which a fuser is to learn.

    Every modality's accuracy on the rows to learn from is compared with that on held-out rows. A modality leaks where
    it is more than 5 points higher, by a one-sided test of two proportions at 1 %, shared by the modalities
    (Bonferroni). One LeakWarning is issued for each leak.

    Parameters
    ----------
    P_fit : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities of the rows to learn from; NaN where a modality is missing.
    y_fit : array of shape (n_samples,)
        Their labels, as in `Fuser.fit`.
    P_held_out : array of shape (n_held_out, n_modalities, n_classes)
    y_held_out : array of shape (n_held_out,)
    modalities : sequence of str, optional
        Names of the modalities.

    Returns
    -------
    list of Leak

    Raises
    ------
    DataError
        If shapes do not fit.

    References
    ----------
    Agresti & Caffo (2000), Simple and effective confidence intervals for proportions.
    doi:10.1080/00031305.2000.10474560

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=400)
    >>> memorised, unseen = np.eye(2)[y], np.eye(2)[np.where(rng.random(400) < 0.7, y, 1 - y)]
    >>> P = np.stack([unseen, unseen], axis=1)
    >>> leaky = np.stack([memorised, unseen], axis=1)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     found = leak_alarm(leaky, y, P, y, ["face", "voice"])
    >>> [leak.modality for leak in found]
    ['face']
    """
    P_fit = check_probabilities(P_fit)
    P_held_out = check_probabilities(P_held_out, P_fit.shape[1], P_fit.shape[2])
    fit, held_out = (
        _hits(P, columns_of(y, len(P), P.shape[2])[1]) for P, y in ((P_fit, y_fit), (P_held_out, y_held_out))
    )
    names = [f"modality {j}" for j in range(P_fit.shape[1])] if modalities is None else list(modalities)
    if len(names) != P_fit.shape[1]:
        raise DataError(f"P has {P_fit.shape[1]} modalities, but {len(names)} names were given")
    return _raise_alarm([_judge(*row) for row in zip(names, fit, held_out, strict=True)])


def leak_alarm_features(
    blocks: Mapping[str, ArrayLike],
    y: ArrayLike,
    groups: ArrayLike | None,
    new_blocks: Mapping[str, ArrayLike],
    y_new: ArrayLike,
    folds: int = 5,
) -> list[Leak]:
    """Warn of features that were learned from the labels of the rows to learn from.

    A logistic regression on each block of features is cross-validated, by groups where given. It is then fitted on all
    rows and asked about new ones. Features that a network learned from the labels of these rows promise more than they
    keep; accuracies are compared as in `leak_alarm`.

    Parameters
    ----------
    blocks : mapping of str to array of shape (n_samples, n_features)
        Features by modality.
    y : array of shape (n_samples,)
        Labels.
    groups : array of shape (n_samples,) or None
        What must not be split.
    new_blocks : mapping of str to array of shape (n_new, n_features)
        The same features of other rows.
    y_new : array of shape (n_new,)
        Labels of the other rows.
    folds : int
        Number of folds of the cross-validation.

    Returns
    -------
    list of Leak

    Raises
    ------
    DataError
        If the blocks have other names.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, new = rng.integers(2, size=200), rng.integers(2, size=200)
    >>> memorised, noise = np.eye(2)[y] + 0.1 * rng.normal(size=(200, 2)), rng.normal(size=(200, 2))
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     found = leak_alarm_features({"face": memorised}, y, None, {"face": noise}, new)
    >>> [leak.modality for leak in found]
    ['face']
    """
    if set(blocks) != set(new_blocks):
        raise DataError(f"blocks are {', '.join(blocks)}; new blocks are {', '.join(new_blocks)}")
    y, y_new = np.asarray(y), np.asarray(y_new)
    judged = []
    for name, X in blocks.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        X, X_new = np.asarray(X, dtype=float), np.asarray(new_blocks[name], dtype=float)
        splitter = StratifiedKFold(folds) if groups is None else GroupKFold(folds)
        promised = cross_val_predict(model, X, y, groups=groups, cv=splitter) == y
        kept = model.fit(X, y).predict(X_new) == y_new
        judged.append(_judge(name, promised, kept))
    return _raise_alarm(judged)


def _hits(P: Array, y: Columns) -> list[Array]:
    """For every modality, whether its first label is right in each row where it is present."""
    return [right[here] for right, here in zip(hits(P, y).T, present(P).T, strict=True)]


def _judge(name: str, fit: Array, held_out: Array) -> Leak:
    """Accuracies and the p-value of "not more than the tolerance better on the rows to learn from" (score test)."""
    if len(fit) == 0 or len(held_out) == 0:
        return Leak(name, float("nan"), float("nan"), 1.0)
    # One row right and one wrong more, so that 100 % of few rows proves little (Agresti & Caffo 2000).
    a, b = ((right.sum() + 1) / (len(right) + 2) for right in (fit, held_out))
    error = np.sqrt(a * (1 - a) / (len(fit) + 2) + b * (1 - b) / (len(held_out) + 2))
    return Leak(name, float(fit.mean()), float(held_out.mean()), float(norm.sf((a - b - TOLERANCE) / error)))


def _raise_alarm(judged: list[Leak]) -> list[Leak]:
    leaks = [leak for leak in judged if leak.p_value < LEVEL / len(judged)]
    for leak in leaks:
        warnings.warn(str(leak), LeakWarning, stacklevel=3)
    return leaks
