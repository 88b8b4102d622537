"""Reliability by class: the maps against scikit-learn and by hand, what cross-validation chooses, few rows, gaps."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from affuse.errors import ConfigError
from affuse.fusion import CalibratedLogPool, ClasswisePool, ProductRule
from affuse.fusion.folds import clustered_error, clusters_of, group_folds
from affuse.fusion.reliability import MOST_SETS, _fit_map, _logits, _Rows, _Settings, sets_of

K = 4


def simulated(
    n: int = 2000,
    seed: int = 0,
    skill: tuple[tuple[float, ...], ...] = ((3, 0, 1, 1), (0, 3, 1, 1)),
    noise: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Experts whose skill depends on the label: P (n, m, 4) and labels (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(K, size=n)
    L = rng.normal(size=(n, len(skill), K)) * noise
    for j, by_class in enumerate(skill):
        L[np.arange(n), j, y] += np.array(by_class)[y]
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


# Folds


def test_folds_are_those_of_scikit_learn_where_sizes_differ() -> None:
    groups = np.repeat(np.arange(7), [3, 8, 5, 13, 2, 21, 1])
    ours = {tuple(np.flatnonzero(held_out)) for _, held_out in group_folds(groups, 3)}
    theirs = {tuple(held_out) for _, held_out in GroupKFold(3).split(groups, groups, groups)}
    assert ours == theirs


def test_no_group_is_split_and_every_row_is_held_out_once() -> None:
    groups = np.random.default_rng(0).integers(9, size=100)
    held = np.zeros(100)
    for learned, held_out in group_folds(groups, 4):
        assert not set(groups[learned]) & set(groups[held_out])
        assert (learned ^ held_out).all()
        held += held_out
    assert (held == 1).all()
    assert len(list(group_folds(np.array([5, 5, 9]), 5))) == 2


def test_clusters_are_numbers_and_rows_alone_where_there_are_no_groups() -> None:
    np.testing.assert_array_equal(clusters_of(np.array(["b", "a", "b"]), 3), [1, 0, 1])
    np.testing.assert_array_equal(clusters_of(None, 3), [0, 1, 2])


def test_the_clustered_error_of_single_rows_is_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert clustered_error(values, np.arange(50)) == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    assert clustered_error(values, np.zeros(50, dtype=int)) == np.inf


# The map


def test_distinct_rows_are_counted() -> None:
    P = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]], [[1.0, 0.0]]])
    rows = _Rows.of(P, np.array([0, 1, 1, 0]))
    found = {tuple(p.ravel()): tuple(c) for p, c in zip(rows.P, rows.Y, strict=True)}
    assert found == {(1.0, 0.0): (2.0, 1.0), (0.0, 1.0): (0.0, 1.0)}


@pytest.mark.parametrize("products", [False, True])
def test_without_a_pull_the_map_is_logistic_regression(products: bool) -> None:
    # With next to no penalty both find the likelihood's maximum over log-probabilities and probabilities.
    P, y = simulated(3000)
    settings = _Settings(0.05, 1e-3, products)
    log_prior = np.log(np.full(K, 1 / K))
    found = _fit_map(_Rows.of(P, y), settings, log_prior)
    flat = P.reshape(len(P), -1)
    X = [np.log(flat * 0.95 + 0.05 / K), flat]
    if products:
        X += [flat**2, (P[:, 0, :, None] * P[:, 1, None, :]).reshape(len(P), -1)]
    model = LogisticRegression(C=1e4, max_iter=5000).fit(np.hstack(X), y)
    ours = _logits(P, found, settings.floor)
    ours -= np.log(np.exp(ours).sum(axis=1, keepdims=True))
    theirs = model.predict_log_proba(np.hstack(X))
    rows = np.arange(len(y))
    # The last thousandths of a likelihood without a penalty take thousands of steps, and nobody asks for them.
    assert -ours[rows, y].mean() == pytest.approx(-theirs[rows, y].mean(), abs=3e-3)


def test_with_an_endless_pull_the_map_is_the_pool() -> None:
    P, y = simulated()
    pool = ClasswisePool(shrinkage=np.inf, floor=0.01).fit(P, y)
    almost = ClasswisePool(shrinkage=1e12, floor=0.01, products=True).fit(P, y)
    np.testing.assert_allclose(pool.predict_proba(P), almost.predict_proba(P), atol=1e-6)


def test_the_pool_by_hand() -> None:
    P, y = simulated()
    pool = ClasswisePool(shrinkage=np.inf, floor=0.01).fit(P, y)
    p = P[7]
    logs, votes = np.log(p * 0.99 + 0.01 / K), pool.weights_
    logits = (1 - votes[:, 0].sum()) * np.log(pool.prior_) + votes[:, 0] @ logs + K * (votes[:, 1] @ p)
    answer = np.exp(logits) / np.exp(logits).sum()
    doubt = 1 / (len(y) + 2)
    np.testing.assert_allclose(pool.predict_proba(P[7:8])[0], (1 - doubt) * answer + doubt / K)


def test_reliability_by_class_is_found() -> None:
    P, y = simulated(3000)
    new, truth = simulated(3000, seed=1)
    score = ClasswisePool().fit(P, y).score(new, truth)
    assert score > ClasswisePool(shrinkage=np.inf).fit(P, y).score(new, truth) + 0.01
    assert score > CalibratedLogPool().fit(P, y).score(new, truth) + 0.01


def test_one_weight_for_all_classes_is_kept_where_no_more_are_needed() -> None:
    found = [
        ClasswisePool().fit(*simulated(400, seed=seed, skill=((1.5,) * 4, (1.5,) * 4))).shrinkage_ for seed in range(5)
    ]
    assert sum(s == np.inf for s in found) >= 3
    assert min(found) >= 300


def test_zeros_of_votes_are_not_certainties() -> None:
    # Three voters a modality, each right in 60 %: half of the rows have a label that nobody in one modality named.
    rng = np.random.default_rng(0)
    y = rng.integers(K, size=4000)
    right = rng.random((4000, 2, 3)) < 0.6
    said = np.where(right, y[:, None, None], rng.integers(K, size=right.shape))
    P = (said[..., None] == np.arange(K)).mean(axis=2)
    fuser = ClasswisePool().fit(P[:2000], y[:2000])
    assert fuser.floor_ >= 0.05
    votes = P.sum(axis=1).argmax(axis=1)
    assert fuser.score(P[2000:], y[2000:]) >= (votes == y)[2000:].mean()
    answers = fuser.predict_proba(P[2000:])[np.arange(2000), y[2000:]]
    assert -np.log(answers).mean() < 0.65


def test_groups_are_held_out_whole() -> None:
    # Every group has answers of its own that tell its only label: worthless for other groups.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 50)
    y = np.repeat(rng.integers(K, size=24), 50)
    P = np.repeat(rng.dirichlet(np.ones(K), size=(24, 2)), 50, axis=0)
    P = P + rng.random(P.shape) * 1e-4
    P /= P.sum(axis=2, keepdims=True)
    assert ClasswisePool().fit(P, y, groups).shrinkage_ > ClasswisePool().fit(P, y).shrinkage_


@pytest.mark.parametrize("k", [2, 3, 7])
def test_four_rows_make_nobody_certain(k: int) -> None:
    y = np.arange(4) % k
    P = np.full((4, 2, k), 1e-7 / (k - 1))
    P[np.arange(4), :, y] = 1 - 1e-7
    fuser = ClasswisePool()
    fuser.fit(P, y) if len(np.unique(y)) == k else fuser.fit(P, np.minimum(y, k - 1))
    answers = fuser.predict_proba(P)
    assert answers.max() < 0.95
    np.testing.assert_array_equal(answers.argmax(axis=1), y)


def test_one_row_and_one_label_are_enough_to_answer() -> None:
    P, _ = simulated(5)
    for n in (1, 3):
        assert np.isfinite(ClasswisePool().fit(P[:n], np.zeros(n, dtype=int)).predict_proba(P)).all()


# Gaps


def test_a_set_of_modalities_has_the_map_that_it_alone_would_have() -> None:
    P, y = simulated(800, skill=((3, 0, 1, 1), (0, 3, 1, 1), (1, 1, 1, 1)))
    fuser = ClasswisePool(shrinkage=100, floor=0.01, products=False).fit(P, y)
    less = P.copy()
    less[:, 1] = np.nan
    pair = ClasswisePool(shrinkage=100, floor=0.01, products=False).fit(P[:, [0, 2]], y)
    np.testing.assert_allclose(fuser.predict_proba(less), pair.predict_proba(P[:, [0, 2]]), atol=1e-12)


def test_rows_that_lack_a_modality_teach_the_sets_that_they_have() -> None:
    P, y = simulated(800)
    P[:400, 1] = np.nan
    fuser = ClasswisePool(shrinkage=100, floor=0.01, products=False).fit(P, y)
    alone = ClasswisePool(shrinkage=100, floor=0.01, products=False).fit(P[:, :1], y)
    P[:, 1] = np.nan
    np.testing.assert_allclose(fuser.predict_proba(P), alone.predict_proba(P[:, :1]), atol=1e-12)


def test_a_set_that_no_row_had_is_answered_by_the_pool() -> None:
    P, y = simulated(400, skill=((3, 0, 1, 1),) * 2)
    P[:200, 0], P[200:, 1] = np.nan, np.nan  # never both
    fuser = ClasswisePool().fit(P, y)
    both, _ = simulated(50, skill=((3, 0, 1, 1),) * 2)
    answers = fuser.predict_proba(both)
    np.testing.assert_allclose(answers.sum(axis=1), 1)
    assert answers.max() < 1


def test_which_sets_have_a_map() -> None:
    assert len(sets_of(np.ones((1, 4), dtype=bool))) == 15
    rare = np.random.default_rng(0).random((500, 8)) < 0.5
    assert len(sets_of(rare)) <= MOST_SETS + 1 + 8 + 8
    P, y = simulated(300, skill=((1, 1, 1, 1),) * 6)
    P[:100, 2:] = np.nan
    fuser = ClasswisePool().fit(P, y)
    assert len(fuser.sets_) == 1 + 1 + 6 + 6
    P[:, 3:] = np.nan  # a set without a map
    assert np.isfinite(fuser.predict_proba(P)).all()


def test_odd_parameters_are_refused() -> None:
    P, y = simulated(50)
    with pytest.raises(ConfigError, match="shrinkage must be above 0; got 0"):
        ClasswisePool(shrinkage=0).fit(P, y)
    with pytest.raises(ConfigError, match="floor must be above 0 and below 1; got 1"):
        ClasswisePool(floor=1).fit(P, y)
    with pytest.raises(ConfigError, match="folds must be at least 2; got 1"):
        ClasswisePool(folds=1).fit(P, y)


# Time and imports


def test_a_million_rows_take_about_as_long_as_their_product() -> None:
    P, y = simulated(2000, skill=((3, 0, 1, 1), (0, 3, 1, 1), (1, 1, 1, 1)))
    many = np.tile(P, (100, 1, 1))

    def least(fuser: object) -> float:
        times = []
        for _ in range(3):
            started = time.process_time()
            fuser.predict_proba(many)  # type: ignore[attr-defined]
            times.append(time.process_time() - started)
        return min(times)

    # bench/fusion_speed.py holds the exact figure; twice as much is left here for a busy machine.
    assert least(ClasswisePool(100.0, 0.01).fit(P, y)) < 6 * least(ProductRule().fit(P, y))


def test_predicting_needs_neither_scikit_learn_nor_the_optimiser() -> None:
    code = (
        "import sys, affuse.fusion.reliability, affuse.fusion.trust.auto\n"
        "print([m for m in ('sklearn', 'scipy.optimize', 'scipy.stats') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
