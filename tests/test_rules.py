"""Fixed rules: the numbers of textbooks worked out by hand, gaps, ties, and what dynamic rules do with them."""

from __future__ import annotations

import importlib
import math
import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import entropy, rankdata
from sklearn.linear_model import Ridge

from affuse.errors import ConfigError, DataError
from affuse.fusion import (
    BordaCount,
    ConfidenceWeightedVote,
    DempsterShafer,
    DiscountedBeliefFusion,
    EnergyWeighted,
    EntropyWeighted,
    Fuser,
    MajorityVote,
    MaxRule,
    MeanRule,
    MedianRule,
    MinRule,
    PerformanceWeighted,
    PredictiveDynamicFusion,
    ProductRule,
    WeightedMeanRule,
    WeightedVote,
)
from affuse.fusion.base import BLOCK_SIZE
from affuse.fusion.dynamic import centred_logits, relative_calibration
from affuse.fusion.weighting import accuracy_log_odds, hits, smoothed_accuracies

NAN = np.nan
LABELS = ["angry", "happy"]
# The face says happy with 80 %, the voice says angry with 70 %; columns are angry, happy.
FACE_AND_VOICE = np.array([[[0.2, 0.8], [0.7, 0.3]]])


def fitted(rule: Fuser, m: int = 2, k: int = 2) -> Fuser:
    """The rule after a fit on uniform rows with every label once.

    Nothing is learned that prefers a label or modality.
    """
    return rule.fit(np.full((k, m, k), 1 / k), np.arange(k))


def answer(rule: Fuser, P: np.ndarray) -> np.ndarray:
    return fitted(rule, *P.shape[1:]).predict_proba(P)


def random_experts(n: int = 200, m: int = 3, k: int = 4, gaps: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(k), size=(n, m))
    P[rng.random((n, m)) < gaps] = NAN
    return P


def test_the_textbook_example_by_hand() -> None:
    P = FACE_AND_VOICE
    np.testing.assert_allclose(answer(MeanRule(), P), [[0.45, 0.55]])
    # 0.6 of the face and 0.4 of the voice: 0.12 + 0.28 and 0.48 + 0.12.
    np.testing.assert_allclose(answer(WeightedMeanRule([0.6, 0.4]), P), [[0.40, 0.60]])
    np.testing.assert_allclose(answer(WeightedMeanRule([6, 4]), P), [[0.40, 0.60]])
    # 0.2 · 0.7 = 0.14 against 0.8 · 0.3 = 0.24.
    np.testing.assert_allclose(answer(ProductRule(), P), [[14 / 38, 24 / 38]])
    np.testing.assert_allclose(answer(MaxRule(), P), [[0.7 / 1.5, 0.8 / 1.5]])
    np.testing.assert_allclose(answer(MinRule(), P), [[0.2 / 0.5, 0.3 / 0.5]])
    np.testing.assert_allclose(answer(MedianRule(), P), [[0.45, 0.55]])
    # One vote of 0.8 and one of 0.7.
    np.testing.assert_allclose(answer(ConfidenceWeightedVote(), P), [[0.7 / 1.5, 0.8 / 1.5]], atol=1e-6)
    np.testing.assert_allclose(answer(WeightedVote([0.4, 0.6]), P), [[0.6, 0.4]], atol=1e-6)


def test_votes_a_a_b_are_won_by_a() -> None:
    P = np.array([[[0.5, 0.3, 0.2], [0.4, 0.35, 0.25], [0.0, 1.0, 0.0]]])
    rule = MajorityVote().fit(np.full((3, 3, 3), 1 / 3), ["A", "B", "C"])
    np.testing.assert_allclose(rule.predict_proba(P), [[2 / 3, 1 / 3, 0]], atol=1e-6)
    assert rule.predict(P).tolist() == ["A"]
    assert fitted(MeanRule(), 3, 3).predict(P).tolist() == [1], "the mean listens to how sure they are, votes do not"


