"""The contract of fusers."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

__all__ = ["check_fuser"]


def check_fuser(fuser: Any, n_classes: int = 4, seed: int = 0) -> None:
    """Assert the contract of fusers: clone, gaps, labels, order of modalities, batch = one by one, disk and back.

    Parameters
    ----------
    fuser : estimator
        Not fitted, over P (n, m, k), and not tied to a number of modalities or classes.
    n_classes : int
        How many classes it is tried with.
    seed : int
        Of the simulated rows.

    Raises
    ------
    AssertionError
        If a rule of the contract is broken; the message names it.

    Examples
    --------
    >>> from affuse.fusion import MeanRule
    >>> check_fuser(MeanRule())
    """
    from sklearn.base import clone

    P, y = _simulated_experts(n_classes, seed)
    P.flags.writeable = False  # whoever writes to its input fails here
    fitted = clone(fuser).fit(P, y)
    assert list(fitted.classes_) == list(range(n_classes)), "classes_ must be the columns of P"
    fused = fitted.predict_proba(P)
    assert fused.shape == (len(P), n_classes), f"expected {(len(P), n_classes)}; got {fused.shape}"
    np.testing.assert_allclose(fused.sum(axis=1), 1.0, atol=1e-8, err_msg="rows must sum to 1")
    assert (fused >= 0).all(), "probabilities must not be negative"
    _check_gaps(fitted, P)
    _check_labels(fuser, fitted, P, y)
    one_by_one = np.concatenate([fitted.predict_proba(P[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(fused[:20], one_by_one, atol=1e-10, err_msg="a batch must equal its rows one by one")
    turned = clone(fuser).fit(P[:, ::-1], y).predict_proba(P[:, ::-1])
    np.testing.assert_allclose(fused, turned, atol=2e-3, err_msg="the order of modalities must not matter")
    again = clone(fuser).fit(P, y).predict_proba(P)
    np.testing.assert_array_equal(fused, again, err_msg="fitting twice on the same rows must give the same answers")
    _check_fit_with_gaps(fuser, P, y, seed)
    _check_round_trip(fitted, P)


def _simulated_experts(n_classes: int, seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=n - n_classes)])
    L = rng.normal(size=(n, 3, n_classes))
    L[np.arange(n)[:, None], np.arange(3), y[:, None]] += np.array([1.0, 1.5, 2.0])
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


def _check_gaps(fitted: Any, P: np.ndarray) -> None:
    for j in range(P.shape[1]):
        gap = P[:10].copy()
        gap[:, j] = np.nan
        assert np.isfinite(fitted.predict_proba(gap)).all(), f"without modality {j} every row must still be answered"
    alone = P[:10].copy()
    alone[:, 1:] = np.nan
    assert np.isfinite(fitted.predict_proba(alone)).all(), "a single modality must be answered"
    silent = fitted.predict_proba(np.full_like(P[:3], np.nan))
    assert np.isnan(silent).all(), "a row without any evidence must be NaN, not a guess"
    assert len(fitted.predict(np.full_like(P[:3], np.nan))) == 3, "predict must answer rows without evidence too"


def _check_labels(fuser: Any, fitted: Any, P: np.ndarray, y: np.ndarray) -> None:
    from sklearn.base import clone

    np.testing.assert_array_equal(
        fitted.predict(P), fitted.predict_proba(P).argmax(axis=1), err_msg="predict must be the most probable label"
    )
    names = np.array([f"label {i}" for i in range(P.shape[2])])
    named = clone(fuser).fit(P, names[y])
    assert list(named.classes_) == list(names), "labels may be names: sorted, they are the columns of P"
    np.testing.assert_array_equal(
        named.predict(P), names[fitted.predict(P)], err_msg="names of labels must not change the answers"
    )


def _check_fit_with_gaps(fuser: Any, P: np.ndarray, y: np.ndarray, seed: int) -> None:
    from sklearn.base import clone

    gappy = P.copy()
    gappy[np.random.default_rng(seed).random(P.shape[:2]) < 0.5] = np.nan
    fused = clone(fuser).fit(gappy, y).predict_proba(gappy)
    silent = np.isnan(gappy).all(axis=(1, 2))
    assert np.isnan(fused[silent]).all(), "a row without any evidence must be NaN, not a guess"
    assert np.isfinite(fused[~silent]).all(), "with half of the evidence missing every other row must be answered"


def _check_round_trip(fitted: Any, P: np.ndarray) -> None:
    from affuse.fusion.persistence import load, save, untrusted_types

    with TemporaryDirectory() as folder:
        save(fitted, folder)
        again = load(folder, trusted=untrusted_types(folder))  # written a line above, so nothing to distrust
    np.testing.assert_array_equal(
        fitted.predict_proba(P[:20]), again.predict_proba(P[:20]), err_msg="read back from disk, the answers differ"
    )
