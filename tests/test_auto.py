"""The automatic choice: which family wins, the promise to the best modality, shares, missing modalities, few rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from affuse.data.prediction_sets.cremad_votes import read_cremad_votes
from affuse.data.prediction_sets.emotiontalk import read_emotiontalk
from affuse.errors import ConfigError
from affuse.evaluation.comparison import choice_of, noisy
from affuse.evaluation.protocol import rows_of
from affuse.fusion import AutoFusion, ClasswisePool, registry, shapley_shares
from affuse.fusion.persistence import MODEL, load, save
from affuse.fusion.trust.auto import FAMILIES, _mix_weights, _simplest

K = 3
BY_CLASS = ((3.0, 0.0, 1.0), (0.0, 3.0, 1.0))
EVEN = ((1.5,) * 3, (1.5,) * 3)


def simulated(
    n: int = 1200, seed: int = 0, skill: tuple[tuple[float, ...], ...] = EVEN
) -> tuple[np.ndarray, np.ndarray]:
    """Experts whose skill depends on the label: P (n, m, 3) and labels (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(K, size=n)
    L = rng.normal(size=(n, len(skill), K))
    for j, by_class in enumerate(skill):
        L[np.arange(n), j, y] += np.array(by_class)[y]
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


def test_auto_is_the_contest() -> None:
    assert registry.find("auto") is AutoFusion


# Which family wins


def test_the_simplest_family_within_one_error_wins() -> None:
    # Four groups of one row: worse by 1, 1, 1 and -1 is .5 on average, with an error of .5; by 1 throughout, of 0.
    best = np.zeros(4)
    losses = {"pool": np.array([1.0, 1.0, 1.0, -1.0]), "classwise": best, "stacking": best - 0.001}
    assert _simplest(losses, ("pool", "classwise", "stacking"), np.arange(4)) == "classwise"  # .001 is immaterial
    losses = {"pool": np.ones(4), "classwise": best + 0.1, "stacking": best}
    assert _simplest(losses, ("pool", "classwise", "stacking"), np.arange(4)) == "stacking"
    losses = {"pool": np.array([1.0, 0.5, 0.0, -1.0]), "stacking": best}
    assert _simplest(losses, ("pool", "stacking"), np.arange(4)) == "pool"  # .125, error .43


def test_weights_of_a_mix_are_those_that_explain_the_labels() -> None:
    # The first is right with .9 in three of four rows, the second in the other one: by symmetry the EM's fixed point
    # is where w .9 / (w .9 + (1 - w) .1) averages to w: w = (3 .9 - 1 .1 ...) found by a grid here.
    P = np.tile([[[0.9, 0.1], [0.1, 0.9]]], (4, 1, 1))
    y = np.array([0, 0, 0, 1])
    grid = np.linspace(0, 1, 1001)
    likelihood = 3 * np.log(grid * 0.9 + (1 - grid) * 0.1) + np.log(grid * 0.1 + (1 - grid) * 0.9)
    assert _mix_weights(P, y)[0] == pytest.approx(grid[likelihood.argmax()], abs=2e-3)


def test_a_pool_is_enough_where_experts_are_alike() -> None:
    P, y = simulated()
    fuser = AutoFusion().fit(P, y)
    assert fuser.choice in ("pool", "log_pool")
    assert set(fuser.losses_) == set(FAMILIES)
    assert choice_of(fuser, ("face", "voice")) == fuser.choice


def test_reliability_by_class_wins_where_it_matters() -> None:
    P, y = simulated(skill=BY_CLASS)
    fuser = AutoFusion().fit(P, y)
    assert fuser.choice == "classwise"
    new, truth = simulated(seed=1, skill=BY_CLASS)
    assert fuser.score(new, truth) > registry.make("safe").fit(P, y).score(new, truth) + 0.01


def test_families_can_be_named() -> None:
    P, y = simulated(400)
    fuser = AutoFusion(families=("log_pool", "trees")).fit(P, y)
    assert set(fuser.losses_) == {"log_pool", "trees"}
    assert fuser.choice == "log_pool"
    with pytest.raises(ConfigError, match=r"families must be among pool, .*; got forest"):
        AutoFusion(families=("pool", "forest")).fit(P, y)
    with pytest.raises(ConfigError, match="got none"):
        AutoFusion(families=()).fit(P, y)
    for odd in (AutoFusion(level=1), AutoFusion(folds=1)):
        with pytest.raises(ConfigError, match="level must be between 0 and 1 and folds at least 2"):
            odd.fit(P, y)


def test_a_mix_is_the_weighted_mean_of_its_members() -> None:
    P, y = simulated(600, skill=BY_CLASS)
    fuser = AutoFusion().fit(P, y)
    number = fuser._number_of(np.ones(2, dtype=bool))
    pool, classwise = ClasswisePool(np.inf).fit(P, y), ClasswisePool().fit(P, y)
    fuser.fusers_[number], fuser.weights_[number] = [pool, classwise], [0.25, 0.75]
    expected = 0.25 * pool.predict_proba(P) + 0.75 * classwise.predict_proba(P)
    doubt = 1 / (len(y) + 2)
    np.testing.assert_allclose(fuser.predict_proba(P), (1 - doubt) * expected + doubt / K)


# The promise


def test_without_anything_to_win_the_best_modality_answers() -> None:
    P, y = simulated(600, skill=((2.5,) * 3, (0.0,) * 3))
    fuser = AutoFusion().fit(P, y)
    assert fuser.falls_back
    assert fuser.choice is None
    assert choice_of(fuser, ("face", "voice")) == "only face"
    np.testing.assert_array_equal(fuser.predict(P), P[:, 0].argmax(axis=1))


def test_useless_fusion_is_rarely_believed() -> None:
    believed = 0
    for seed in range(10):
        P, y = simulated(120, seed=seed, skill=((1.5,) * 3, (0.0,) * 3))
        believed += not AutoFusion(families=("pool", "log_pool")).fit(P, y).falls_back
    assert believed <= 1, "1 % of 10, and some luck"


def test_a_modality_that_is_shifted_is_mended_by_itself() -> None:
    # An expert from elsewhere that names the first label far too often.
    P, y = simulated(600, skill=((2.0,) * 3, (0.0,) * 3))
    P[:, 0] *= [20.0, 1.0, 1.0]
    P /= P.sum(axis=2, keepdims=True)
    fuser = AutoFusion(families=("pool",)).fit(P, y)
    mended = fuser.predict(P[:, [0, 1]])
    assert (mended == y).mean() > (P[:, 0].argmax(axis=1) == y).mean() + 0.1
    alone = P.copy()
    alone[:, 1] = np.nan
    assert (fuser.predict(alone) == y).mean() > (P[:, 0].argmax(axis=1) == y).mean() + 0.1


def test_groups_are_not_split() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    y = np.repeat(rng.integers(2, size=40), 10)
    P = np.repeat(rng.dirichlet(np.ones(2), size=(40, 2)), 10, axis=0)
    assert AutoFusion(families=("trees",)).fit(P, y).choice == "trees", "rows split: what it remembers looks perfect"
    assert AutoFusion(families=("trees",)).fit(P, y, groups).falls_back


def test_every_set_has_its_own_answer() -> None:
    # The third modality knows nothing: with either of the others it is left alone, the first two are fused.
    P, y = simulated(skill=(*EVEN, (0.0,) * 3))
    fuser = AutoFusion().fit(P, y)
    chosen = {tuple(np.flatnonzero(s)): name for s, name in zip(fuser.sets_, fuser.chosen_, strict=True)}
    assert chosen[0, 1] == chosen[0, 1, 2] == "pool"
    assert chosen[0, 2] == chosen[1, 2] == ""
    less = P.copy()
    less[:, 1] = np.nan
    np.testing.assert_array_equal(fuser.predict(less), P[:, 0].argmax(axis=1))


# Shares


def test_shares_of_modalities_that_were_not_asked_are_exactly_zero() -> None:
    P, y = simulated(600, skill=((2.5,) * 3, (0.0,) * 3, (0.0,) * 3))
    fuser = AutoFusion().fit(P, y)
    assert fuser.falls_back
    shares = shapley_shares(P[:50], fuser, fuser.prior_, fuser.predict(P[:50]))
    assert (shares[:, 1:] == 0).all()
    assert (shares[:, 0] != 0).all()


def test_shares_add_up_and_partial_answers_keep_the_model_of_the_whole_row() -> None:
    P, y = simulated(600, skill=BY_CLASS)
    fuser = AutoFusion(families=("pool", "classwise")).fit(P, y)
    P = P[:40].copy()
    P[:5, 1] = np.nan
    labels = fuser.predict(P)
    shares = shapley_shares(P, fuser, fuser.prior_, labels)
    odds = [np.log(p / (1 - p)) for p in (fuser.predict_proba(P)[np.arange(40), labels], fuser.prior_[labels])]
    np.testing.assert_allclose(np.nansum(shares, axis=1), odds[0] - odds[1], atol=1e-9)
    np.testing.assert_array_equal(fuser.partial_proba(P, [True, True]), fuser.predict_proba(P))
    assert np.isnan(fuser.partial_proba(P, [False, True])[:5]).all(), "rows that lack the modality have nothing to say"
    assert np.isnan(fuser.partial_proba(P, [False, False])).all()
    number = fuser._number_of(np.ones(2, dtype=bool))
    whole = fuser.fusers_[number][0]
    voice = P[5:].copy()
    voice[:, 0] = np.nan
    doubt = fuser.doubt_
    np.testing.assert_allclose(
        fuser.partial_proba(P, [False, True])[5:], (1 - doubt) * whole.predict_proba(voice) + doubt / K
    )


# Few rows, gaps, disk


@pytest.mark.parametrize("k", [2, 4])
def test_four_rows_make_nobody_certain(k: int) -> None:
    y = np.arange(4) % k
    P = np.full((4, 2, k), 1e-7 / (k - 1))
    P[np.arange(4), :, y] = 1 - 1e-7
    answers = AutoFusion().fit(P, y).predict_proba(P)
    assert answers.max() < 0.95
    np.testing.assert_array_equal(answers.argmax(axis=1), y)


def test_odd_rows_are_answered() -> None:
    P, y = simulated(40)
    one = AutoFusion().fit(P[:1], y[:1])
    assert np.isfinite(one.predict_proba(P)).all()
    same = AutoFusion().fit(P, np.zeros(40, dtype=int))
    assert np.isfinite(same.predict_proba(P)).all()
    P[:, 1] = np.nan
    never = AutoFusion().fit(P, y)
    assert np.isfinite(never.predict_proba(P)).all()
    whole, _ = simulated(10)
    assert np.isfinite(never.predict_proba(whole)).all()


@pytest.mark.parametrize("skill", [EVEN, BY_CLASS])
def test_the_way_to_disk_needs_nothing_of_scikit_learn(skill: tuple[tuple[float, ...], ...], tmp_path: Path) -> None:
    P, y = simulated(600, skill=skill)
    fuser = AutoFusion().fit(P, np.array(["anger", "fear", "joy"])[y])
    save(fuser, tmp_path)
    assert not (tmp_path / MODEL).exists()
    again = load(tmp_path)
    np.testing.assert_array_equal(again.predict_proba(P), fuser.predict_proba(P))
    assert (again.choice, again.falls_back) == (fuser.choice, fuser.falls_back)


def test_fitting_twice_gives_the_same() -> None:
    P, y = simulated(200, skill=BY_CLASS)
    groups = np.arange(200) // 8
    fuser = AutoFusion()
    first, second = (clone(fuser).fit(P, y, groups).predict_proba(P) for _ in range(2))
    np.testing.assert_array_equal(first, second)


# Real data


@pytest.mark.data
def test_votes_of_people_who_hear_and_who_see(data: Path) -> None:
    rows = rows_of(read_cremad_votes(data))
    actors = np.unique(rows.groups)
    # Half of the other actors show what all of them show, in half of the time.
    learned, asked = (rows.select(np.isin(rows.groups, some)) for some in (actors[1::2], actors[::4]))
    fuser = AutoFusion().fit(learned.P, learned.y, learned.groups)
    alone = max((asked.P[:, j].argmax(axis=1) == asked.y).mean() for j in range(2))
    accuracy = fuser.score(asked.P, asked.y)
    assert fuser.choice == "classwise"
    assert accuracy >= alone + 0.07
    for j in range(2):  # graceful where a modality is missing or noisy
        less = asked.P.copy()
        less[:, j] = np.nan
        assert fuser.score(less, asked.y) >= (asked.P[:, 1 - j].argmax(axis=1) == asked.y).mean()
    best = int(fuser.accuracies_.argmax())
    loud = noisy(asked.P, 1.0)
    assert fuser.score(loud, asked.y) >= (loud[:, best].argmax(axis=1) == asked.y).mean()


@pytest.mark.data
def test_verdicts_on_words_voice_and_face(data: Path) -> None:
    learned, asked = (rows_of(read_emotiontalk(data, part)) for part in ("train", "valid"))
    learned = learned.select(np.isin(learned.groups, np.unique(learned.groups)[::3]))  # all take three times as long
    fuser = AutoFusion().fit(learned.P, learned.y, learned.groups)
    assert fuser.score(asked.P, asked.y) >= 0.735