def test_a_tie_of_votes_goes_to_the_greater_mean_and_then_to_the_first_column() -> None:
    tie = FACE_AND_VOICE
    assert np.allclose(answer(MajorityVote(), tie), 0.5, atol=1e-6)
    assert fitted(MajorityVote()).predict(tie) == [1], "0.55 against 0.45"
    assert fitted(MajorityVote()).predict(np.array([[[0.3, 0.7], [0.7, 0.3]]])) == [0]
    assert fitted(MeanRule()).predict(np.array([[[0.3, 0.7], [0.7, 0.3]]])) == [0]


def test_an_expert_with_two_first_labels_splits_its_vote() -> None:
    P = np.array([[[0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [NAN, NAN, NAN]]])
    np.testing.assert_allclose(answer(MajorityVote(), P), [[0.25, 0.25, 0.5]], atol=1e-6)


def test_many_votes_are_counted_as_few_are() -> None:
    P = random_experts(50, m=300, gaps=0.2)
    votes = (np.fmax.reduce(P, axis=2, keepdims=True) == P).sum(axis=1)
    np.testing.assert_allclose(answer(MajorityVote(), P), votes / votes.sum(axis=1, keepdims=True), atol=1e-5)
    few = P[:, :20]
    votes = (np.fmax.reduce(few, axis=2, keepdims=True) == few).sum(axis=1)
    np.testing.assert_allclose(answer(MajorityVote(), few), votes / votes.sum(axis=1, keepdims=True), atol=1e-5)
    equal = fitted(WeightedVote([1] * 20), 20, 4).predict_proba(few)
    np.testing.assert_allclose(answer(MajorityVote(), few), equal, atol=1e-5)


def test_more_votes_than_a_byte_counts() -> None:
    for m in (255, 256, 300):
        P = np.tile([0.1, 0.9], (1, m, 1))
        P[0, :270] = [0.8, 0.2]
        first = min(m, 270) / m
        np.testing.assert_allclose(answer(MajorityVote(), P), [[first, 1 - first]], atol=1e-5)


def test_borda_counts_points_as_ranks_do() -> None:
    P = np.array([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]])
    # Points 2, 1, 0 and 0, 2, 1.
    np.testing.assert_allclose(answer(BordaCount(), P), [[2 / 6, 3 / 6, 1 / 6]], atol=1e-6)
    P = np.round(random_experts(), 1)
    P /= P.sum(axis=2, keepdims=True)
    points = (rankdata(P, axis=2) - 1).sum(axis=1)
    np.testing.assert_allclose(answer(BordaCount(), P), points / points.sum(axis=1, keepdims=True), atol=1e-5)


def test_product_counts_a_prior_once() -> None:
    prior = np.array([0.9, 0.1])
    repeated = np.array([[prior, prior]])
    np.testing.assert_allclose(answer(ProductRule(prior=prior), repeated), [prior])
    np.testing.assert_allclose(fitted(ProductRule(prior=[9, 1])).prior_, prior)
    learned = ProductRule().fit(np.repeat(repeated, 98, axis=0), np.r_[np.zeros(89), np.ones(9)].astype(int))
    np.testing.assert_allclose(learned.predict_proba(repeated), [prior])


def test_product_with_gaps_is_the_product_of_the_rest() -> None:
    P = random_experts(gaps=0.3)
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    expected = np.log(prior) + np.nansum(np.log(P) - np.log(prior), axis=1)
    expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    expected[np.isnan(P).all(axis=(1, 2))] = NAN
    np.testing.assert_allclose(answer(ProductRule(prior=prior), P), expected, atol=1e-4)


def test_product_of_many_modalities_counts_a_prior_once() -> None:
    prior = np.array([0.1, 0.2, 0.3, 0.4])
    few = random_experts(m=3, gaps=0.3)
    many = np.full((len(few), 60, 4), NAN)
    many[:, [5, 30, 59]] = few
    expected = answer(ProductRule(prior=prior), few)
    np.testing.assert_allclose(answer(ProductRule(prior=prior), many), expected, rtol=1e-9)


