"""Random effects of persons and collections: densities by hand, shifts that are known, and what may not be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from affuse.errors import ConfigError, DataError
from affuse.fusion import NamedFuser, RandomEffectsFusion
from affuse.fusion.effects import trust
from affuse.fusion.mixed_model import coordinates, helmert
from affuse.labels import EKMAN

FLOOR = 1e-9  # so low that it changes nothing


def probabilities(X: np.ndarray, k: int) -> np.ndarray:
    """P (n, m, k) whose contrasts are X (n, m (k - 1))."""
    L = X.reshape(len(X), -1, k - 1) @ helmert(k).T
    E = np.exp(L - L.max(axis=2, keepdims=True))
    return np.asarray(E / E.sum(axis=2, keepdims=True))


def covariance(rng: np.random.Generator, d: int, size: float = 1.0) -> np.ndarray:
    A = rng.normal(size=(d, 2 * d))
    return np.asarray(size * A @ A.T / (2 * d))


def known(seed: int = 0, m: int = 2, k: int = 3, separate: float = 0.0, domain: float = 0.3) -> RandomEffectsFusion:
    """A fuser that holds what was drawn, not learned."""
    rng = np.random.default_rng(seed)
    d = m * (k - 1)
    prior = rng.dirichlet(np.full(k, 5.0))
    fuser = RandomEffectsFusion(FLOOR, separate=separate, prior=prior)
    fuser.fit(rng.dirichlet(np.ones(k), size=(6 * k, m)), np.tile(np.arange(k), 6))
    fuser.means_ = 1.5 * rng.normal(size=(k, d))
    fuser.within_, fuser.person_ = covariance(rng, d), covariance(rng, d, 0.5)
    fuser.common_ = domain * np.eye(d)
    return fuser


def simulated(
    fuser: RandomEffectsFusion, labels: np.ndarray, seed: int = 0, common: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (p, n, m, k) of persons whose ``labels`` (p, n) are given, as the fuser's own model has them; shifts (p, d).

    ``common`` (d,) is what all of them share.
    """
    rng = np.random.default_rng(seed)
    people, n = labels.shape
    d = fuser.means_.shape[1]
    shifts = rng.multivariate_normal(np.zeros(d), fuser.person_, size=people)
    noise = rng.multivariate_normal(np.zeros(d), fuser.within_, size=(people, n))
    X = fuser.means_[labels] + shifts[:, None] + noise + (0 if common is None else common)
    P = probabilities(X.reshape(people * n, d), len(fuser.prior_))
    return P.reshape(people, n, *P.shape[1:]), shifts


def five_labels(separate: float = 0.0) -> RandomEffectsFusion:
    """Two experts that tell five labels apart well, and persons who differ nearly as much as their clips."""
    rng = np.random.default_rng(5)
    k, m = 5, 2
    even = np.full(k, 1 / k)
    fuser = RandomEffectsFusion(FLOOR, separate=separate, prior=even)
    fuser.fit(rng.dirichlet(np.ones(k), size=(4 * k, m)), np.tile(np.arange(k), 4))
    fuser.means_ = np.tile(2.2 * helmert(k), (1, m))
    fuser.within_, fuser.person_, fuser.common_ = np.eye(8), 0.8 * np.eye(8), np.zeros((8, 8))
    return fuser


def of_one_label(people: int, n: int, share: float, seed: int) -> np.ndarray:
    """Labels (people, n) of persons who show one label in ``share`` of their rows, and the other four in the rest."""
    rng = np.random.default_rng(seed)
    mostly = np.arange(people)[:, None] % 5
    others = (mostly + rng.integers(1, 5, size=(people, n))) % 5
    return np.where(np.arange(n) < round(share * n), mostly, others)


