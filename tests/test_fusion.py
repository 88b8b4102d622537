"""The pool, its learning, conflict and shares: numbers by hand, a reference, and properties."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from affuse.errors import ConfigError, DataError
from affuse.fusion import (
    CalibratedLogPool,
    CommonCausePool,
    MeanRule,
    check_probabilities,
    common_cause_pool,
    conflict,
    conflict_in_words,
    fit_temperature,
    log_pool,
    shapley_shares,
    stack,
    temperature_scale,
)
from affuse.fusion.base import patterns_of, present, softmax
from affuse.fusion.calibrated import fit_weights
from affuse.fusion.explain import log_odds, shares_and_points
from affuse.fusion.pooling import separation
from affuse.fusion.temperature import fit_temperatures
from affuse.testing import check_fuser

UNIFORM = np.full((2, 2), 0.5)


def simulated(
    n: int = 600, seed: int = 0, sharpness: tuple[float, ...] = (1.0, 2.0, 3.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Experts whose log-probabilities lean towards the label, each by its own amount: P (n, m, 4) and y (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n)
    L = rng.normal(size=(n, len(sharpness), 4))
    L[np.arange(n)[:, None], np.arange(len(sharpness)), y[:, None]] += np.array(sharpness)
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


def test_stack_orders_modalities_and_names_both_shapes() -> None:
    P = stack({"face": [[0.8, 0.2]], "voice": [[0.3, 0.7]]})
    assert P.tolist() == [[[0.8, 0.2], [0.3, 0.7]]]
    with pytest.raises(DataError, match=r"face \(1, 2\), voice \(2, 2\)"):
        stack({"face": [[0.8, 0.2]], "voice": [[0.3, 0.7], [0.5, 0.5]]})


def test_stack_takes_whole_numbers_and_refuses_nothing_and_rows_alone() -> None:
    assert stack({"face": [[1, 0]], "voice": [[0, 1]]}).dtype == float
    with pytest.raises(DataError, match="at least one modality"):
        stack({})
    with pytest.raises(DataError, match=r"n rows, k classes.*face \(2,\)"):
        stack({"face": [0.8, 0.2]})


def test_probabilities_may_be_off_by_a_hundredth() -> None:
    for total, fits in ((0.9901, True), (1.0099, True), (0.9899, False), (1.0101, False)):
        P = [[[total - 0.5, 0.5]]]
        if fits:
            assert check_probabilities(P).shape == (1, 1, 2)
        else:
            with pytest.raises(DataError, match=f"row 0, modality 0.* sum of {total:.4g}"):
                check_probabilities(P)
    with pytest.raises(DataError, match=r"row 0, modality 1: .* a sum of 1 and a least value of -0\.2"):
        check_probabilities([[[0.0, 1.0], [1.2, -0.2]]])


@pytest.mark.parametrize(
    ("shape", "sentence"), [((2, 2), "got 2 dimensions"), ((3, 0, 2), "at least one"), ((3, 2, 0), "at least one")]
)
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        check_probabilities(np.full(shape, 0.5))
    with pytest.raises(DataError, match="expected 3 classes as in fit; got 2"):
        check_probabilities(np.full((1, 2, 2), 0.5), n_classes=3)
    with pytest.raises(DataError, match="expected 3 modalities as in fit; got 2"):
        check_probabilities(np.full((1, 2, 2), 0.5), n_modalities=3)
    assert check_probabilities([[[1, 0]]]).dtype == float


@pytest.mark.parametrize("m", [3, 62, 63, 70])
def test_sets_of_modalities_and_their_rows(m: int) -> None:
    here = np.zeros((5, m), dtype=bool)
    here[[0, 3], m - 1] = True
    here[1, 0] = True
    found = {tuple(np.flatnonzero(members).tolist()): rows.tolist() for members, rows in patterns_of(here)}
    assert found == {(): [2, 4], (0,): [1], (m - 1,): [0, 3]}


def test_softmax_of_great_numbers() -> None:
    L = np.array([[1000.0, 1000.0 + math.log(3)], [-1000.0, -1000.0]])
    np.testing.assert_allclose(softmax(L), [[0.25, 0.75], [0.5, 0.5]])


def test_checks_name_row_modality_and_sum() -> None:
    P = np.full((3, 2, 2), 0.5)
    P[1, 0] = [0.9, 0.9]
    with pytest.raises(DataError, match=r"row 1, modality 0.*sum of 1\.8"):
        check_probabilities(P)
    P[1, 0] = [np.nan, 1.0]
    with pytest.raises(DataError, match="NaN throughout"):
        check_probabilities(P)


def test_product_rule_by_hand() -> None:
    # 0.8 * 0.3 = 0.24 and 0.2 * 0.7 = 0.14: the answer is 24 / 38.
    fused = log_pool(np.array([[[0.8, 0.2], [0.3, 0.7]]]), np.ones(2), UNIFORM, np.array([0.5, 0.5]))
    assert np.allclose(fused, [[24 / 38, 14 / 38]])


def test_prior_is_counted_once() -> None:
    # Both experts only repeat the prior they were trained under; so must the answer.
    prior = np.array([0.9, 0.1])
    fused = log_pool(np.array([[prior, prior]]), np.ones(2), np.array([prior, prior]), prior)
    assert np.allclose(fused, [prior])


def test_missing_modality_leaves_the_other_and_none_leaves_nan() -> None:
    P = np.array([[[0.8, 0.2], [np.nan, np.nan]], [[np.nan, np.nan], [np.nan, np.nan]]])
    fused = log_pool(P, np.ones(2), UNIFORM, np.array([0.5, 0.5]))
    assert np.allclose(fused[0], [0.8, 0.2])
    assert np.isnan(fused[1]).all()


def test_certainty_of_one_expert_is_no_veto() -> None:
    P = np.array([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    fused = log_pool(P, np.ones(3), np.full((3, 2), 0.5), np.array([0.5, 0.5]))
    assert np.isfinite(fused).all()
    assert fused[0].argmax() == 1


def test_common_cause_by_hand() -> None:
    # Product: 0.9 * 0.1 against 0.1 * 0.9, both 0.09 / 0.5; the mean is 0.5 as well. Evidence for a common cause is
    # 0.09 / 0.5 * 2 = 0.36, for separate ones 1: with even odds beforehand, separate causes get 1 / 1.36.
    P, half = np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.6, 0.4]]]), np.array([0.5, 0.5])
    fused = common_cause_pool(P, np.ones(2), UNIFORM, half, separate=0.5)
    assert np.allclose(fused[0], [0.5, 0.5])
    # Second row: product 0.54 to 0.04, evidence (0.54 + 0.04) / 0.5 = 1.16; mean 0.75.
    share = 1 / (1 + 1.16)
    assert fused[1, 0] == pytest.approx((1 - share) * 0.54 / 0.58 + share * 0.75)


def test_the_probability_of_separate_causes_by_hand() -> None:
    # Evidence for a common cause is 0.36 and 1.16 as above; one modality by itself tells nothing of causes.
    P = np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.6, 0.4]], [[0.9, 0.1], [np.nan, np.nan]]])
    found = separation(P, np.ones(2), UNIFORM, np.array([0.5, 0.5]), 0.2)
    np.testing.assert_allclose(found, [0.25 / (0.25 + 0.36), 0.25 / (0.25 + 1.16), 0.2])


def test_common_cause_by_hand_with_weights_and_priors() -> None:
    # Evidence is (p / prior of the expert) ^ weight: 4 and 1/4 squared of the first, 3 and 1/3 of the second.
    P, priors = np.array([[[0.8, 0.2], [0.75, 0.25]]]), np.array([[0.2, 0.8], [0.25, 0.75]])
    prior = np.array([0.6, 0.4])
    one, two = np.array([4.0, 0.25]) ** 2, np.array([3.0, 1 / 3])
    product = prior * one * two
    apart = 0.3 * (prior @ one) * (prior @ two)
    share = apart / (apart + 0.7 * product.sum())
    mean = (prior * one / (prior @ one) + prior * two / (prior @ two)) / 2
    found = common_cause_pool(P, np.array([2.0, 1.0]), priors, prior, 0.3)
    np.testing.assert_allclose(found, [(1 - share) * product / product.sum() + share * mean])
    np.testing.assert_allclose(log_pool(P, np.array([2.0, 1.0]), priors, prior), [product / product.sum()])


def test_causes_are_weighed_row_by_row() -> None:
    P, _ = simulated(20)
    P[::3, 1] = np.nan
    priors, prior, weights = np.full((3, 4), 0.25), np.array([0.4, 0.3, 0.2, 0.1]), np.array([1.5, 0.8, 0.5])
    together = separation(P, weights, priors, prior, 0.3)
    alone = [separation(P[i : i + 1], weights, priors, prior, 0.3)[0] for i in range(20)]
    np.testing.assert_allclose(together, alone)


def test_a_hundred_certain_contradictions_do_not_overflow() -> None:
    P, even = np.tile([[[1.0, 0.0], [0.0, 1.0]]], (1, 60, 1)), np.array([0.5, 0.5])
    many = np.full((120, 2), 0.5)
    np.testing.assert_allclose(separation(P, np.ones(120), many, even, 0.1), [1.0])
    np.testing.assert_allclose(common_cause_pool(P, np.ones(120), many, even, 0.1), [even])


def test_common_cause_is_the_product_where_nothing_is_separate_and_one_voice_is_itself() -> None:
    P, _ = simulated(50)
    P[::4, 1] = np.nan
    P[::8, 2] = np.nan
    priors, prior = np.full((3, 4), 0.25), np.array([0.4, 0.3, 0.2, 0.1])
    weights = np.array([1.0, 0.8, 0.5])
    assert np.allclose(common_cause_pool(P, weights, priors, prior, 0.0), log_pool(P, weights, priors, prior))
    alone = P.copy()
    alone[:, 1:] = np.nan
    assert np.allclose(common_cause_pool(alone, weights, priors, prior, 0.3), log_pool(alone, weights, priors, prior))


def test_contradiction_of_certain_experts_costs_confidence() -> None:
    P = np.array([[[0.9999, 0.0001], [0.05, 0.95]]])
    product = log_pool(P, np.ones(2), UNIFORM, np.array([0.5, 0.5]))
    cautious = common_cause_pool(P, np.ones(2), UNIFORM, np.array([0.5, 0.5]), 0.1)
    assert product.max() > 0.99
    assert cautious.max() < 0.9
    nobody = common_cause_pool(np.full((1, 2, 2), np.nan), np.ones(2), UNIFORM, np.array([0.5, 0.5]), 0.1)
    assert np.isnan(nobody).all()


def test_soften_by_hand() -> None:
    # At temperature 2 odds of 9 to 1 become 3 to 1.
    assert np.allclose(temperature_scale(np.array([[[0.9, 0.1]]]), np.array([2.0])), [[[0.75, 0.25]]])


def test_order_of_modalities_does_not_matter() -> None:
    P, y = simulated()
    fused = CalibratedLogPool().fit(P, y).predict_proba(P)
    for order in permutations(range(3)):
        again = CalibratedLogPool().fit(P[:, order], y).predict_proba(P[:, order])
        assert np.allclose(fused, again, atol=1e-4)


def test_learned_pool_beats_every_expert_and_is_calibrated_on_new_rows() -> None:
    P, y = simulated(2000)
    new, truth = simulated(2000, seed=1)
    fused = CalibratedLogPool().fit(P, y).predict_proba(new)
    best = max((new[:, j].argmax(axis=1) == truth).mean() for j in range(3))
    assert (fused.argmax(axis=1) == truth).mean() > best
    assert abs(fused.max(axis=1).mean() - (fused.argmax(axis=1) == truth).mean()) < 0.03


def test_weights_of_noise_go_to_zero_and_shrink_to_one_without_data() -> None:
    P, y = simulated(4000, sharpness=(2.0, 0.0))
    fitted = CalibratedLogPool(shrinkage=1.0).fit(P, y)
    assert (
        np.abs(fitted.weights_[1] * np.log(temperature_scale(P, fitted.temperatures_)[:, 1]).std(axis=1)).mean() < 0.05
    )
    shrunk = CalibratedLogPool(shrinkage=1e9).fit(P, y)
    assert np.allclose(shrunk.weights_, 1.0, atol=1e-3)


def test_weights_are_where_their_loss_is_flat() -> None:
    """Mean loss plus shrinkage / n · |w - 1|² / 2: its slope is 0 at the weights, which lie inside their bounds."""
    P, y = simulated(300)
    P[::4, 1] = np.nan
    P[::10] = np.nan
    priors, prior = np.array([[0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0.4, 0.2, 0.2, 0.2]]), np.array([0.4, 0.3, 0.2, 0.1])
    weights = fit_weights(P, y, priors, prior, 50.0)
    assert ((weights > 0) & (weights < 5)).all()
    seen = ~np.isnan(P).all(axis=(1, 2))
    ratio = np.nan_to_num(np.log(P) - np.log(priors))[seen]
    error = (log_pool(P, weights, priors, prior) - np.eye(4)[y])[seen]
    slope = np.einsum("nk,nmk->m", error, ratio) + 50.0 * (weights - 1)
    np.testing.assert_allclose(slope / seen.sum(), 0, atol=1e-4)
    hesitant, half = np.tile([[[0.6, 0.4]]], (9, 1, 1)), np.array([0.5, 0.5])
    assert fit_weights(hesitant, np.zeros(9, dtype=int), half[None], half, 0.0).tolist() == [5.0]
    assert fit_weights(hesitant, np.ones(9, dtype=int), half[None], half, 0.0).tolist() == [0.0]
    assert fit_weights(np.full((2, 3, 4), np.nan), y[:2], priors, prior, 50.0).tolist() == [1, 1, 1]


def test_a_given_prior_replaces_that_of_the_labels() -> None:
    P, y = simulated(100)
    P[:, 0][y == 0] = np.nan
    given = CalibratedLogPool(prior=[2, 1, 1, 0]).fit(P, y)
    np.testing.assert_allclose(given.prior_, np.array([2, 1, 1, 1e-6]) / (4 + 1e-6))
    counts = np.bincount(y, minlength=4) + 1.0
    np.testing.assert_allclose(CalibratedLogPool().fit(P, y).prior_, counts / counts.sum())
    counts[0] = 1
    np.testing.assert_allclose(given.priors_[0], counts / counts.sum())
    np.testing.assert_allclose(CommonCausePool(prior=[2, 1, 1, 0]).fit(P, y).prior_, given.prior_)
    assert CalibratedLogPool().shrinkage == 50.0
    assert (CommonCausePool().shrinkage, CommonCausePool().separate) == (50.0, 0.1)


def test_batch_equals_one_by_one_and_gaps_are_answered() -> None:
    P, y = simulated(50)
    P[::3, 0] = np.nan
    P[7] = np.nan
    fuser = CalibratedLogPool().fit(P, y)
    whole = fuser.predict_proba(P)
    single = np.concatenate([fuser.predict_proba(P[i : i + 1]) for i in range(len(P))])
    assert np.array_equal(whole, single, equal_nan=True)
    assert np.isnan(whole[7]).all()
    assert np.isfinite(np.delete(whole, 7, axis=0)).all()
    assert fuser.predict(P)[7] == np.bincount(y).argmax()


def test_scikit_learn_tools_work() -> None:
    P, y = simulated(300)
    assert clone(CalibratedLogPool(shrinkage=3.0)).shrinkage == 3.0
    assert cross_val_score(CalibratedLogPool(), P, y, cv=3).mean() > 0.7
    search = GridSearchCV(CalibratedLogPool(), {"shrinkage": [1.0, 100.0]}, cv=3).fit(P, y)
    assert search.best_params_["shrinkage"] in (1.0, 100.0)


def test_fit_names_both_numbers() -> None:
    with pytest.raises(DataError, match="P has 3 rows, but y has 2"):
        CalibratedLogPool().fit(np.full((3, 2, 2), 0.5), [0, 1])
    fuser = CalibratedLogPool().fit(np.full((4, 2, 2), 0.5), [0, 1, 0, 1])
    with pytest.raises(DataError, match="expected 2 modalities as in fit; got 3"):
        fuser.predict_proba(np.full((4, 3, 2), 0.5))


def test_conflict_agrees_with_scipy_and_has_its_bounds() -> None:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(5), size=(20, 2))
    reference = [jensenshannon(a, b, base=2) ** 2 for a, b in P]
    assert np.allclose(conflict(P), reference)
    assert np.allclose(conflict(np.eye(3)[None]), [1.0])
    assert np.allclose(conflict(np.array([[[0.3, 0.7], [0.3, 0.7]]])), [0.0])


def test_conflict_of_three_by_hand() -> None:
    # Two say 1, 0 and one says 0, 1: the entropy of the mixture 2/3, 1/3 over its bound log 3. A gap does not count.
    P = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]]])
    mixture = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    np.testing.assert_allclose(conflict(P), [mixture / math.log(3), 1.0])


def test_log_odds_stay_finite() -> None:
    edge = math.log(1e-9) - math.log1p(-1e-9)
    np.testing.assert_allclose(log_odds(np.array([0.0, 0.5, 0.8, 1.0])), [edge, 0.0, math.log(4), -edge], rtol=1e-6)


def test_conflict_needs_two_voices() -> None:
    P = np.array([[[0.5, 0.5], [np.nan, np.nan]]])
    assert np.isnan(conflict(P)).all()


def test_conflict_in_words() -> None:
    P = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    words = conflict_in_words(P, ("face", "voice", "text"), ("happiness", "anger"))
    assert words == "face says happiness, voice and text say anger"
    assert conflict_in_words(P[1:], ("voice", "text"), ("happiness", "anger")) == ""


def test_shares_add_up_and_treat_equals_alike() -> None:
    prior = np.array([0.5, 0.5])

    def fuse(P: np.ndarray) -> np.ndarray:
        return log_pool(P, np.ones(3), np.full((3, 2), 0.5), prior)

    P = np.array([[[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]], [[0.6, 0.4], [np.nan, np.nan], [0.1, 0.9]]])
    answers = fuse(P).argmax(axis=1)
    shares = shapley_shares(P, fuse, prior, answers)
    # With a uniform prior and weights of 1 the log-odds of a product are the sum of those of its factors.
    assert np.allclose(shares[0], [math.log(4), math.log(4), math.log(2 / 3)])
    fused = fuse(P)[np.arange(2), answers]
    assert np.allclose(np.nansum(shares, axis=1), np.log(fused / (1 - fused)))
    assert np.isnan(shares[1, 1])


def test_shares_of_a_fitted_fuser_over_priors_by_row() -> None:
    """With one modality the share is the log-odds of the answer over those of the row's prior, whatever its label."""
    fuser = MeanRule().fit(np.full((2, 2, 2), 0.5), [0, 1])
    P = np.array([[[0.8, 0.2], [np.nan] * 2], [[np.nan] * 2, [0.4, 0.6]], [[np.nan] * 2, [np.nan] * 2]])
    priors = np.array([[0.5, 0.5], [0.75, 0.25], [0.5, 0.5]])
    shares = shapley_shares(P, fuser, priors, np.array([0, 1, 0]))
    expected = [[math.log(4), np.nan], [np.nan, math.log(1.5) - math.log(1 / 3)], [np.nan, np.nan]]
    np.testing.assert_allclose(shares, expected)
    assert np.isnan(P[0, 1]).all()
    assert P[0, 0, 0] == 0.8, "the predictions stay as they are"