def test_product_of_many_modalities_does_not_vanish() -> None:
    P = np.tile([[[0.0, 1.0]]], (1, 100, 1))
    P[:, :60] = [[0.0, 1.0]]
    P[:, 60:] = [[1.0, 0.0]]
    np.testing.assert_allclose(answer(ProductRule(), P), [[0, 1]], atol=1e-12)
    few, many = random_experts(m=40), random_experts(m=41, seed=1)
    many[:, 40] = NAN
    many[:, :40] = few
    np.testing.assert_allclose(answer(ProductRule(), many), answer(ProductRule(), few), rtol=1e-9)


@pytest.mark.parametrize("rule", [MeanRule(), MaxRule(), MinRule(), MedianRule(), ProductRule(), MajorityVote()])
def test_no_copy_is_larger_than_the_input(rule: Fuser) -> None:
    P = random_experts(100_000, gaps=0.1)
    rule = fitted(rule, 3, 4)
    rule.predict(P[:10])  # whatever is loaded at first use
    tracemalloc.start()
    rule.predict(P)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < P.nbytes, "the answer is a twelfth of the input; the rest are blocks of fixed size"


def test_one_certain_expert_is_no_veto() -> None:
    P = np.array([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
    for rule in (ProductRule(), MinRule(), DempsterShafer(1.0), EnergyWeighted(), DiscountedBeliefFusion()):
        fused = answer(rule, P)
        assert np.isfinite(fused).all()
        assert np.isclose(fused.sum(), 1)
    np.testing.assert_allclose(answer(MinRule(), P), [[0.5, 0.5]])


@pytest.mark.parametrize("m", [1, 2, 3, 4, 8, 9, 12])
@pytest.mark.parametrize(("rule", "reference"), [(MeanRule(), np.nanmean), (MedianRule(), np.nanmedian)])
def test_gaps_are_left_out_as_by_nan_functions(rule: Fuser, reference: object, m: int) -> None:
    P = random_experts(m=m, gaps=0.3)
    P[np.isnan(P).all(axis=(1, 2)), 0] = 0.25
    expected = reference(P, axis=1)  # type: ignore[operator]
    np.testing.assert_allclose(answer(rule, P), expected / expected.sum(axis=1, keepdims=True))


def test_extremes_agree_with_nan_functions() -> None:
    P = random_experts(gaps=0.2)
    P = P[~np.isnan(P).all(axis=(1, 2))]
    for rule, reference in ((MaxRule(), np.nanmax), (MinRule(), np.nanmin)):
        expected = np.maximum(reference(P, axis=1), 1e-6)
        np.testing.assert_allclose(answer(rule, P), expected / expected.sum(axis=1, keepdims=True))


def test_weights_of_missing_modalities_go_to_the_rest() -> None:
    P = np.array([[[0.2, 0.8], [NAN, NAN], [0.6, 0.4]]])
    # Weights 1 and 3 of 1, 5 and 3: a quarter and three quarters.
    np.testing.assert_allclose(answer(WeightedMeanRule([1, 5, 3]), P), [[0.5, 0.5]])
    np.testing.assert_allclose(answer(WeightedMeanRule([0, 1, 0]), P), [[0.4, 0.6]])


def test_weights_that_do_not_fit_are_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match=r"weights must hold one number for each of 2 modalities; got the shape \(3,\)"):
        fitted(WeightedMeanRule([1, 2, 3]))
    with pytest.raises(DataError, match="at least 0 and not all 0"):
        fitted(WeightedVote([-1, 1]))
    with pytest.raises(DataError, match="prior must hold one number for each of 2 classes"):
        fitted(ProductRule(prior=[1, 1, 1]))
    with pytest.raises(DataError, match="from 0 to 1"):
        fitted(DempsterShafer([0.5, 2]))
    with pytest.raises(ConfigError, match="strength must be above 0"):
        fitted(DiscountedBeliefFusion(strength=0))
    with pytest.raises(ConfigError, match="alpha must be at least 0"):
        fitted(PredictiveDynamicFusion(alpha=-1))


def test_entropy_weights_agree_with_scipy() -> None:
    P = random_experts()
    weights = 1 - entropy(P, axis=2) / np.log(4)
    expected = (weights[:, :, None] * P).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer(EntropyWeighted(), P), expected)
    # A label that is excluded adds nothing to the entropy: log 2 of (0.5, 0.5, 0), so the weight is 1 - log 2 / log 3.
    halves = np.array([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]])
    weight = 1 - math.log(2) / math.log(3)
    first = (0.5 * weight + 1) / (weight + 1)
    np.testing.assert_allclose(answer(EntropyWeighted(), halves), [[first, 1 - first, 0]])
    # A uniform expert knows nothing and changes nothing.
    np.testing.assert_allclose(answer(EntropyWeighted(), np.array([[[0.9, 0.1], [0.5, 0.5]]])), [[0.9, 0.1]], atol=1e-6)