def accuracies(
    fuser: RandomEffectsFusion, P: np.ndarray, labels: np.ndarray, of: str = "person"
) -> tuple[float, float]:
    """Share of right answers by the fuser as it is, and as it is for each person."""
    plain = np.array([fuser.predict(own) for own in P])
    adapted = np.array([fuser.adapt(own, of=of).predict(own) for own in P])
    return float((plain == labels).mean()), float((adapted == labels).mean())


# --- contrasts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 7])
def test_contrasts_are_orthonormal_and_sum_to_0(k: int) -> None:
    H = helmert(k)
    np.testing.assert_allclose(H.T @ H, np.eye(k - 1), atol=1e-12)
    np.testing.assert_allclose(H.sum(axis=0), 0, atol=1e-12)


def test_coordinates_by_hand() -> None:
    # Two labels: (log p - log q) / √2. The second modality is floored at .1, the third has no evidence.
    P = np.array([[[0.8, 0.2], [1.0, 0.0], [np.nan, np.nan]]])
    expected = [np.log(4) / np.sqrt(2), np.log(10) / np.sqrt(2), np.nan]
    np.testing.assert_allclose(coordinates(P, 0.1), [expected])


@given(st.integers(2, 6), st.integers(1, 3), st.floats(0.1, 10), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_coordinates_ignore_a_constant_and_lead_back(k: int, m: int, factor: float, seed: int) -> None:
    P = np.random.default_rng(seed).dirichlet(np.ones(k), size=(4, m))
    P = (P + 0.01) / (1 + 0.01 * k)
    X = coordinates(P, FLOOR)
    np.testing.assert_allclose(coordinates(factor * P, FLOOR), X, atol=1e-9)
    np.testing.assert_allclose(probabilities(X, k), P, atol=1e-12)


# --- Bayes ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.sampled_from([(1, 2), (1, 4), (2, 3), (3, 2)]), st.data())
@settings(max_examples=30, deadline=None)
def test_answers_are_the_posterior_of_the_model_also_with_gaps(seed: int, shape: tuple[int, int], data: Any) -> None:
    m, k = shape
    fuser = known(seed, m, k)
    fuser.shift_ = np.random.default_rng(seed).normal(size=m * (k - 1))
    here = np.array(data.draw(st.lists(st.booleans(), min_size=m, max_size=m).filter(any)))
    X = np.random.default_rng(seed + 1).normal(size=(3, m * (k - 1)))
    P = probabilities(X, k)
    P[:, ~here] = np.nan
    own = np.repeat(here, k - 1)
    whole = (fuser.within_ + fuser.person_ + fuser.common_)[np.ix_(own, own)]
    density = np.stack(
        [multivariate_normal((fuser.means_[c] + fuser.shift_)[own], whole).pdf(X[:, own]) for c in range(k)], axis=1
    )
    expected = fuser.prior_ * density
    np.testing.assert_allclose(fuser.predict_proba(P), expected / expected.sum(axis=1, keepdims=True), atol=1e-7)


def test_rows_with_and_without_gaps_are_answered_like_each_by_itself() -> None:
    fuser = known(1)
    P = probabilities(np.random.default_rng(0).normal(size=(8, 4)), 3)
    P[::2, 0], P[4:6, 1] = np.nan, np.nan
    answers = fuser.predict_proba(P)
    assert np.isnan(answers[4]).all()
    assert np.isfinite(np.delete(answers, 4, axis=0)).all()
    np.testing.assert_allclose(answers, np.concatenate([fuser.predict_proba(P[[i]]) for i in range(8)]), atol=1e-12)


def test_without_persons_it_is_linear_discriminant_analysis() -> None:
    rng = np.random.default_rng(0)
    y = rng.permutation(np.tile(np.arange(4), 5000))
    X = rng.multivariate_normal(np.zeros(3), covariance(rng, 3), size=len(y)) + rng.normal(size=(4, 3))[y]
    P = probabilities(X, 4)
    fuser = RandomEffectsFusion(FLOOR).fit(P, y)
    np.testing.assert_allclose(fuser.person_, np.eye(3) * 0.25 * np.trace(fuser.within_) / 3)  # assumed
    fuser.person_ = np.zeros((3, 3))
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(X, y).predict_proba(X)
    np.testing.assert_allclose(fuser.predict_proba(P), reference, atol=0.01)


def test_means_and_shrinkage_by_hand() -> None:
    # Contrasts ±1 around 3 and around 0, two rows each; overall mean 1.5 counts for two rows more.
    P = probabilities(np.array([[2.0], [4.0], [-1.0], [1.0]]), 2)
    fuser = RandomEffectsFusion(FLOOR).fit(P, [0, 0, 1, 1])
    np.testing.assert_allclose(fuser.means_, [[(6 + 3) / 4], [(0 + 3) / 4]])
    # Residuals -.25, 1.75, -1.75, .25: with one dimension the shrinkage goes to itself.
    np.testing.assert_allclose(fuser.within_, [[(2 * 0.25**2 + 2 * 1.75**2) / 4]])
    np.testing.assert_allclose(fuser.person_, fuser.within_ / 4)
    np.testing.assert_allclose(fuser.prior_, [0.5, 0.5])


def test_a_prior_of_its_own_is_the_answers() -> None:
    P, y = np.full((4, 1, 2), 0.5), [0, 0, 0, 1]
    fuser = RandomEffectsFusion(prior=[3, 1]).fit(P, y)
    np.testing.assert_allclose(fuser.prior_, [0.75, 0.25])
    np.testing.assert_allclose(fuser.predict_proba(P), np.tile([0.75, 0.25], (4, 1)))  # all rows alike tell nothing


# --- learning ---------------------------------------------------------------------------------------------------------


def test_learned_covariances_are_those_of_the_rows() -> None:
    truth = five_labels()
    rng = np.random.default_rng(1)
    truth.person_, truth.within_ = covariance(rng, 8, 0.8), covariance(rng, 8)
    labels = rng.integers(5, size=(250, 30))
    P, _ = simulated(truth, labels)
    people = np.repeat([f"person {i}" for i in range(250)], 30)
    fuser = RandomEffectsFusion(FLOOR).fit(P.reshape(-1, 2, 5), labels.ravel(), people)

    def distance(found: np.ndarray, true: np.ndarray) -> float:
        return float(np.linalg.norm(found - true) / np.linalg.norm(true))

    assert distance(fuser.person_, truth.person_) < 0.2
    assert distance(fuser.within_, truth.within_) < 0.1
    assert np.abs(fuser.means_ - truth.means_).max() < 0.2
    np.testing.assert_allclose(np.linalg.norm(fuser.common_), 0)


def test_learned_with_gaps_modalities_never_seen_together_are_independent() -> None:
    truth = five_labels()
    labels = np.random.default_rng(0).integers(5, size=(60, 20))
    P, _ = simulated(truth, labels)
    P[::2, :, 0], P[1::2, :, 1] = np.nan, np.nan
    people = np.repeat(np.arange(60), 20)
    fuser = RandomEffectsFusion(FLOOR, domain=[1.0, 2.0]).fit(P.reshape(-1, 2, 5), labels.ravel(), people)
    assert not fuser.within_[:4, 4:].any()
    assert np.abs(fuser.person_[:4, 4:]).max() < 1e-9
    assert np.diag(fuser.common_).tolist() == [1.0] * 4 + [2.0] * 4


def test_rows_without_evidence_change_nothing_that_is_learned() -> None:
    rng = np.random.default_rng(0)
    P, y, people = rng.dirichlet(np.ones(3), size=(60, 2)), np.arange(60) % 3, np.arange(60) % 6
    gaps = np.concatenate([P, np.full((30, 2, 3), np.nan)])
    plain = RandomEffectsFusion().fit(P, y, people)
    padded = RandomEffectsFusion().fit(
        gaps, np.concatenate([y, np.arange(30) % 3]), np.concatenate([people, people[:30]])
    )
    for name in ("means_", "within_", "person_", "prior_"):
        np.testing.assert_allclose(getattr(padded, name), getattr(plain, name))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"floor": 0.5}, "floor must lie between 0 and 1 / 2; got 0.5"),
        ({"floor": 0}, "floor must lie between 0 and 1 / 2; got 0"),
        ({"domain": -1}, "domain must be at least 0, one for each of 3 modalities; got -1"),
        ({"domain": [1, 2]}, "domain must be at least 0, one for each of 3 modalities"),
        ({"separate": 1}, "separate must be from 0 to below 1; got 1"),
    ],
)
def test_parameters_out_of_bounds_are_one_sentence(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        RandomEffectsFusion(**parameters).fit(np.full((4, 3, 2), 0.5), [0, 1, 0, 1])


def test_nothing_can_be_learned_from_nothing() -> None:
    with pytest.raises(DataError, match="no row has any evidence"):
        RandomEffectsFusion().fit(np.full((4, 3, 2), np.nan), [0, 1, 0, 1])
    with pytest.raises(DataError, match="prior must hold one number for each of 2 classes"):
        RandomEffectsFusion(prior=[1, 2, 3]).fit(np.full((4, 3, 2), 0.5), [0, 1, 0, 1])


# --- shifts -----------------------------------------------------------------------------------------------------------


def test_a_shift_by_hand() -> None:
    # Two labels, one modality. Prior mean of a row 0; three rows of variance 1 around a shift of variance 2:
    # precision 1/2 + 3, mean (.5 + 1 + 1.5) / 3.5.
    fuser = RandomEffectsFusion(FLOOR, prior=[1, 1]).fit(np.array([[[0.8, 0.2]], [[0.2, 0.8]]]), [0, 1])
    fuser.means_, fuser.within_, fuser.person_ = np.array([[1.0], [-1.0]]), np.eye(1), 2 * np.eye(1)
    P = probabilities(np.array([[0.5], [1.0], [1.5]]), 2)
    found = fuser.shifted(P, np.ones(3), 1.0)
    np.testing.assert_allclose(found.shift_, [3 / 3.5])
    np.testing.assert_allclose(found.person_, [[1 / 3.5]])
    assert found.adapted_ == {"n": 3, "trust": 1.0, "known": pytest.approx(1 - 1 / 7)}
    half = fuser.shifted(P, np.ones(3), 0.5)
    np.testing.assert_allclose(half.shift_, [1.5 / 3.5])
    np.testing.assert_allclose(half.person_, [[(2 + 1 / 3.5) / 2]])
    # With labels, what is left of every row is compared with its label's mean: -.5, 0, 2.5.
    np.testing.assert_allclose(fuser.labelled_shift(P, np.array([0, 0, 1])), [2 / 3.5])
    np.testing.assert_array_equal(fuser.shift_, [0.0])  # the fuser itself stays


def test_the_shift_of_balanced_persons_lies_within_its_error() -> None:
    truth = five_labels()
    labels = np.tile(np.arange(5), (400, 4))
    P, shifts = simulated(truth, labels, seed=3)
    off = []
    for own, shift in zip(P, shifts, strict=True):
        found = truth.shifted(own, np.ones(len(own)), 1.0)
        error = found.shift_ - shift
        off.append(error @ np.linalg.solve(found.person_, error))
    assert np.mean(off) == pytest.approx(8, rel=0.1), "squared errors are as large as stated: chi-squared of 8"


def test_what_is_known_grows_and_the_rest_shrinks() -> None:
    fuser = known(2)
    P = probabilities(np.random.default_rng(0).normal(size=(20, 4)), 3)
    P[3:8, 1] = np.nan
    before = fuser.person_ + fuser.common_
    last = 0.0
    for n in (1, 3, 20):
        found = fuser.shifted(P[:n], np.ones(n), 1.0)
        assert np.linalg.eigvalsh(before - found.person_ - found.common_).min() > -1e-8
        assert last < found.adapted_["known"] < 1
        last = found.adapted_["known"]


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.sampled_from(["person", "collection"]))
@settings(max_examples=25, deadline=None)
def test_a_shift_is_the_same_in_two_steps_as_in_one(seed: int, first: int, of: str) -> None:
    fuser = known(seed)
    rng = np.random.default_rng(seed)
    P, counts = probabilities(rng.normal(size=(10, 4)), 3), rng.uniform(0.2, 1, size=10)
    P[rng.random((10, 2)) < 0.3] = np.nan
    whole = fuser.shifted(P, counts, 1.0, of)
    step = fuser.shifted(P[:first], counts[:first], 1.0, of).shifted(P[first:], counts[first:], 1.0, of)
    np.testing.assert_allclose(step.shift_, whole.shift_, atol=1e-6)
    np.testing.assert_allclose(step.person_ + step.common_, whole.person_ + whole.common_, atol=1e-6)


