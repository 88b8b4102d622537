"""Fusers that learn: what they find where the truth is known, gaps, labels that do not occur, other classifiers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, LinearSVC

from affuse.errors import ConfigError, DataError
from affuse.fusion import GatedFusion, MeanRule, OptimizedWeights, Stacking
from affuse.fusion.dynamic import centred_logits, confidence_features
from affuse.fusion.learned import _fit_gate, _log_gate
from affuse.testing import check_fuser


def simulated(n: int = 600, seed: int = 0, skill: tuple[float, ...] = (1.0, 2.0)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=n)
    L = rng.normal(size=(n, len(skill), 3))
    L[np.arange(n)[:, None], np.arange(len(skill)), y[:, None]] += np.array(skill)
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


def test_stacking_is_its_classifier_on_log_probabilities() -> None:
    P, y = simulated()
    P[::4, 0] = np.nan
    features = np.concatenate([centred_logits(P).reshape(len(P), -1), np.isnan(P[:, :, 0])], axis=1)
    assert (features[0, :3] == 0).all(), "a gap is 0"
    assert features[0, 6:].tolist() == [1, 0], "and has its indicator"
    reference = LogisticRegression(C=0.1, max_iter=1000).fit(features, y).predict_proba(features)
    np.testing.assert_allclose(Stacking().fit(P, y).predict_proba(P), reference)


def test_centred_logits_by_hand() -> None:
    # log 0.8 and log 0.2 differ by log 4, so they are ± log 2 around their mean.
    np.testing.assert_allclose(centred_logits(np.array([[[0.8, 0.2]]])), [[[np.log(2), -np.log(2)]]])


def test_confidence_features_by_hand() -> None:
    features = confidence_features(np.array([[[0.8, 0.2], [0.5, 0.5], [np.nan, np.nan]]]))[0]
    entropy = -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2))
    np.testing.assert_allclose(features[0], [np.log(2), np.log(4), np.log(2.5), entropy])
    np.testing.assert_allclose(features[1], [0, 0, np.log(2), 1])
    assert (features[2] == 0).all()


@pytest.mark.parametrize(
    "classifier",
    [
        SVC(),
        LinearSVC(),
        RandomForestClassifier(20, random_state=0),
        MLPClassifier((8,), solver="lbfgs", random_state=0),
    ],
    ids=["svm", "linear-svm", "forest", "network"],
)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # a network of few steps fuses well enough
def test_stacking_takes_any_classifier(classifier: object) -> None:
    P, y = simulated(300)
    new, truth = simulated(300, seed=1)
    fuser = Stacking(classifier).fit(P, y)
    fused = fuser.predict_proba(new)
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    assert (fuser.predict(new) == truth).mean() > 0.65, "the better expert alone is right in about 0.75"
    new[0] = np.nan
    assert np.isnan(fuser.predict_proba(new)[0]).all()


def test_stacking_gives_nothing_to_labels_that_it_never_saw() -> None:
    P, y = simulated()
    seen = y != 1
    fused = Stacking().fit(P[seen], y[seen]).predict_proba(P)
    assert (fused[:, 1] == 0).all()
    with pytest.raises(DataError, match="at least two labels"):
        Stacking().fit(P[y == 0], y[y == 0])


def test_optimized_weights_are_the_best_of_all_mixtures() -> None:
    P, y = simulated(400, skill=(0.5, 1.5, 2.5))
    fuser = OptimizedWeights(penalty=1e-6).fit(P, y)
    likelihood = P[np.arange(len(y)), :, y]
    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    best = minimize(
        lambda w: -np.log(likelihood @ w).mean(), np.full(3, 1 / 3), bounds=[(1e-9, 1)] * 3, constraints=simplex
    )
    np.testing.assert_allclose(fuser.weights_, best.x, atol=5e-3)
    np.testing.assert_allclose(fuser.predict_proba(P), np.einsum("m,nmk->nk", fuser.weights_, P))


def test_penalties_pull_towards_equal_weights() -> None:
    P, y = simulated(skill=(0.0, 3.0))
    np.testing.assert_allclose(OptimizedWeights(penalty=1e9).fit(P, y).weights_, [0.5, 0.5], atol=1e-4)
    assert OptimizedWeights().fit(P, y).weights_[1] > 0.9
    even = GatedFusion(penalty=1e9).fit(P, y)
    np.testing.assert_allclose(even.weights(P), 0.5, atol=1e-4)
    for fuser in (OptimizedWeights(penalty=0), GatedFusion(penalty=-1)):
        with pytest.raises(ConfigError, match="penalty must be above 0"):
            fuser.fit(P, y)


def test_the_gate_listens_to_whoever_knows_in_this_row() -> None:
    # Each expert knows half of the rows and is then sure; in the others it is honest about knowing little.
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=1000)
    knows = rng.random((1000, 2)) < 0.5
    L = rng.normal(scale=0.3, size=(1000, 2, 3))
    L[np.arange(1000)[:, None], np.arange(2), y[:, None]] += np.where(knows, 4.0, 0.0)
    P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    fuser = GatedFusion().fit(P[:500], y[:500])
    weights = fuser.weights(P[500:])
    only_first = knows[500:, 0] & ~knows[500:, 1]
    assert (weights[only_first, 0] > 0.8).mean() > 0.95
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    gated = -np.log(fuser.predict_proba(P[500:])[np.arange(500), y[500:]]).mean()
    mean = -np.log(MeanRule().fit(P[:500], y[:500]).predict_proba(P[500:])[np.arange(500), y[500:]]).mean()
    assert gated < 0.7 * mean


def test_the_gates_slope_is_that_of_its_loss() -> None:
    rng = np.random.default_rng(0)
    X, likelihood = rng.normal(size=(30, 4)), rng.random((30, 3))
    here = rng.random((30, 3)) < 0.7
    here[:, 0] |= ~here.any(axis=1)
    likelihood = np.where(here, likelihood, 0.0)
    found = _fit_gate(X, likelihood, here, penalty=2.0)

    def loss(flat: np.ndarray) -> float:
        weights = np.exp(_log_gate(X, flat.reshape(3, 4), here))
        return -np.log((weights * likelihood).sum(axis=1)).sum() + (flat**2).sum()

    assert check_grad(loss, lambda flat: np.zeros(12), found.ravel()) < 1e-2, "at the minimum the slope is zero"


def test_the_gate_gives_nothing_to_gaps() -> None:
    P, y = simulated()
    P[::3, 0] = np.nan
    P[5] = np.nan
    weights = GatedFusion().fit(P, y).weights(P)
    assert (weights[np.isnan(P[:, :, 0])] == 0).all()
    np.testing.assert_allclose(np.delete(weights, 5, axis=0).sum(axis=1), 1)


@pytest.mark.parametrize("fuser", [GatedFusion(), OptimizedWeights(), Stacking()])
def test_learned_fusers_beat_the_best_expert_where_there_is_something_to_win(fuser: object) -> None:
    P, y = simulated(2000, skill=(1.5, 1.5, 1.5))
    new, truth = simulated(2000, seed=1, skill=(1.5, 1.5, 1.5))
    best = max((new[:, j].argmax(axis=1) == truth).mean() for j in range(3))
    assert (fuser.fit(P, y).predict(new) == truth).mean() > best + 0.05  # type: ignore[attr-defined]


def test_two_classes_and_one_modality_are_enough() -> None:
    check_fuser(Stacking(), n_classes=2)
    check_fuser(GatedFusion(), n_classes=2)
    P, y = simulated(skill=(2.0,))
    for fuser in (GatedFusion(), OptimizedWeights(), Stacking()):
        assert (fuser.fit(P, y).predict(P) == y).mean() > 0.7