def test_performance_weights_by_hand() -> None:
    # Of 8 rows the first modality has 7 right and the second 5: with one right and one wrong more, 8/10 and 6/10.
    y = np.zeros(8, dtype=int)
    right, wrong = [0.9, 0.1], [0.1, 0.9]
    P = np.array([[right] * 2] * 5 + [[right, wrong]] * 2 + [[wrong, wrong]])
    rule = PerformanceWeighted().fit(P, y)
    weights = np.array([math.log(4), math.log(1.5)])
    np.testing.assert_allclose(rule.weights_, weights / weights.sum())
    vote = WeightedVote().fit(P, y)
    np.testing.assert_allclose(vote.predict_proba(P[5:6])[0, 0], weights[0] / weights.sum(), atol=1e-6)


def test_performance_weights_of_three_labels_by_hand() -> None:
    """Chance is 1/3 there, so 8/10 and 6/10 right are log(4 · 2) and log(1.5 · 2) above it, and 3/10 below it."""
    y = np.zeros(8, dtype=int)
    right, wrong = [0.8, 0.1, 0.1], [0.1, 0.7, 0.2]
    columns = [[right] * n + [wrong] * (8 - n) for n in (7, 5, 2)]
    rule = PerformanceWeighted().fit(np.stack(columns, axis=1), y)
    weights = np.array([math.log(8), math.log(3), 1e-9])
    np.testing.assert_allclose(rule.weights_, weights / weights.sum())
    rows = np.array([[right, wrong, wrong], [[NAN] * 3, wrong, right], [[NAN] * 3, [NAN] * 3, right]])
    share = math.log(8) / math.log(24)
    expected = [share * np.array(right) + (1 - share) * np.array(wrong), wrong, right]
    np.testing.assert_allclose(rule.predict_proba(rows), expected, atol=1e-8)


def test_accuracies_count_only_rows_with_the_modality() -> None:
    y = np.array([0, 0, 1, 1])
    right, gap = np.eye(2)[y] * 0.8 + 0.1, np.full(2, NAN)
    P = np.stack([right, np.where([[True], [True], [False], [False]], right[:, ::-1], gap)], axis=1)
    assert hits(P, y).tolist() == [[1, 0], [1, 0], [1, 0], [1, 0]]
    np.testing.assert_allclose(smoothed_accuracies(P, y), [5 / 6, 1 / 4])
    # A single label leaves no chance to be wrong by: its log(k - 1) is taken as 0.
    np.testing.assert_allclose(accuracy_log_odds(np.ones((2, 1, 1)), np.zeros(2, dtype=int)), [math.log(3)])


def test_a_modality_at_chance_has_next_to_no_weight() -> None:
    P = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.9, 0.1]]] * 20)
    rule = PerformanceWeighted().fit(P, np.tile([0, 1], 20))
    np.testing.assert_allclose(rule.weights_, [1, 0], atol=1e-6)