def test_a_row_that_counts_twice_is_two_rows() -> None:
    fuser = known(3)
    P = probabilities(np.random.default_rng(0).normal(size=(6, 4)), 3)
    once = fuser.shifted(np.concatenate([P, P[:2]]), np.ones(8), 1.0)
    twice = fuser.shifted(P, np.array([2.0, 2, 1, 1, 1, 1]), 1.0)
    np.testing.assert_allclose(twice.shift_, once.shift_)


def test_nothing_taken_over_is_the_same_answers() -> None:
    fuser = known(4, separate=0.2)
    P = probabilities(np.random.default_rng(0).normal(size=(6, 4)), 3)
    for of in ("person", "member", "collection"):
        found = fuser.shifted(P, np.ones(6), 0.0, of)
        np.testing.assert_array_equal(found.predict_proba(P), fuser.predict_proba(P))
        assert found.adapted_ == {"n": 6, "trust": 0.0, "known": 0.0}


def test_rows_are_freed_of_a_shift() -> None:
    fuser = known(0)
    rng = np.random.default_rng(0)
    X, shift = rng.normal(size=(5, 4)), rng.normal(size=4)
    P = probabilities(X + shift, 3)
    P[2, 1] = np.nan
    freed = fuser.move(P, shift)
    assert np.isnan(freed[2, 1]).all()
    expected = probabilities(X, 3)
    expected[2, 1] = np.nan
    np.testing.assert_allclose(freed, expected)