def test_shares_of_a_mean_by_hand() -> None:
    # For two modalities a share is the mean of what it adds first and what it adds last.
    def mean(P: np.ndarray) -> np.ndarray:
        here = ~np.isnan(P).any(axis=2, keepdims=True)
        count = here.sum(axis=1)
        total = np.where(here, P, 0).sum(axis=1)
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

    def odds(p: float) -> float:
        return math.log(p / (1 - p))

    shares = shapley_shares(np.array([[[0.9, 0.1], [0.6, 0.4]]]), mean, np.array([0.5, 0.5]), np.array([0]))
    first = ((odds(0.9) - odds(0.5)) + (odds(0.75) - odds(0.6))) / 2
    second = ((odds(0.6) - odds(0.5)) + (odds(0.75) - odds(0.9))) / 2
    assert np.allclose(shares, [[first, second]])


def test_shares_in_points_by_hand() -> None:
    P = np.array([[[0.9, 0.1], [0.6, 0.4]], [[0.2, 0.8], [np.nan, np.nan]]])

    def mean(keep: np.ndarray) -> np.ndarray:
        rows = np.where(keep[None, :, None], P, np.nan)
        count = np.maximum(1, np.isfinite(rows[:, :, 0]).sum(axis=1))[:, None]
        return np.where(np.isfinite(rows).any(axis=1), np.nansum(rows, axis=1) / count, np.nan)

    shares, points = shares_and_points(mean, present(P), np.array([0.5, 0.5]), np.array([0, 1]))
    # Of a mean of .9 and .6 from an even prior: what each adds first, and what it adds last, .75 in all.
    assert np.allclose(points[0], [(0.4 + 0.15) / 2, (0.1 - 0.15) / 2])
    assert points[1, 0] == pytest.approx(0.3)
    assert np.isnan(points[1, 1])
    assert np.allclose(shares[1, 0], math.log(4))