def test_dempsters_rule_by_hand() -> None:
    # Shafer's discount 0.9 and 0.8: masses (.18, .72, any .1) and (.56, .24, any .2).
    rule = DempsterShafer([0.9, 0.8]).fit(np.full((2, 2, 2), 0.5), [0, 1])
    angry = 0.18 * 0.56 + 0.18 * 0.2 + 0.1 * 0.56
    happy = 0.72 * 0.24 + 0.72 * 0.2 + 0.1 * 0.24
    anything = 0.1 * 0.2
    conflict = 0.18 * 0.24 + 0.72 * 0.56
    assert np.isclose(angry + happy + anything + conflict, 1)
    np.testing.assert_allclose(rule.conflict_mass(FACE_AND_VOICE), [conflict])
    expected = np.array([angry + anything / 2, happy + anything / 2]) / (1 - conflict)
    np.testing.assert_allclose(rule.predict_proba(FACE_AND_VOICE), [expected])


def test_dempsters_rule_leaves_gaps_out_row_by_row() -> None:
    rule = DempsterShafer([0.9, 0.8]).fit(np.full((2, 2, 2), 0.5), [0, 1])
    gap = [NAN, NAN]
    P = np.array([[[0.2, 0.8], gap], [gap, [0.7, 0.3]], [gap, gap], [[0.2, 0.8], [0.7, 0.3]]])
    # Alone, a modality of reliability r answers r p + (1 - r) / 2.
    found = rule.predict_proba(P)
    np.testing.assert_allclose(found[:2], [[0.23, 0.77], [0.66, 0.34]])
    assert np.isnan(found[2]).all()
    clash = 0.18 * 0.24 + 0.72 * 0.56
    np.testing.assert_allclose(rule.conflict_mass(P), [0, 0, NAN, clash], atol=1e-12)
    three = DempsterShafer([0.9, 0.8, 0.7]).fit(np.full((2, 3, 2), 0.5), [0, 1])
    np.testing.assert_allclose(three.conflict_mass([[[0.2, 0.8], [0.7, 0.3], gap]]), [clash])
    with pytest.raises(DataError, match="expected 2 modalities as in fit; got 3"):
        rule.conflict_mass(np.full((1, 3, 2), 0.5))
    with pytest.raises(DataError, match="expected 2 classes as in fit; got 4"):
        rule.conflict_mass(np.full((1, 2, 4), 0.25))


def test_reliabilities_are_accuracies_or_given_from_0_to_1() -> None:
    P = np.array([[[0.9, 0.1], [0.1, 0.9]]] * 8)
    np.testing.assert_allclose(DempsterShafer().fit(P, [0] * 8).reliabilities_, [0.9, 0.1])
    np.testing.assert_allclose(fitted(DempsterShafer([0, 1])).reliabilities_, [0, 1 - 1e-6], rtol=0)
    np.testing.assert_allclose(fitted(DempsterShafer(0.7)).reliabilities_, [0.7, 0.7])
    for wrong in ([-0.1, 0.5], [0.5, 1.1], [0.5], [0.5, 0.5, 0.5]):
        with pytest.raises(DataError, match="from 0 to 1, one for each of 2 modalities"):
            fitted(DempsterShafer(wrong))


def test_weights_are_equal_or_scaled_to_one() -> None:
    np.testing.assert_allclose(fitted(WeightedMeanRule(), 3, 2).weights_, [1 / 3] * 3)
    np.testing.assert_allclose(fitted(WeightedMeanRule([6, 2])).weights_, [0.75, 0.25])
    np.testing.assert_allclose(fitted(WeightedVote([6, 2])).weights_, [0.75, 0.25])