# --- persons and collections ------------------------------------------------------------------------------------------


def test_adapting_to_balanced_persons_answers_better() -> None:
    fuser = five_labels()
    labels = np.tile(np.arange(5), (40, 8))
    P, _ = simulated(fuser, labels, seed=1)
    plain, adapted = accuracies(fuser, P, labels)
    assert adapted > plain + 0.03


def test_a_person_of_one_label_keeps_the_answers() -> None:
    fuser = five_labels()
    P, _ = simulated(fuser, of_one_label(40, 30, 1.0, 0), seed=2)
    assert max(fuser.adapt(own).adapted_["trust"] for own in P) < 0.02
    plain, adapted = accuracies(fuser, P, of_one_label(40, 30, 1.0, 0))
    assert adapted >= plain - 0.002


@pytest.mark.parametrize("share", [0.6, 0.7, 0.8])
def test_persons_of_mostly_one_label_lose_at_most_a_point(share: float) -> None:
    fuser = five_labels()
    labels = of_one_label(60, 40, share, 1)
    P, _ = simulated(fuser, labels, seed=3)
    plain, adapted = accuracies(fuser, P, labels)
    assert adapted >= plain - 0.01


def test_three_clips_change_next_to_nothing() -> None:
    fuser = five_labels()
    labels = np.random.default_rng(0).integers(5, size=(150, 3))
    P, _ = simulated(fuser, labels, seed=4)
    plain, adapted = accuracies(fuser, P, labels)
    assert adapted >= plain - 0.01
    assert max(fuser.adapt(own).adapted_["trust"] for own in P) <= 3 / 13


