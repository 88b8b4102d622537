"""Measures of classification and calibration as pure functions; each docstring is the definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from affuse.errors import DataError

__all__ = [
    "classification_report",
    "confusion_matrix",
    "expected_calibration_error",
    "f1_of_true_labels",
    "f1_scores",
    "marks_report",
    "recalls",
    "reliability",
]


def confusion_matrix(targets: np.ndarray, answers: np.ndarray, n_classes: int) -> np.ndarray:
    """Number of rows by true label (row) and answered label (column).

    Parameters
    ----------
    targets : int array of shape (n,)
        Column of the true label.
    answers : int array of shape (n,)
        Column of the answered label.
    n_classes : int
        Number of labels k.

    Returns
    -------
    int array of shape (k, k)

    Examples
    --------
    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    counts = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(counts, (targets, answers), 1)
    return counts


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Share of the rows of every true label that were answered rightly.

    Parameters
    ----------
    confusion : array of shape (k, k)
        From `confusion_matrix`.

    Returns
    -------
    array of shape (k,)
        NaN for labels that do not occur.

    Examples
    --------
    >>> recalls(np.array([[1, 1], [0, 2]]))
    array([0.5, 1. ])
    """
    totals = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """F1 of every label: 2 TP / (2 TP + FP + FN).

    Parameters
    ----------
    confusion : array of shape (k, k)
        From `confusion_matrix`.

    Returns
    -------
    array of shape (k,)
        0 for labels that neither occur nor are answered.

    Examples
    --------
    >>> f1_scores(np.array([[1, 1], [0, 1]])).round(3)
    array([0.667, 0.667])
    """
    hits = np.diag(confusion)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.divide(2.0 * hits, total, out=np.zeros(len(hits)), where=total > 0)


def f1_of_true_labels(confusion: np.ndarray) -> float:
    """Macro F1 over the labels that occur; one that is answered without occurring does not count by itself.

    Examples
    --------
    >>> round(f1_of_true_labels(np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])), 3)
    0.833
    """
    return float(f1_scores(confusion)[confusion.sum(axis=1) > 0].mean())


def expected_calibration_error(P: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equally wide bins of confidence.

    Parameters
    ----------
    P : array of shape (n, k)
        Class probabilities without NaN; the confidence of a row is its largest probability.
    targets : int array of shape (n,)
        Column of the true label.
    bins : int
        Number of bins; each counts by its rows.

    Returns
    -------
    float
        0 (calibrated) to 1.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks, arXiv:1706.04599.

    Examples
    --------
    >>> round(expected_calibration_error(np.array([[0.6, 0.4], [0.6, 0.4]]), np.array([0, 1])), 3)
    0.1
    """
    confidence, hits = P.max(axis=1), P.argmax(axis=1) == targets
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[index == b].sum() - hits[index == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(targets))


def reliability(P: np.ndarray, targets: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """What a reliability diagram shows: confidence and accuracy in equally wide bins of confidence.

    Parameters
    ----------
    P : array of shape (n, k)
        Class probabilities without NaN.
    targets : int array of shape (n,)
        Column of the true label.
    bins : int
        Number of bins; those without rows are left out.

    Returns
    -------
    list of dict
        ``confidence`` (mean), ``accuracy`` and the number ``n`` of rows, a bin each.

    References
    ----------
    DeGroot & Fienberg (1983), The comparison and evaluation of forecasters, doi:10.2307/2987588.

    Examples
    --------
    >>> reliability(np.array([[0.8, 0.2], [0.2, 0.8]]), np.array([0, 0]))
    [{'confidence': 0.8, 'accuracy': 0.5, 'n': 2}]
    """
    confidence, hits = P.max(axis=1), P.argmax(axis=1) == targets
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums = np.bincount(index, confidence, bins), np.bincount(index, hits, bins)
    return [
        {"confidence": float(sums[0][b] / counts[b]), "accuracy": float(sums[1][b] / counts[b]), "n": int(counts[b])}
        for b in np.flatnonzero(counts)
    ]


def classification_report(P: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """All measures of one evaluation as a dict that JSON can hold.

    Parameters
    ----------
    P : array of shape (n, k)
        Class probabilities without NaN.
    targets : int array of shape (n,)
        Column of the true label.
    labels : sequence of k str
        Names of the columns.

    Returns
    -------
    dict
        ``n``, ``accuracy``, ``uar`` (unweighted average recall over the labels that occur), ``macro_f1`` (over all
        labels that occur or are answered), ``weighted_f1`` (by true label), ``ece``, ``labels``, ``confusion``.

    Raises
    ------
    DataError
        If the shapes do not fit together.

    Examples
    --------
    >>> found = classification_report(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), ["sad", "glad"])
    >>> found["accuracy"], found["confusion"]
    (0.5, [[1, 0], [1, 0]])
    """
    if P.shape != (len(targets), len(labels)):
        raise DataError(f"expected P of shape ({len(targets)}, {len(labels)}); got {P.shape}")
    confusion = confusion_matrix(targets, P.argmax(axis=1), len(labels))
    counts = confusion.sum(axis=1)
    seen = (counts + confusion.sum(axis=0)) > 0
    f1 = f1_scores(confusion)
    return {
        "n": len(targets),
        "accuracy": float(np.trace(confusion) / len(targets)),
        "uar": float(np.nanmean(recalls(confusion))),
        "macro_f1": float(f1[seen].mean()),
        "weighted_f1": float((f1 * counts).sum() / counts.sum()),
        "ece": expected_calibration_error(P, targets),
        "labels": list(labels),
        "confusion": confusion.tolist(),
    }


def marks_report(P: np.ndarray, marks: np.ndarray, labels: Sequence[str], languages: Sequence[str]) -> dict[str, Any]:
    """Macro F1 of rows that may show several emotions at once, by language, as a dict that JSON can hold.

    Parameters
    ----------
    P : array of shape (n, k)
        How likely each row shows each emotion; from one half upwards the answer is yes.
    marks : array of int, shape (n, k)
        1 shown, 0 not shown, -1 where nobody was asked.
    labels : sequence of k str
        Names of the emotions.
    languages : sequence of n str
        Language of every row.

    Returns
    -------
    dict
        ``n``; ``macro_f1``, the mean over the languages; and ``languages``: ``n``, ``macro_f1`` (over the emotions that
        annotators of the language were asked for) and ``f1`` by emotion, of each.

    References
    ----------
    Muhammad et al. (2025), SemEval-2025 task 11, track A. arXiv:2503.07269

    Examples
    --------
    >>> found = marks_report(np.array([[0.9], [0.6]]), np.array([[1], [0]]), ["anger"], ["de", "de"])
    >>> round(found["macro_f1"], 3)
    0.667
    """
    of_languages = {}
    for language in dict.fromkeys(languages):
        mine = np.array([name == language for name in languages])
        asked = [k for k in range(len(labels)) if (marks[mine, k] >= 0).all()]
        f1 = {labels[k]: _binary_f1(P[mine, k] >= 0.5, marks[mine, k] == 1) for k in asked}
        of_languages[language] = {"n": int(mine.sum()), "macro_f1": float(np.mean(list(f1.values()))), "f1": f1}
    mean = float(np.mean([found["macro_f1"] for found in of_languages.values()]))
    return {"n": len(P), "macro_f1": mean, "languages": of_languages}


def _binary_f1(answered: np.ndarray, true: np.ndarray) -> float:
    total = answered.sum() + true.sum()
    return float(2 * (answered & true).sum() / total) if total else 0.0