def test_pool_of_given_numbers_is_the_fitted_one_and_refuses_half_of_one() -> None:
    P, y = simulated()
    fitted = CommonCausePool(separate=0.2).fit(P, y)
    numbers = [fitted.temperatures_, fitted.weights_, fitted.priors_, fitted.prior_]
    again = CommonCausePool.of(*numbers, separate=0.2)
    assert np.array_equal(again.predict_proba(P), fitted.predict_proba(P))
    assert CommonCausePool.of(*numbers).separate == 0.1
    with pytest.raises(DataError, match="do not fit each other"):
        CommonCausePool.of(*numbers[:3], [1.0])


def test_two_causes_by_hand() -> None:
    """Even prior, weights of 1: one cause explains the pair by sum(p q), two causes by 1/2 (both sum to 1 alone)."""
    y = np.array([0, 1])
    fuser = CommonCausePool(prior=[0.5, 0.5], separate=0.2).fit(np.full((2, 2, 2), 0.5), y)
    assert np.allclose(fuser.weights_, 1)
    fuser.temperatures_ = np.ones(2)
    p, q = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    product = p * q / (p @ q)
    apart = 0.2 * 0.5 / (0.2 * 0.5 + 0.8 * (p @ q))
    np.testing.assert_allclose(fuser.predict_proba([[p, q]]), [(1 - apart) * product + apart * (p + q) / 2], rtol=1e-6)


