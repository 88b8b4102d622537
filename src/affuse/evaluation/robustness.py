"""How accuracy falls as the input gets worse: the same rows, clean and under damage of rising strength."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from affuse.errors import DataError
from affuse.evaluation.intervals import cluster_bootstrap
from affuse.evaluation.metrics import confusion_matrix, recalls

__all__ = ["CLEAN", "Damage", "Point", "largest_loss", "robustness_curves"]

CLEAN = "clean"
"""Kind of the first point: the rows as they are."""


@dataclass(frozen=True)
class Damage:
    """One condition: ``change`` takes all inputs and gives the damaged ones in the same order.

    Damages of one ``kind`` make up a curve, in the order given; ``level`` says how strong in words, such as "10 dB".
    """

    kind: str
    level: str
    change: Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Point:
    """Accuracy, its 95 % interval by groups and the unweighted average recall under one condition."""

    kind: str
    level: str
    n: int
    accuracy: float
    ci95: tuple[float, float]
    uar: float


def robustness_curves(
    classify: Callable[[Sequence[Any]], np.ndarray],
    inputs: Sequence[Any],
    targets: np.ndarray,
    groups: np.ndarray,
    damages: Sequence[Damage],
) -> list[Point]:
    """Accuracy on clean rows and under every damage: the network and the rows are always the same.

    Parameters
    ----------
    classify : callable
        From inputs to probabilities (n, k).
    inputs : sequence of length n
        What is classified.
    targets : array of int, shape (n,)
        Column of the right label.
    groups : array of shape (n,)
        Speakers or pictures, for the intervals.
    damages : sequence of Damage
        Conditions.

    Returns
    -------
    list of Point
        One for the clean rows, then one for each damage.

    Raises
    ------
    DataError
        If an answer or a damaged input does not fit the rows.
    """
    points = []
    for damage in (Damage(CLEAN, "", lambda rows: rows), *damages):
        P = classify(damage.change(inputs))
        if P.ndim != 2 or len(P) != len(targets):
            raise DataError(f"{damage.kind} {damage.level}: expected {len(targets)} answers; got an array {P.shape}")
        hits = P.argmax(axis=1) == targets
        uar = float(np.nanmean(recalls(confusion_matrix(targets, P.argmax(axis=1), P.shape[1]))))
        interval = cluster_bootstrap(hits, groups)
        points.append(Point(damage.kind, damage.level, len(targets), float(hits.mean()), interval, uar))
    return points


def largest_loss(points: Sequence[Point], kind: str) -> float:
    """Accuracy of the clean rows less that of the worst point of one kind of damage.

    Parameters
    ----------
    points : sequence of Point
        From `robustness_curves`.
    kind : str
        Kind of damage.

    Returns
    -------
    float
        0…1.

    Raises
    ------
    DataError
        If there are no clean rows, or none of that kind.
    """
    clean = [p.accuracy for p in points if p.kind == CLEAN]
    damaged = [p.accuracy for p in points if p.kind == kind]
    if not clean or not damaged:
        known = ", ".join(dict.fromkeys(p.kind for p in points))
        raise DataError(f"no point of {kind if clean else CLEAN!r}; there are: {known}")
    return clean[0] - min(damaged)
