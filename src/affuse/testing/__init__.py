"""What tests of affuse and of third parties stand on: a fake expert, and the contracts of experts and fusers."""

from __future__ import annotations

from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from affuse.experts.base import Expert, ExpertOutput
from affuse.labels import EKMAN, LabelSpace
from affuse.media import Recording
from affuse.timeline import Segment, Timeline

__all__ = ["FakeExpert", "check_expert", "check_fuser"]


class FakeExpert:
    """An expert that answers what it was told, needs no weights, and reads the recording no further than its headers.

    ``answers`` maps a label to its probability; the rest is shared evenly. Windows in ``silent`` (indices) have no
    evidence.
    """

    labels: LabelSpace = EKMAN

    def __init__(
        self,
        modality: str,
        answers: dict[str, float],
        silent: Sequence[int] = (),
        reason: str = "told to be silent",
        persons: Sequence[str | None] = (None,),
    ) -> None:
        self.name = f"fake-{modality}"
        self.modality = modality
        self.answers = answers
        self.silent = silent
        self.reason = reason
        self.persons = persons

    def read(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        """The same reading for every person."""
        return [self._reading(person, timeline) for person in self.persons]

    def predict(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """The told probabilities (n, 7), NaN in silent windows."""
        return self.read(recording, timeline)[0].probabilities

    def _reading(self, person: str | None, timeline: Timeline) -> ExpertOutput:
        rest = (1 - sum(self.answers.values())) / (len(self.labels) - len(self.answers))
        P = np.tile([self.answers.get(label, rest) for label in self.labels.labels], (len(timeline), 1))
        silent = np.isin(np.arange(len(timeline)), self.silent)
        P[silent] = np.nan
        reasons = tuple(self.reason if quiet else "" for quiet in silent)
        if person is None:
            return ExpertOutput(P, reasons)
        boxes = np.tile([0.3, 0.2, 0.3, 0.4], (len(timeline), 1))
        return ExpertOutput(P, reasons, person=person, times=timeline.starts, boxes=boxes)


def check_expert(expert: Expert, recording: Recording, timeline: Timeline) -> None:
    """Assert the contract of experts on one recording.

    Rows sum to 1 or are NaN with a reason; every reading covers the timeline; asking twice and asking for one window
    at a time give the same numbers; a recording without any media gives a reading without evidence.
    """
    assert isinstance(expert, Expert), f"{expert!r} lacks name, modality, labels, read or predict"
    readings = expert.read(recording, timeline)
    assert readings, "read must return at least one reading"
    for reading in readings:
        _check_reading(reading, len(timeline), len(expert.labels))
    again = expert.predict(recording, timeline)
    np.testing.assert_array_equal(again, readings[0].probabilities, err_msg="asked twice, the answers differ")
    nothing = expert.read(Recording.from_text("."), Timeline((Segment(0.0, 1.0),)))
    _check_reading(nothing[0], 1, len(expert.labels))


def _check_reading(reading: ExpertOutput, n: int, k: int) -> None:
    P = reading.probabilities
    assert P.shape == (n, k), f"expected probabilities of shape ({n}, {k}); got {P.shape}"
    assert len(reading.reasons) == n, f"expected {n} reasons; got {len(reading.reasons)}"
    gaps = np.isnan(P)
    assert (gaps.any(axis=1) == gaps.all(axis=1)).all(), "a row without evidence must be NaN throughout"
    spoken = ~gaps.any(axis=1)
    np.testing.assert_allclose(P[spoken].sum(axis=1), 1.0, atol=1e-5, err_msg="rows must sum to 1")
    assert (P[spoken] >= 0).all(), "probabilities must not be negative"
    for i, reason in enumerate(reading.reasons):
        assert bool(reason) != bool(spoken[i]), f"window {i}: a reason belongs exactly where there is no evidence"


def check_fuser(fuser: Any, n_classes: int = 4, seed: int = 0) -> None:
    """Assert the contract of fusers: clone, gaps, labels, order of modalities, batch = one by one.

    The way to disk and back is tested as well. ``fuser`` is an unfitted estimator over P (n, m, k) that is not tied
    to a number of modalities or classes. Raises AssertionError that names the broken rule.
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