def test_one_clip_and_none_change_nothing() -> None:
    fuser = five_labels()
    P, _ = simulated(fuser, np.array([[0]]))
    for rows in (P[0], P[0, :0], np.full((4, 2, 5), np.nan)):
        adapted = fuser.adapt(rows)
        assert adapted.adapted_["trust"] == 0
        np.testing.assert_array_equal(adapted.predict_proba(P[0]), fuser.predict_proba(P[0]))


def test_a_collection_shares_a_shift_and_its_persons_have_their_own() -> None:
    fuser = five_labels()
    fuser.common_ = np.eye(8)
    labels = np.random.default_rng(0).integers(5, size=(40, 20))
    shared = np.random.default_rng(1).normal(size=8)
    P, _ = simulated(fuser, labels, seed=5, common=shared)
    rows = P.reshape(-1, 2, 5)
    collection = fuser.adapt(rows, np.full(len(rows), 0.2), of="collection")
    assert collection.adapted_["known"] > 0.8
    assert np.linalg.norm(collection.shift_ - shared) < 0.5 * np.linalg.norm(shared)
    np.testing.assert_array_equal(collection.person_, fuser.person_)
    plain = float((fuser.predict(rows) == labels.ravel()).mean())
    once, twice = accuracies(collection, P, labels, of="member")
    assert plain + 0.02 < once < twice - 0.01


