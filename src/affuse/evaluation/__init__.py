"""Measures as pure functions, and what is built on them: fair comparison, robustness curves."""

from affuse.evaluation.metrics import (
    classification_report,
    confusion_matrix,
    expected_calibration_error,
    f1_scores,
    recalls,
)

__all__ = ["classification_report", "confusion_matrix", "expected_calibration_error", "f1_scores", "recalls"]
