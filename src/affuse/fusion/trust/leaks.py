"""The leak alarm.

It warns of outputs that are too good on the rows a fuser is to learn from, because their expert learned from them too.
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
from affuse.fusion.base import Array, Columns, check_probabilities
from affuse.fusion.estimator import columns_of

__all__ = ["Leak", "leak_alarm", "leak_alarm_features"]

# Speakers and videos differ by some points of accuracy without anything being wrong.
TOLERANCE = 0.05
LEVEL = 0.01


@dataclass(frozen=True)
class Leak:
    """One modality that is too good on the rows to learn from.

    Its name, accuracy there and held out, and the p-value.
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
    """Compare every modality's accuracy on the rows to learn from with that on held-out rows; warn of each that leaks.

    P (n, m, k), NaN for gaps; y (n,) as in `Fuser.fit`. A modality leaks where its accuracy is more than 5 points
    higher on the rows to learn from, by a one-sided test of two proportions at 1 % shared by the modalities
    (Bonferroni). Issues one LeakWarning a leak and returns them. Raises DataError where shapes do not fit.
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
    """Compare what cross-validation promises on each block of features with what held-out rows keep; warn of each leak.

    ``blocks`` maps a modality to X (n, d), ``new_blocks`` to the same features of other rows. A logistic regression is
    cross-validated, by groups where given, and then fitted on all rows and asked about the new ones; accuracies are
    compared as in `leak_alarm`. Features that a network made while learning from the labels of these rows promise
    more than they keep.
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
    """For every modality, whether its first label is right in each row where it speaks."""
    here = ~np.isnan(P[:, :, 0])
    return [P[here[:, j], j].argmax(axis=1) == y[here[:, j]] for j in range(P.shape[1])]


def _judge(name: str, fit: Array, held_out: Array) -> Leak:
    """Accuracies and the p-value of "not more than the tolerance better on the rows to learn from" (score test)."""
    if len(fit) == 0 or len(held_out) == 0:
        return Leak(name, float("nan"), float("nan"), 1.0)
    # One row right and one wrong more, so that 100 % of few rows proves little (Agresti & Caffo 2000).
    a, b = ((hits.sum() + 1) / (len(hits) + 2) for hits in (fit, held_out))
    error = np.sqrt(a * (1 - a) / (len(fit) + 2) + b * (1 - b) / (len(held_out) + 2))
    return Leak(name, float(fit.mean()), float(held_out.mean()), float(norm.sf((a - b - TOLERANCE) / error)))


def _raise_alarm(judged: list[Leak]) -> list[Leak]:
    leaks = [leak for leak in judged if leak.p_value < LEVEL / len(judged)]
    for leak in leaks:
        warnings.warn(str(leak), LeakWarning, stacklevel=3)
    return leaks