def test_facts_say_what_was_found() -> None:
    fuser = five_labels()
    labels = np.tile(np.arange(5), (1, 6))
    P, _ = simulated(fuser, labels)
    P[0, :3] = np.nan
    facts = fuser.adapt(P[0]).adapted_
    assert facts["n"] == 27
    assert facts["trust"] == trust(fuser.predict_proba(P[0, 3:]), np.ones(27), fuser.prior_)
    assert 0 < facts["known"] < facts["trust"]
    assert fuser.adapted_ == {}


@pytest.mark.parametrize("m", [1, 3])
def test_rows_to_adapt_to_must_fit(m: int) -> None:
    with pytest.raises(DataError, match=f"expected 2 modalities as in fit; got {m}"):
        five_labels().adapt(np.full((4, m, 5), 0.2))


def test_weights_to_adapt_by_must_fit() -> None:
    fuser, P = five_labels(), np.full((4, 2, 5), 0.2)
    with pytest.raises(DataError, match="P has 4 rows, but weights has the shape"):
        fuser.adapt(P, np.ones(3))
    with pytest.raises(DataError, match="weights must be at least 0"):
        fuser.adapt(P, [1, 1, 1, -1])
    with pytest.raises(ConfigError, match="'crowd'; known: person, member, collection"):
        fuser.adapt(P, of="crowd")


def test_an_adapted_fuser_survives_the_way_to_disk(tmp_path: Path) -> None:
    fuser = five_labels(separate=0.1)
    P, _ = simulated(fuser, np.tile(np.arange(5), (1, 8)))
    named = NamedFuser(fuser, ("face", "voice"), tuple("abcde")).adapt(P[0], ("face", "voice"))
    named.write(tmp_path)
    read = NamedFuser.read(tmp_path)
    np.testing.assert_array_equal(read.fuser.shift_, named.fuser.shift_)
    assert np.abs(read.fuser.shift_).max() > 0
    assert dict(read.adapted) == dict(named.adapted)
    np.testing.assert_array_equal(read.fuse(P[0], ("face", "voice")), named.fuse(P[0], ("face", "voice")))


