"""Measures against scikit-learn and numbers by hand."""

import numpy as np
import pytest
from sklearn import metrics as reference

from affuse.errors import DataError
from affuse.evaluation import classification_report, expected_calibration_error


def test_report_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(4), size=200)
    targets = rng.integers(4, size=200)
    answers = P.argmax(axis=1)
    report = classification_report(P, targets, list("abcd"))
    assert report["n"] == 200
    assert report["accuracy"] == pytest.approx(reference.accuracy_score(targets, answers))
    assert report["uar"] == pytest.approx(reference.balanced_accuracy_score(targets, answers))
    assert report["macro_f1"] == pytest.approx(reference.f1_score(targets, answers, average="macro"))
    assert report["weighted_f1"] == pytest.approx(reference.f1_score(targets, answers, average="weighted"))
    assert report["confusion"] == reference.confusion_matrix(targets, answers).tolist()


def test_labels_that_never_occur_do_not_count_as_failures() -> None:
    report = classification_report(np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]), np.array([0, 1]), list("abc"))
    assert report["macro_f1"] == 1.0
    assert report["uar"] == 1.0


def test_calibration_error_by_hand() -> None:
    # Bin of 0.6: two rows, one right: gap 0.1. Bin of 0.9: two rows, both right: gap 0.1. Mean over four rows: 0.1.
    P = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    assert expected_calibration_error(P, np.array([0, 1, 0, 0])) == pytest.approx(0.1)


def test_certain_and_right_is_perfectly_calibrated() -> None:
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0.0


def test_report_names_both_shapes() -> None:
    with pytest.raises(DataError, match=r"shape \(1, 2\); got \(1, 3\)"):
        classification_report(np.ones((1, 3)) / 3, np.array([0]), ["a", "b"])
