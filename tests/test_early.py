"""Early fusion: one contract for every estimator, and features that agree with sums done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from affuse.errors import ConfigError, DataError
from affuse.fusion.early import (
    CCAFusion,
    Concatenation,
    ProductFusion,
    SumFusion,
    WeightedConcatenation,
    resolve_blocks,
)

BLOCKS = {"text": slice(0, 6), "audio": slice(6, 10), "video": slice(10, 15)}
FUSERS = {
    "concatenation": Concatenation(BLOCKS),
    "weighted": WeightedConcatenation(BLOCKS),
    "weights given": WeightedConcatenation(BLOCKS, {"text": 3.0, "audio": 1.0, "video": 1.0}),
    "sum": SumFusion(BLOCKS),
    "product": ProductFusion(BLOCKS),
    "sum of principal components": SumFusion(BLOCKS, PCA(4)),
    "cca": CCAFusion(BLOCKS, n_components=3),
    "support vector machine": Concatenation(BLOCKS, SVC(C=0.5)),
    "network": Concatenation(BLOCKS, MLPClassifier((8,), solver="lbfgs", max_iter=2000, random_state=0, alpha=1.0)),
    "forest": Concatenation(BLOCKS, RandomForestClassifier(20, random_state=0)),
}


def simulated(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blocks that know the label (text most) and share a factor: X (n, 15), labels of three, groups of four rows."""
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(3), rng.integers(3, size=n - 3)])
    X = rng.normal(size=(n, 15)) + rng.normal(size=(n, 1)) * np.linspace(0, 1, 15)
    centres = np.random.default_rng(1).normal(size=(3, 15)) * np.repeat([1.2, 0.6, 0.6], [6, 4, 5])
    return (X + centres[y]) * np.linspace(1, 50, 15) + 7, y, np.arange(n) // 4


def check_early_fuser(fuser: Any, n_columns: int, seed: int = 0) -> None:
    """Assert the contract of classifiers over blocks: clone, gaps, labels, order of blocks, batch = one by one."""
    X, y, groups = simulated(seed=seed)
    assert X.shape[1] == n_columns
    X.flags.writeable = False
    fitted = clone(fuser).fit(X, y, groups=groups)
    assert clone(fuser).get_params().keys() == fuser.get_params().keys()
    P = fitted.predict_proba(X)
    assert P.shape == (len(X), 3)
    np.testing.assert_allclose(P.sum(axis=1), 1.0, atol=1e-6)
    assert (P >= 0).all()
    assert fitted.score(X, y) > 0.6, "chance is 0.33"
    check_gaps(fuser, fitted, X, y, groups)
    one_by_one = np.concatenate([fitted.predict_proba(X[i : i + 1]) for i in range(12)])
    np.testing.assert_allclose(P[:12], one_by_one, atol=1e-5)
    again = clone(fuser).fit(X, y, groups=groups)
    np.testing.assert_array_equal(again.predict_proba(X), P, err_msg="fitting twice must give the same answers")
    turned = clone(fuser).set_params(blocks=dict(reversed(fuser.blocks.items()))).fit(X, y, groups=groups)
    np.testing.assert_array_equal(turned.predict_proba(X), P, err_msg="the order of blocks must not matter")
    names = np.array(["angry", "happy", "sad"])
    named = clone(fuser).fit(X, names[y], groups=groups)
    np.testing.assert_array_equal(named.predict(X), names[fitted.predict(X)])