def test_without_separate_causes_it_is_the_calibrated_pool() -> None:
    P, y = simulated(300)
    P[::4, 0] = np.nan
    same = CommonCausePool(separate=0.0).fit(P, y).predict_proba(P)
    np.testing.assert_allclose(same, CalibratedLogPool().fit(P, y).predict_proba(P), atol=1e-4)  # the floor differs
    alone = np.where([[[True], [False], [False]]], P, np.nan)
    some = CommonCausePool(separate=0.5).fit(P, y).predict_proba(alone)
    np.testing.assert_allclose(some, CalibratedLogPool().fit(P, y).predict_proba(alone), atol=1e-4)
    with pytest.raises(ConfigError, match="separate must be at least 0 and below 1; got 1"):
        CommonCausePool(separate=1).fit(P, y)


def test_default_fuser_keeps_the_contract() -> None:
    check_fuser(CalibratedLogPool())


def test_contract_catches_a_fuser_that_guesses_without_evidence() -> None:
    class Guesser(CalibratedLogPool):
        def predict_proba(self, P: np.ndarray) -> np.ndarray:
            return np.nan_to_num(super().predict_proba(P), nan=1 / 4)

    with pytest.raises(AssertionError, match="not a guess"):
        check_fuser(Guesser())


def test_a_temperature_of_four_rows_that_happen_to_be_right_stays_moderate() -> None:
    P = np.full((4, 1, 3), 0.2)
    P[np.arange(4), 0, [0, 1, 2, 0]] = 0.6
    few = fit_temperatures(P, np.array([0, 1, 2, 0]))[0]
    many = fit_temperatures(np.tile(P, (500, 1, 1)), np.tile([0, 1, 2, 0], 500))[0]
    assert 0.5 < few < 1
    assert many < few / 2
    assert fit_temperature(np.log(P[:, 0]), [0, 1, 2, 0]) < 0.1, "maximum likelihood believes the four rows"