def test_dempsters_rule_of_reliable_sources_is_the_product_and_zadehs_paradox_is_mostly_conflict() -> None:
    P = np.maximum(random_experts(), 0.01)  # far from where either rule counts small probabilities as a millionth
    P /= P.sum(axis=2, keepdims=True)
    np.testing.assert_allclose(answer(DempsterShafer(1.0), P), answer(ProductRule(), P), rtol=1e-3)
    zadeh = np.array([[[0.99, 0.01, 0.0], [0.0, 0.01, 0.99]]])
    rule = DempsterShafer(1.0).fit(np.full((3, 2, 3), 1 / 3), [0, 1, 2])
    np.testing.assert_allclose(rule.conflict_mass(zadeh), [1 - 0.0001], atol=1e-5)
    # A single source contradicts nobody, and silence has no conflict to tell of.
    zadeh[0, 1] = NAN
    np.testing.assert_allclose(rule.conflict_mass(zadeh), [0], atol=1e-12)
    assert np.isnan(rule.conflict_mass(np.full((1, 2, 3), NAN))).all()


def test_energy_weights_by_hand() -> None:
    # Centred logits of (0.8, 0.2) are ± log 2, so w = log(2 + 1/2); of (0.1, 0.9) ± log 3, so w = log(3 + 1/3).
    P = np.array([[[0.8, 0.2], [0.1, 0.9]]])
    rule = fitted(EnergyWeighted())
    logit = math.log(2.5) * math.log(2) - math.log(10 / 3) * math.log(3)
    expected = 1 / (1 + math.exp(-2 * logit / rule.temperature_))
    np.testing.assert_allclose(rule.predict_proba(P)[0, 0], expected)


def test_relative_calibration_is_the_papers_for_two_modalities() -> None:
    P = np.array([[[0.8, 0.2], [0.6, 0.4]], [[0.8, 0.2], [NAN, NAN]]])
    # Mean distances from 1/2 are 0.3 and 0.1.
    found = relative_calibration(P, ~np.isnan(P[:, :, 0]))
    np.testing.assert_allclose(found, [[1, 1 / 3], [1, 0]], err_msg="who is alone is not scaled down")


def test_predictive_dynamic_fusion_by_hand() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    L = rng.normal(size=(300, 2, 3))
    L[np.arange(300)[:, None], np.arange(2), y[:, None]] += [2.0, 0.5]
    P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    rule = PredictiveDynamicFusion().fit(P, y)
    one = P[:1]
    features = rule._features(P)
    mono = []
    for j in range(2):
        truth = np.clip(P[np.arange(300), j, y], 0.01, 0.99)
        ridge = Ridge(alpha=1.0).fit(features[:, j], np.log(truth / (1 - truth)))
        mono.append(1 / (1 + math.exp(-ridge.predict(features[:1, j])[0])))
    a, b = mono
    holo = np.array([math.log(b), math.log(a)]) / math.log(a * b)
    distance = np.abs(one[0] - 1 / 3).mean(axis=1)
    belief = (np.array(mono) + holo) * np.minimum(distance / distance[::-1], 1)
    weights = np.exp(belief) / np.exp(belief).sum()
    logits = (weights[:, None] * centred_logits(one)[0]).sum(axis=0)
    np.testing.assert_allclose(rule.predict_proba(one), [np.exp(logits) / np.exp(logits).sum()], rtol=1e-6)


def test_discounted_belief_by_hand() -> None:
    # (0.8, 0.2) is the opinion b = (0.6, 0), u = 0.4; (0.3, 0.7) is b = (0, 0.4), u = 0.6. Their distance is 0.5 and
    # their conflict 0.5 · 0.6 · 0.4 = 0.12, so both are discounted by 0.88: evidence 2 · 0.528 / 0.472 and 2 · 0.352
    # / 0.648.
    # conflict 0.5 · 0.6 · 0.4 = 0.12, so both are discounted by 0.88: evidence 2 · 0.528 / 0.472 and 2 · 0.352 / 0.648.
    P = np.array([[[0.8, 0.2], [0.3, 0.7]]])
    rule = fitted(DiscountedBeliefFusion())
    evidence = np.array([2 * 0.528 / 0.472, 2 * 0.352 / 0.648]) / 2
    np.testing.assert_allclose(rule.predict_proba(P), [(evidence + 1) / (evidence + 1).sum()])
    np.testing.assert_allclose(rule.uncertainty(P), [2 / (evidence.sum() + 2)])


