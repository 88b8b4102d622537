"""Measures of classification and calibration as pure functions; each docstring is the definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from affuse.errors import DataError

__all__ = ["classification_report", "confusion_matrix", "expected_calibration_error", "f1_scores", "recalls"]


def confusion_matrix(targets: np.ndarray, answers: np.ndarray, n_classes: int) -> np.ndarray:
    """Count rows by true label (row) and answered label (column): (k, k) from targets (n,) and answers (n,)."""
    counts = np.zeros((n_classes, n_classes), dtype=int)
    np.add.at(counts, (targets, answers), 1)
    return counts


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Share of every true label's rows that was answered rightly (k,); NaN for labels that do not occur."""
    totals = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), totals, out=np.full(len(totals), np.nan), where=totals > 0)


def f1_scores(confusion: np.ndarray) -> np.ndarray:
    """F1 of every label (k,): 2 TP / (2 TP + FP + FN); 0 for labels that neither occur nor are answered."""
    hits = np.diag(confusion)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.divide(2.0 * hits, total, out=np.zeros(len(hits)), where=total > 0)


def expected_calibration_error(P: np.ndarray, targets: np.ndarray, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equally wide bins (Guo et al. 2017, arXiv:1706.04599).

    Confidence is the largest probability of a row of P (n, k); a bin counts by its rows.
    """
    confidence, hits = P.max(axis=1), P.argmax(axis=1) == targets
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[index == b].sum() - hits[index == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(targets))


def classification_report(P: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """All measures of one evaluation as a dict that JSON can hold.

    P (n, k) without NaN, targets (n,). Keys: n, accuracy, uar (unweighted average recall over the labels that occur),
    macro_f1 (over all labels that occur or are answered), weighted_f1 (by true label), ece, labels, confusion.
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