def test_temperatures_stay_within_their_bounds() -> None:
    sure = np.log([[0.9, 0.1]] * 10)
    assert fit_temperature(sure, [0] * 10) == pytest.approx(math.exp(-2.5), rel=1e-3)
    assert fit_temperature(sure, [1] * 10) == pytest.approx(math.exp(2.5), rel=1e-3)


def test_the_pull_on_a_temperature_by_hand() -> None:
    """The slope of the summed loss 4 · (log(1 + e^-z) + z/4), z = log 9 / T, plus that of pull · (log T)², is 0."""
    for pull in (1.0, 2.0):
        t = math.log(fit_temperature(np.log([[0.9, 0.1]] * 4), [0, 0, 0, 1], pull))
        z = math.log(9) / math.exp(t)
        assert 4 * (1 / (1 + math.exp(z)) - 1 / 4) * z + 2 * pull * t == pytest.approx(0, abs=1e-4)
    pulled = fit_temperature(np.log([[0.9, 0.1]] * 4), [0, 0, 0, 1], 2.0)
    P = np.tile([[[0.9, 0.1], [np.nan, np.nan]]], (4, 1, 1))
    assert fit_temperatures(P, np.array([0, 0, 0, 1])).tolist() == [pulled, 1.0]


def test_a_temperature_is_that_of_the_least_log_loss() -> None:
    """A model that says 90 % and is right in 3 of 4 rows: (9/10 : 1/10) ^ (1/T) = 3/4 : 1/4 gives T = log 9 / log 3."""
    logits = np.log([[0.9, 0.1]] * 4)
    assert fit_temperature(logits, [0, 0, 0, 1]) == pytest.approx(2.0, abs=1e-4)
    # A label that cannot be (-inf) changes nothing, nor does a constant that is added to a row.
    wider = np.column_stack([logits + 5.0, np.full(4, -np.inf)])
    assert fit_temperature(wider, [0, 0, 0, 1]) == pytest.approx(2.0, abs=1e-4)
    assert fit_temperature(np.empty((0, 2)), np.empty(0, dtype=int)) == 1.0