def check_gaps(fuser: Any, fitted: Any, X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> None:
    """Every remaining block is answered from, a row without any is NaN, and its label the most frequent one."""
    for block in fuser.blocks.values():
        gap = X[:8].copy()
        gap[:, block] = np.nan
        assert np.isfinite(fitted.predict_proba(gap)).all(), "two blocks must be answered from"
        alone = np.full_like(X[:8], np.nan)
        alone[:, block] = X[:8, block]
        assert np.isfinite(fitted.predict_proba(alone)).all(), "a single block must be answered from"
    silent = np.full_like(X[:3], np.nan)
    assert np.isnan(fitted.predict_proba(silent)).all(), "a row without any block must be NaN, not a guess"
    assert (fitted.predict(silent) == np.bincount(y).argmax()).all()
    assert len(fitted.predict_proba(X[:0])) == 0
    gappy = X.copy()
    for block in fuser.blocks.values():
        rows = np.random.default_rng(block.start).random(len(X)) < 0.5
        gappy[rows, block] = np.nan
    empty = np.isnan(gappy).all(axis=1)
    P = clone(fuser).fit(gappy, y, groups=groups).predict_proba(gappy)
    assert empty.any()
    np.testing.assert_array_equal(np.isnan(P).all(axis=1), empty)
    never = X.copy()
    never[:, fuser.blocks["audio"]] = np.nan
    without = clone(fuser).fit(never, y, groups=groups)
    np.testing.assert_allclose(
        without.predict_proba(X), without.predict_proba(never), atol=1e-6, err_msg="a block never seen is not used"
    )


@pytest.mark.parametrize("name", FUSERS)
def test_contract(name: str) -> None:
    check_early_fuser(FUSERS[name], 15)


@pytest.mark.parametrize("name", FUSERS)
def test_cross_validation(name: str) -> None:
    X, y, groups = simulated()
    scores = cross_val_score(FUSERS[name], X, y, groups=groups, cv=GroupKFold(3))
    assert scores.mean() > 0.5, "chance is 0.33"


def test_grid_search_reaches_the_classifier() -> None:
    X, y, _ = simulated()
    grid = {"classifier__C": [1e-6, 0.1], "blocks": [{"audio": BLOCKS["audio"]}, BLOCKS]}
    search = GridSearchCV(Concatenation(BLOCKS, LogisticRegression(max_iter=1000)), grid, cv=3).fit(X, y)
    assert search.best_params_ == {"classifier__C": 0.1, "blocks": BLOCKS}


def test_gaps_are_the_training_mean_and_an_indicator() -> None:
    X = np.array([[1.0, 10.0], [3.0, 20.0], [5.0, np.nan], [np.nan, 60.0]])
    fuser = Concatenation({"b": [1], "a": [0]}).fit(X, [0, 1, 0, 1])
    a, b = np.sqrt(8 / 3), np.sqrt(1400 / 3)  # deviations of 1, 3, 5 and of 10, 20, 60 around 3 and 30
    by_hand = [[-2 / a, -20 / b, 0, 0], [0, -10 / b, 0, 0], [2 / a, 0, 0, 1], [0, 30 / b, 1, 0]]
    np.testing.assert_allclose(fuser.features(X), by_hand)
    plain = LogisticRegression(C=0.1, max_iter=1000).fit(by_hand, [0, 1, 0, 1])
    np.testing.assert_allclose(fuser.predict_proba(X), plain.predict_proba(by_hand))


def test_weights_scale_blocks() -> None:
    X, y, _ = simulated()
    plain = Concatenation(BLOCKS).fit(X, y).features(X)
    even = WeightedConcatenation(BLOCKS, dict.fromkeys(BLOCKS, 2.0)).fit(X, y).features(X)
    widths = np.repeat([4, 6, 5], [4, 6, 5])  # audio, text, video
    np.testing.assert_allclose(even[:, :15], plain[:, :15] * np.sqrt(15 / (3 * widths)))
    fuser = WeightedConcatenation(BLOCKS, {"text": 3.0, "audio": 1.0, "video": 0.0}).fit(X, y)
    energy = [(fuser.features(X)[:, a:b] ** 2).sum() / len(X) for a, b in ((0, 4), (4, 10), (10, 15))]
    np.testing.assert_allclose(energy, 5 * np.array([1, 9, 0]) / (10 / 3))


def test_learned_weights_follow_skill() -> None:
    X, y, groups = simulated()
    noisy = X.copy()
    noisy[:, BLOCKS["audio"]] = np.random.default_rng(3).normal(size=(len(X), 4))
    audio, text, _ = WeightedConcatenation(BLOCKS).fit(noisy, y, groups=groups).weights_
    alone = cross_val_score(Concatenation({"text": BLOCKS["text"]}), noisy, y, groups=groups, cv=GroupKFold(5)).mean()
    assert audio < 0.15
    chance = np.bincount(y).max() / len(y)
    assert text == pytest.approx((alone - chance) / (1 - chance), abs=0.08)


def test_sum_and_product_of_projections() -> None:
    X, y, _ = simulated()
    added, multiplied = (kind(BLOCKS, PCA(2)).fit(X, y) for kind in (SumFusion, ProductFusion))
    projected = []
    for block in BLOCKS.values():
        part = (X[:, block] - X[:, block].mean(axis=0)) / X[:, block].std(axis=0)
        projected.append(PCA(2).fit_transform(part))
    for fuser, joined in ((added, sum(projected)), (multiplied, projected[0] * projected[1] * projected[2])):
        scaled = (joined - joined.mean(axis=0)) / joined.std(axis=0)
        np.testing.assert_allclose(fuser.features(X)[:, :2], scaled, atol=1e-8)


def test_default_projection_estimates_labels() -> None:
    X, y, _ = simulated()
    fuser = SumFusion(BLOCKS).fit(X, y)
    missing = np.zeros((1, 6))  # the training mean, after standardising
    scores = fuser.projections_["text"].predict(missing)
    np.testing.assert_allclose(scores[0], np.bincount(y) / len(y), err_msg="a gap is answered by label frequencies")


def test_projections_must_agree_in_width() -> None:
    X, y, _ = simulated()
    with pytest.raises(ConfigError, match="same number of axes; got audio 4, text 5, video 4"):
        SumFusion(BLOCKS, PCA(0.9)).fit(X, y)


def test_cca_finds_the_canonical_correlations() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(400, 1))
    X = np.concatenate([rng.normal(size=(400, 3)), rng.normal(size=(400, 4))], axis=1)
    X[:, [1]] += 2 * shared
    X[:, [5]] += 2 * shared
    fuser = CCAFusion({"a": slice(0, 3), "b": slice(3, 7)}, n_components=2).fit(X, rng.integers(2, size=400))
    Z = fuser.features(X)
    found = [abs(np.corrcoef(Z[:, i], Z[:, 2 + i])[0, 1]) for i in range(2)]
    np.testing.assert_allclose(found, canonical_correlations(X[:, :3], X[:, 3:])[:2], rtol=1e-3)
    direct = CCA(2, max_iter=5000).fit(X[:, :3], X[:, 3:]).transform(X[:, :3])
    assert abs(np.corrcoef(direct[:, 0], Z[:, 0])[0, 1]) > 0.999


