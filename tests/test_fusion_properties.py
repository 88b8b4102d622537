"""Properties that every fusion rule keeps, whatever the experts say; and own label spaces of 2 to 12 labels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from affuse.errors import ConfigError
from affuse.fusion import NamedFuser, registry
from affuse.fusion.priors import Prior

NAMES = sorted(registry.BUILT_IN)
M, K = 3, 4

FIXED = (
    "borda", "confidence_vote", "discounted", "entropy", "max", "mean", "median", "min", "product", "vote", "weighted"
)  # fmt: skip
"""Rules that learn nothing but label frequencies."""

RETURNS_ITSELF = ("discounted", "entropy", "max", "mean", "median", "min", "optimized", "pdf", "performance", "product")
"""Rules whose definition gives back the only modality that is present; votes, temperatures and discounts do not."""

KEEPS_UNANIMOUS = (
    *FIXED, "common_cause", "dempster_shafer", "energy", "gated", "log_pool", "optimized", "pdf", "performance",
    "weighted_vote",
)  # fmt: skip
"""Rules that cannot turn around what all say alike; those that learn class by class may, knowing better."""

CHOOSES = ("auto", "safe")
"""Their choice rests on a test, whose outcome may hang on the folds, which permuted rows do not change."""


def rows(n: int = 72, m: int = M, k: int = K, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Experts of growing skill, every label equally often: P (n, m, k) and y (n,)."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    L = rng.normal(size=(n, m, k))
    L[np.arange(n)[:, None], np.arange(m), y[:, None]] += 1.0 + np.arange(m)
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


SMALL = {"auto": {"families": ("pool", "log_pool"), "folds": 2}, "classwise": {"folds": 2}, "safe": {"folds": 2}}
"""Parameters with which fusers that cross-validate are quick."""


@cache
def fitted(name: str, m: int = M, labels: tuple[int, ...] = tuple(range(K)), modalities: tuple[int, ...] = ()) -> Any:
    """A fuser fitted on `rows`, whose labels and modalities may be permuted."""
    P, y = rows(m=m)
    order = list(modalities) or list(range(m))
    return registry.make(name, **SMALL.get(name, {})).fit(P[:, order][:, :, list(labels)], np.argsort(labels)[y])


@st.composite
def predictions(draw: st.DrawFn, m: int = M, k: int = K, gaps: bool = True) -> np.ndarray:
    """P (3, m, k) without ties between labels, rows of modalities missing at random."""
    scores = draw(arrays(np.float64, (3, m, k), elements=st.floats(0.0, 1.0)))
    scores = (
        scores + 1e-3 * (1 + np.arange(3 * m * k).reshape(3, m, k) % 7) + 1e-5 * np.arange(3 * m * k).reshape(3, m, k)
    )
    P = scores / scores.sum(axis=2, keepdims=True)
    if gaps:
        P[draw(arrays(np.bool_, (3, m)))] = np.nan
    return P


def quick(test: Any) -> Any:
    """Few examples: a fuser answers in well under a millisecond, but there are two dozens of them."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=checks)(test)


@pytest.mark.parametrize("name", NAMES)
@quick
@given(P=predictions())
def test_rows_sum_to_one_and_are_nan_only_without_any_evidence(name: str, P: np.ndarray) -> None:
    fuser = fitted(name)
    fused = fuser.predict_proba(P)
    silent = np.isnan(P).all(axis=(1, 2))
    assert np.isnan(fused[silent]).all()
    assert (fused[~silent] >= 0).all()
    np.testing.assert_allclose(fused[~silent].sum(axis=1), 1.0, atol=1e-9)
    assert (fuser.predict(P)[~silent] == fused[~silent].argmax(axis=1)).all()


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(CHOOSES)))
@quick
@given(P=predictions(), labels=st.sampled_from([(3, 0, 1, 2)]))
def test_names_and_order_of_labels_do_not_matter(name: str, P: np.ndarray, labels: tuple[int, ...]) -> None:
    expected = fitted(name).predict_proba(P)[:, list(labels)]
    found = fitted(name, labels=labels).predict_proba(P[:, :, list(labels)])
    np.testing.assert_allclose(found, expected, atol=2e-3)  # what is found by an optimiser ends within its tolerance


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(CHOOSES)))
@quick
@given(P=predictions(), order=st.sampled_from([(2, 0, 1)]))
def test_the_order_of_modalities_does_not_matter(name: str, P: np.ndarray, order: tuple[int, ...]) -> None:
    found = fitted(name, modalities=order).predict_proba(P[:, list(order)])
    np.testing.assert_allclose(found, fitted(name).predict_proba(P), atol=2e-3)