def test_seen_through_other_labels_it_adapts_the_same() -> None:
    fuser = five_labels()
    P, _ = simulated(fuser, np.tile(np.arange(5), (1, 8)))
    own = ("joy", "fear", "sad", "angry", "neutral")
    named = NamedFuser(fuser, ("face", "voice"), own)
    emotions = named.over_emotions()
    columns = [EKMAN.labels.index(name) for name in ("happiness", "fear", "sadness", "anger", "neutral")]
    Q = np.zeros((40, 2, 7))
    Q[:, :, columns] = P[0]
    assert emotions.adapts
    adapted = emotions.adapt(Q, ("face", "voice"))
    expected = named.adapt(P[0], ("face", "voice"))
    assert dict(adapted.adapted) == pytest.approx(dict(expected.adapted))
    np.testing.assert_allclose(
        adapted.fuse(Q, ("face", "voice"))[:, columns], expected.fuse(P[0], ("face", "voice")), atol=1e-9
    )


def test_with_one_more_modality_the_others_adapt_the_same() -> None:
    fuser = five_labels()
    P, _ = simulated(fuser, np.tile(np.arange(5), (1, 8)))
    named = NamedFuser(fuser, ("face", "voice"), tuple("abcde"))
    wide = named.with_modality("words")
    Q = np.concatenate([P[0], np.full((40, 1, 5), np.nan)], axis=1)
    adapted = wide.adapt(Q, wide.modalities)
    expected = named.adapt(P[0], named.modalities)
    assert dict(adapted.adapted) == dict(expected.adapted)
    np.testing.assert_allclose(adapted.fuse(Q, wide.modalities), expected.fuse(P[0], named.modalities))
    Q[:, 2] = 0.05
    Q[:, 2, 0] = 0.8
    product = expected.fuse(P[0], named.modalities) * Q[:, 2]  # over an even prior
    np.testing.assert_allclose(
        adapted.fuse(Q, wide.modalities), product / product.sum(axis=1, keepdims=True), atol=1e-6
    )


# --- trust ------------------------------------------------------------------------------------------------------------


def bits(p: float) -> float:
    return float(-p * np.log2(p) - (1 - p) * np.log2(1 - p))