def test_conflict_moves_mass_to_uncertain() -> None:
    rule = fitted(DiscountedBeliefFusion())
    agree, clash = np.array([[[0.9, 0.1], [0.9, 0.1]]]), np.array([[[0.9, 0.1], [0.1, 0.9]]])
    np.testing.assert_allclose(rule.predict_proba(agree), [[0.9, 0.1]])
    assert rule.uncertainty(clash) > rule.uncertainty(agree)
    strict = fitted(DiscountedBeliefFusion(strength=0.5))
    assert strict.uncertainty(clash) > rule.uncertainty(clash)
    assert np.isnan(rule.uncertainty(np.full((1, 2, 2), NAN))).all()
    three = random_experts(50)
    whole = fitted(DiscountedBeliefFusion(), 3, 4)
    for order in permutations(range(3)):
        np.testing.assert_allclose(whole.predict_proba(three[:, order]), whole.predict_proba(three))


def test_rows_over_block_borders_are_answered_alike() -> None:
    rows = 2 * BLOCK_SIZE // 12 + 7
    P = random_experts(rows, gaps=0.2)
    rule = fitted(MeanRule(), 3, 4)
    counted = np.maximum((~np.isnan(P[:, :, 0])).sum(axis=1), 1)[:, None]
    expected = np.nansum(P, axis=1) / counted
    expected[np.isnan(P).all(axis=(1, 2))] = NAN
    np.testing.assert_allclose(rule.predict_proba(P), expected)
    expected[np.isnan(expected)] = rule.prior_[0]
    assert (rule.predict(P) == expected.argmax(axis=1)).all()
    P[rows - 1, 2] = [0.5, 0.6, 0.0, 0.0]
    with pytest.raises(DataError, match=f"row {rows - 1}, modality 2: .* sum of 1.1"):
        rule.predict(P)
    P[rows - 1, 2] = [NAN, 1.0, 0.0, 0.0]
    with pytest.raises(DataError, match=f"row {rows - 1}, modality 2: some classes are NaN"):
        rule.predict(P)


def test_labels_may_be_names_or_columns() -> None:
    P = np.array([[[0.9, 0.1]], [[0.2, 0.8]]])
    named = MeanRule().fit(P, ["happy", "angry"])
    assert named.classes_.tolist() == LABELS
    assert named.predict(P).tolist() == ["angry", "happy"]
    assert MeanRule().fit(P, [1, 1]).classes_.tolist() == [0, 1], "columns need not all occur"
    assert MeanRule().fit(P, [5, 7]).predict(P).tolist() == [5, 7]
    with pytest.raises(DataError, match="P has 2 classes, but y holds 1 distinct labels: happy"):
        MeanRule().fit(P, ["happy", "happy"])
    with pytest.raises(DataError, match="P has 2 rows, but y has 3"):
        MeanRule().fit(P, [0, 1, 1])
    with pytest.raises(DataError, match="at least one row"):
        MeanRule().fit(P[:0], [])
    with pytest.raises(DataError, match=r"P has 2 rows, but groups has the shape \(3,\)"):
        MeanRule().fit(P, [0, 1], groups=[1, 2, 3])


def test_rules_are_loaded_by_name() -> None:
    rules = importlib.import_module("affuse.fusion.rules")
    assert rules.__getattr__("MeanRule") is MeanRule
    assert {"MeanRule", "BordaCount", "__all__"} <= set(dir(rules))
    with pytest.raises(AttributeError, match=r"module 'affuse\.fusion\.rules' has no attribute 'Nothing'"):
        _ = rules.Nothing


def test_a_rule_that_does_not_say_how_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="Fuser does not say how it combines"):
        answer(Fuser(), FACE_AND_VOICE)


def test_input_is_not_written_to() -> None:
    P = random_experts(gaps=0.2)
    P.flags.writeable = False
    for rule in (MeanRule(), MaxRule(), MinRule(), MedianRule(), ProductRule(), MajorityVote(), BordaCount()):
        assert len(fitted(rule, 3, 4).predict(P)) == len(P)