@pytest.mark.parametrize("name", FIXED)
@quick
@given(P=predictions(m=2))
def test_a_modality_that_is_missing_throughout_changes_nothing(name: str, P: np.ndarray) -> None:
    wider = np.concatenate([P, np.full((len(P), 1, K), np.nan)], axis=1)
    np.testing.assert_allclose(fitted(name).predict_proba(wider), fitted(name, m=2).predict_proba(P), atol=1e-9)


@pytest.mark.parametrize("name", RETURNS_ITSELF)
@quick
@given(P=predictions(gaps=False), only=st.integers(0, M - 1))
def test_a_single_modality_is_the_answer(name: str, P: np.ndarray, only: int) -> None:
    alone = np.full_like(P, np.nan)
    alone[:, only] = P[:, only]
    np.testing.assert_allclose(fitted(name).predict_proba(alone), P[:, only], atol=1e-5)


@pytest.mark.parametrize("name", sorted(KEEPS_UNANIMOUS))
@quick
@given(P=predictions(m=1, gaps=False))
def test_what_all_say_alike_keeps_its_label(name: str, P: np.ndarray) -> None:
    unanimous = np.repeat(P, M, axis=1)
    assert (fitted(name).predict(unanimous) == P[:, 0].argmax(axis=1)).all()


@quick
@given(P=predictions())
def test_a_partial_answer_is_that_without_the_others(P: np.ndarray) -> None:
    keep = np.array([True, False, True])
    masked = np.where(keep[:, None], P, np.nan)
    for name in set(NAMES) - set(CHOOSES):  # those keep the model that answers the whole row
        np.testing.assert_array_equal(fitted(name).partial_proba(P, keep), fitted(name).predict_proba(masked))


OWN_LABELS = (
    "engaged", "frustrated", "bored", "confused", "curious", "proud", "tired", "calm", "amused", "anxious", "relieved",
    "hopeful",
)  # fmt: skip


@pytest.mark.parametrize("k", [2, 5, 12])
@pytest.mark.parametrize("name", sorted(set(NAMES) - set(CHOOSES)))
def test_every_fuser_takes_labels_of_ones_own(name: str, k: int) -> None:
    P, y = rows(n=8 * k, m=2, k=k)
    P[::5, 1] = np.nan
    names = np.array(sorted(OWN_LABELS[:k]))
    fuser = registry.make(name, **SMALL.get(name, {})).fit(P, names[y])
    assert fuser.classes_.tolist() == names.tolist()
    fused = fuser.predict_proba(P)
    np.testing.assert_allclose(fused.sum(axis=1), 1.0)
    assert (fuser.predict(P) == names[y]).mean() > 1.5 / k


@pytest.mark.parametrize("k", [2, 12])
@pytest.mark.parametrize("name", CHOOSES)
def test_fusers_that_choose_take_labels_of_ones_own(name: str, k: int) -> None:
    P, y = rows(n=8 * k, m=2, k=k)
    names = np.array(sorted(OWN_LABELS[:k]))
    fuser = registry.make(name, **SMALL[name]).fit(P, names[y])
    np.testing.assert_allclose(fuser.predict_proba(P).sum(axis=1), 1.0)
    assert fuser.describe_choice(("face", "voice"))


@pytest.mark.parametrize("k", [2, 3, 6, 12])
def test_a_named_fuser_holds_labels_of_ones_own(k: int, tmp_path: Path) -> None:
    labels = OWN_LABELS[:k]  # not in alphabetical order
    P, y = rows(n=6 * k, m=2, k=k)
    persons = np.arange(len(y)) % 5
    written = NamedFuser(registry.make("random_effects").fit(P, y, persons), ("face", "voice"), labels)
    written.write(tmp_path)
    named = NamedFuser.read(tmp_path)
    assert (named.labels, named.modalities) == (labels, ("face", "voice"))
    fused = named.fuse(P[:, ::-1], ["voice", "face"])
    np.testing.assert_array_equal(fused, written.fuser.predict_proba(P))
    np.testing.assert_allclose(named.fuse(P[:, :1], ["face"]).sum(axis=1), 1.0)
    assert named.alone(P, ["face", "voice"]).shape == P.shape
    assert named.shares(P, ["face", "voice"], fused.argmax(axis=1)).shape == P.shape[:2]
    assert named.default_prior.labels == labels
    moved = named.fuse(P, ["face", "voice"], Prior.find(None, labels).frequencies)
    np.testing.assert_allclose(moved.sum(axis=1), 1.0)
    assert named.adapt(P, ["face", "voice"]).adapted["n"] == len(P)
    wider = named.with_modality("gaze")
    np.testing.assert_allclose(wider.fuse(P[:, :1], ["gaze"]), P[:, 0])
    with pytest.raises(ConfigError, match="have no place among"):
        named.over_emotions()
    with pytest.raises(ConfigError, match="take uniform or a file"):
        Prior.find("dialogue", labels)