def test_trust_by_hand() -> None:
    even = np.array([0.5, 0.5])

    def of(a: float, b: float, what: str = "person", n: int = 40) -> float:
        return trust(np.tile([[a, 1 - a], [b, 1 - b]], (n // 2, 1)), np.ones(n), even, what)

    assert of(0.9, 0.1) == pytest.approx(40 / 50), "as diverse and even as can be: only the number of rows counts"
    assert of(0.9, 0.1, n=2) == pytest.approx(2 / 12)
    # Diversity .3, halfway from .25 to .35, where each answer has an entropy of .7 bits.
    a = brentq(lambda p: bits(p) - 0.7, 0.5, 0.999)
    assert of(a, 1 - a) == pytest.approx(0.8 * 0.5)
    # Of a collection .42 is halfway from .37 to .47.
    a = brentq(lambda p: bits(p) - 0.58, 0.5, 0.999)
    assert of(a, 1 - a, "collection") == pytest.approx(0.8 * 0.5)
    assert of(a, 1 - a, "person") == pytest.approx(0.8)
    # Certain answers whose mean is .065 of a bit from even: halfway from .9 to .97.
    a = brentq(lambda p: 1 - bits(p) - 0.065, 0.5, 0.999)
    answers, counts = np.eye(2), np.array([a, 1 - a])
    for what, expected in (("person", 0.5), ("member", 1.0), ("collection", 1.0)):
        assert trust(answers, 100 * counts, even, what) == pytest.approx(100 / 110 * expected, rel=1e-3)


def test_trust_is_measured_from_the_prior() -> None:
    prior = np.array([0.8, 0.2])
    rows = np.eye(2)[[0, 0, 0, 0, 1] * 8]
    assert trust(rows, np.ones(40), prior) == pytest.approx(0.8)
    assert trust(rows, np.ones(40), np.array([0.2, 0.8])) == 0


def test_no_rows_and_rows_that_count_for_nothing_are_not_trusted() -> None:
    even = np.array([0.5, 0.5])
    assert trust(np.zeros((0, 2)), np.ones(0), even) == 0
    assert trust(np.eye(2), np.zeros(2), even) == 0
    assert trust(np.eye(2)[:1], np.ones(1), even) == 0


@given(st.integers(2, 30), st.integers(2, 7), st.floats(0.05, 5), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_trust_lies_in_its_bounds_and_does_not_see_the_order(n: int, k: int, sure: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers, prior, counts = rng.dirichlet(np.full(k, sure), n), np.full(k, 1 / k), rng.uniform(0.1, 1, n)
    turned, back = rng.permutation(k), rng.permutation(n)
    found = trust(answers, counts, prior)
    assert 0 <= found <= counts.sum() / (counts.sum() + 10)
    assert trust(answers[back][:, turned], counts[back], prior) == pytest.approx(found)
    assert trust(np.concatenate([answers] * 2), np.concatenate([counts] * 2) / 2, prior) == pytest.approx(found)
    assert found <= trust(answers, counts, prior, "member") + 1e-12


# --- different causes -------------------------------------------------------------------------------------------------


def test_contradiction_costs_confidence_and_agreement_none() -> None:
    joint, apart = five_labels(), five_labels(separate=0.2)
    same, other = (np.tile(2.2 * helmert(5)[c], 2) for c in (0, 1))
    clash = np.concatenate([2 * same[:4], other[4:]])  # the first modality is surer than the second
    P = probabilities(np.array([1.5 * same, clash]), 5)
    sure, unsure = joint.predict_proba(P), apart.predict_proba(P)
    assert unsure[0].max() == pytest.approx(sure[0].max(), abs=0.01)
    assert unsure[1].max() < sure[1].max() - 0.05
    assert (unsure.argmax(axis=1) == 0).all()


def test_share_of_different_causes_by_hand() -> None:
    fuser, joint = known(5, m=2, k=2, separate=0.3), known(5, m=2, k=2)
    P = probabilities(np.array([[1.0, -2.0]]), 2)
    face, voice = (joint.predict_proba(np.where((np.arange(2) == j)[:, None], P, np.nan))[0] for j in (0, 1))
    one_cause = (face * voice / fuser.prior_).sum()
    share = 0.3 / (0.3 + 0.7 * one_cause)
    expected = (1 - share) * joint.predict_proba(P)[0] + share * (face + voice) / 2
    np.testing.assert_allclose(fuser.predict_proba(P)[0], expected, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.9))
@settings(max_examples=30, deadline=None)
def test_answers_lie_between_the_joint_one_and_the_opinions(seed: int, separate: float) -> None:
    joint, apart = known(seed, m=3), known(seed, m=3, separate=separate)
    rng = np.random.default_rng(seed)
    P = probabilities(2 * rng.normal(size=(6, 6)), 3)
    P[rng.random((6, 3)) < 0.4] = np.nan
    P[:, 0] = np.where(np.isnan(P).all(axis=(1, 2))[:, None], 1 / 3, P[:, 0])
    answers, together = apart.predict_proba(P), joint.predict_proba(P)
    np.testing.assert_allclose(answers.sum(axis=1), 1)
    only = (~np.isnan(P[:, :, 0])).sum(axis=1) == 1
    np.testing.assert_allclose(answers[only], together[only], atol=1e-12)
    opinions = [joint.predict_proba(np.where((np.arange(3) == j)[:, None], P, np.nan)) for j in range(3)]
    mean = np.nanmean(np.stack(opinions), axis=0)
    low, high = np.minimum(together, mean), np.maximum(together, mean)
    assert ((answers >= low - 1e-9) & (answers <= high + 1e-9)).all()