def canonical_correlations(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Singular values of the product of orthonormal bases (Björck & Golub 1973)."""
    bases = [np.linalg.qr(block - block.mean(axis=0))[0] for block in (A, B)]
    return np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)


def test_cca_with_constant_and_single_blocks() -> None:
    X, y, _ = simulated()
    constant = X.copy()
    constant[:, BLOCKS["audio"]] = 4.0
    assert CCAFusion(BLOCKS).fit(constant, y).score(constant, y) > 0.5
    assert CCAFusion({"text": BLOCKS["text"]}).fit(X, y).score(X, y) > 0.5


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({}, "blocks must map modalities to columns"),
        ({"text": slice(0, 20)}, r"the block 'text' is slice\(0, 20, None\), but X has 15 columns"),
        ({"text": [3, 15]}, r"the block 'text' is \[3, 15\], but X has 15 columns"),
        ({"text": slice(3, 3)}, "holds no column of X with 15 columns"),
        ({"text": slice(0, 6), "audio": slice(5, 9)}, "column 5 is in the block 'audio' and again in 'text'"),
    ],
)
def test_blocks_that_do_not_fit(blocks: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_blocks(blocks, 15)


def test_features_that_do_not_fit() -> None:
    X, y, _ = simulated()
    fitted = Concatenation(BLOCKS).fit(X, y)
    partly = X.copy()
    partly[5, 7] = np.nan
    for broken, message in (
        (partly, "row 5, block 'audio': 1 of 4 features are NaN; a gap is NaN throughout"),
        (np.where(X[2, 3] == X, np.inf, X), "row 2, column 3 of X is infinite"),
        (X[:, :12], "expected 15 columns as in fit; got 12"),
        (X[0], "expected X of shape"),
        ([["a"] * 15], "X must hold numbers"),
    ):
        with pytest.raises(DataError, match=message):
            fitted.predict(broken)
    with pytest.raises(DataError, match="X has 240 rows, but y has 239"):
        Concatenation(BLOCKS).fit(X, y[1:])
    with pytest.raises(DataError, match="at least two labels; got 1"):
        Concatenation(BLOCKS).fit(X, np.zeros(len(X)))
    with pytest.raises(ConfigError, match="weights are for text, but the blocks are audio, text, video"):
        WeightedConcatenation(BLOCKS, {"text": 1.0}).fit(X, y)


@pytest.mark.parametrize("name", ["concatenation", "weighted", "sum", "cca", "support vector machine"])
def test_round_trip_to_disk_without_pickle(name: str, tmp_path: Path) -> None:
    pytest.importorskip("skops", reason="fusers are saved by skops")
    from affuse.fusion.persistence import load, save, untrusted_types

    X, y, groups = simulated()
    fuser = clone(FUSERS[name]).fit(X, y, groups=groups)
    save(fuser, tmp_path)
    loaded = load(tmp_path, trusted=untrusted_types(tmp_path))
    np.testing.assert_array_equal(loaded.predict_proba(X), fuser.predict_proba(X))
    assert loaded.blocks == BLOCKS
