"""A fitted fuser that learns from labelled rows of somebody's own, or stays the very same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.naive_bayes import GaussianNB

import affuse.fusion.transfer as module
from affuse.errors import DataError
from affuse.fusion import AdaptiveFuser, NamedFuser, ProductRule, RandomEffectsFusion, Stacking, adapt_rows
from affuse.fusion.reliability import ClasswisePool
from affuse.fusion.transfer import FEWEST, ExtendedFuser, Recalibrated, Transfer, transfer
from affuse.fusion.trust.calibration import VectorScaling

MODALITIES = ("face", "voice")
LABELS = ("sad", "glad", "calm")
OFF = np.array([[2.5, 0.0, -1.0], [-0.5, 2.0, 0.0]])  # what both experts add to every row of a new collection


def rows(n: int, seed: int, off: Any = 0.0, spread: float = 0.0, people: int = 6) -> tuple[np.ndarray, ...]:
    """P (n, 2, 3) of two experts that are ``off`` by a constant in log-probability, labels, and persons."""
    rng = np.random.default_rng(seed)
    y, person = np.arange(n) % 3, np.arange(n) // 3 % people
    L = rng.normal(size=(n, 2, 3)) + 2 * np.eye(3)[y][:, None] + off
    L = L + spread * rng.normal(size=(people, 2, 3))[person]
    return softmax(L, axis=2), y, person.astype(str)


@pytest.fixture(scope="module")
def base() -> NamedFuser:
    P, y, person = rows(900, 0)
    notes = {"prior": "own", "priors": {"face": [1 / 3] * 3}, "conflict_thresholds": {"2": 0.5}}
    return NamedFuser(RandomEffectsFusion().fit(P, y, person), MODALITIES, LABELS, "random_effects", notes)


@pytest.fixture(scope="module")
def helped(base: NamedFuser) -> Transfer:
    P, y, _ = rows(60, 1, OFF)
    return transfer(base, P, y, MODALITIES)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the candidate that takes longest to learn."""
    all_of_them = module._candidates

    def without_the_slowest(base: Any, people: Any) -> dict[str, Any]:
        return {name: make for name, make in all_of_them(base, people).items() if name != "classwise"}

    monkeypatch.setattr(module, "_candidates", without_the_slowest)


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_where_the_experts_are_off_the_fuser_learns_it(base: NamedFuser, helped: Transfer) -> None:
    P, y, _ = rows(600, 2, OFF)
    before = (base.fuse(P, MODALITIES).argmax(axis=1) == y).mean()
    after = (helped.fuser.fuse(P, MODALITIES).argmax(axis=1) == y).mean()
    assert helped.chosen in ("recalibrated", "stacking", "classwise")
    assert after > before + 0.07
    # What cross-validation promised for sixty rows is what six hundred new ones show, within its error.
    promised = helped.facts["tried"][helped.chosen]["accuracy"]
    assert after == pytest.approx(promised, abs=3 * np.sqrt(after * (1 - after) / 60))
    assert helped.facts["gain"] == pytest.approx(promised - helped.facts["tried"]["unchanged"]["accuracy"])


def test_facts_add_up(base: NamedFuser, helped: Transfer) -> None:
    facts = helped.facts
    assert facts["rows"] == sum(facts["rows_by_label"].values()) == 60
    assert facts["rows_by_label"] == dict.fromkeys(LABELS, 20)
    assert facts["folds"] == 5
    assert facts["chance"] == pytest.approx(np.log(3))
    assert set(facts["tried"]) == {"unchanged", "recalibrated", "stacking", "classwise"}
    P, y, _ = rows(60, 1, OFF)
    answers = base.fuse(P, MODALITIES)
    unchanged = facts["tried"]["unchanged"]
    assert unchanged["accuracy"] == pytest.approx((answers.argmax(axis=1) == y).mean()), "it did not learn"
    assert unchanged["log_loss"] == pytest.approx(-np.log(answers[np.arange(60), y]).mean())
    best = min(facts["tried"].values(), key=lambda own: own["log_loss"])
    assert facts["tried"][helped.chosen] == best


def test_names_and_notes_of_what_was_chosen(base: NamedFuser, helped: Transfer) -> None:
    assert (helped.fuser.modalities, helped.fuser.labels) == (MODALITIES, LABELS)
    assert helped.fuser.method == helped.chosen
    assert helped.fuser.notes == {"priors": {"face": [1 / 3] * 3}}, "the prior is now that of the rows"
    assert helped.fuser.default_prior.name == "that of the fuser"
    assert "prior" in base.notes


@pytest.mark.parametrize("seed", range(2))
def test_labels_that_mean_nothing_leave_it_the_very_same(base: NamedFuser, seed: int) -> None:
    P, _, person = rows(45, seed)
    y = np.random.default_rng(seed).permutation(np.arange(45) % 3)
    found = transfer(base, P, y, MODALITIES, person)
    assert found.chosen == "unchanged", "to be less sure of the same is not to know more"
    assert found.fuser is base
    assert found.facts["gain"] == 0
    assert found.facts["chance"] == pytest.approx(np.log(3))


def test_rows_like_those_that_it_knows_leave_it_the_very_same(base: NamedFuser) -> None:
    P, y, person = rows(60, 3)
    found = transfer(base, P, y, MODALITIES, person)
    assert found.chosen == "unchanged"
    assert found.fuser is base


def test_persons_are_on_one_side_of_every_fold_and_adapted_to(base: NamedFuser) -> None:
    P, y, person = rows(135, 4, OFF, spread=1.5, people=9)
    found = transfer(base, P, y, MODALITIES, person)
    assert found.facts["folds"] == 5
    tried = found.facts["tried"]
    assert "adapted" not in tried["unchanged"]
    assert {"adapted"} <= set(tried["stacking"]) & set(tried["classwise"])
    assert found.chosen in ("stacking", "classwise")
    assert found.fuser.adapts
    Q, z, others = rows(900, 5, OFF, spread=1.5, people=9)
    plain = (found.fuser.fuse(Q, MODALITIES).argmax(axis=1) == z).mean()
    adapted = (adapt_rows(found.fuser.fuser, Q, others).argmax(axis=1) == z).mean()
    assert adapted >= plain - 0.005


def test_groups_bound_the_folds_where_persons_do_not(base: NamedFuser, quick: None) -> None:
    P, y, person = rows(60, 1, OFF)
    two = np.where(np.arange(60) < 30, "a", "b")
    assert transfer(base, P, y, MODALITIES, person, groups=two).facts["folds"] == 2
    one = transfer(base, P, y, MODALITIES, ["Ann"] * 60)
    assert one.facts["folds"] == 5, "of one person only, rows are split"


def test_modalities_that_are_missing_or_in_another_order_are_placed(base: NamedFuser, quick: None) -> None:
    P, y, _ = rows(60, 1, OFF)
    turned = transfer(base, P[:, ::-1], y, MODALITIES[::-1])
    assert turned.facts == transfer(base, P, y, MODALITIES).facts
    face = transfer(base, P[:, :1], y, ("face",))
    assert face.fuser.modalities == MODALITIES
    assert np.isfinite(face.fuser.fuse(P[:, :1], ("face",))).all()


def test_rows_without_evidence_are_answered_by_frequency(base: NamedFuser, quick: None) -> None:
    P, y, person = rows(60, 1, OFF)
    P[::10] = np.nan
    found = transfer(base, P, y, MODALITIES, person)
    assert all(np.isfinite(own["log_loss"]) for own in found.facts["tried"].values())
    assert np.isnan(found.fuser.fuse(P, MODALITIES)[::10]).all()


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        ([0] * 12, "adapting needs labelled rows of at least two emotions"),
        ([0, 1, 2] * 4, "adapting needs at least 5 rows of an emotion; got sad 4, glad 4, calm 4"),
        ([0, 1] * 4, "got sad 4, glad 4$"),
    ],
)
def test_too_few_rows_are_one_sentence(base: NamedFuser, y: list[int], sentence: str) -> None:
    assert FEWEST == 5
    with pytest.raises(DataError, match=sentence):
        transfer(base, rows(len(y), 0)[0], y, MODALITIES)


def test_rows_that_do_not_fit_are_one_sentence(base: NamedFuser) -> None:
    P, y, _ = rows(30, 0)
    with pytest.raises(DataError, match="the fuser knows face, voice; got words"):
        transfer(base, P, y, ("face", "words"))
    with pytest.raises(DataError, match="P has 30 rows, but y has the shape"):
        transfer(base, P, y[1:], MODALITIES)
    with pytest.raises(DataError, match="y must hold columns of P, from 0 to 2"):
        transfer(base, P, np.array(LABELS)[y], MODALITIES)
    with pytest.raises(DataError, match="P has 30 rows, but persons has the shape"):
        transfer(base, P, y, MODALITIES, ["a", "b", "c"])


def test_five_clips_of_each_are_enough_to_try(base: NamedFuser) -> None:
    P, y, person = rows(16, 7, OFF)  # six, five and five
    assert transfer(base, P, y, MODALITIES, person).facts["rows"] == 16


@pytest.mark.parametrize("named", [False, True])
def test_a_label_of_a_single_row_is_no_obstacle(base: NamedFuser, quick: None, named: bool) -> None:
    P, y, person = rows(30, 7, OFF)
    keep = (y < 2) | (np.arange(30) == 2)
    found = transfer(base, P[keep], y[keep], MODALITIES, person[keep] if named else None)
    assert found.facts["rows_by_label"] == {"sad": 10, "glad": 10, "calm": 1}
    assert found.facts["folds"] == 5
    assert np.isfinite(found.fuser.fuse(P, MODALITIES)).all()


def test_persons_of_one_emotion_each_cannot_be_left_out(base: NamedFuser) -> None:
    P, y, _ = rows(30, 7)
    two = y < 2
    with pytest.raises(DataError, match="whoever is left out, the others show one emotion only"):
        transfer(base, P[two], y[two], MODALITIES, np.array(["Ann", "Bob"])[y[two]])


# --- the fusers -------------------------------------------------------------------------------------------------------


def test_extended_is_its_head_on_the_modalities_and_the_base(base: NamedFuser) -> None:
    P, y, _ = rows(90, 1, OFF)
    P[::4, 0] = np.nan
    P[5] = np.nan
    fuser = ExtendedFuser(base.fuser, Stacking()).fit(P, y)
    wide = np.concatenate([P, base.fuser.predict_proba(P)[:, None]], axis=1)
    spoken = np.arange(90) != 5
    head = Stacking().fit(wide[spoken], y[spoken])
    np.testing.assert_allclose(fuser.predict_proba(P), head.predict_proba(wide))
    kept = np.array([False, True])
    masked = np.where(kept[:, None], P, np.nan)
    wide = np.concatenate([masked, base.fuser.predict_proba(masked)[:, None]], axis=1)
    np.testing.assert_allclose(fuser.partial_proba(P, kept)[spoken], head.predict_proba(wide)[spoken])


def test_recalibrated_is_vector_scaling_of_the_base(base: NamedFuser) -> None:
    P, y, _ = rows(90, 1, OFF)
    answers = base.fuser.predict_proba(P)[:, None]
    reference = VectorScaling(5.0).fit(answers, y).transform(answers)[:, 0]
    fuser = Recalibrated(base.fuser).fit(P, y)
    np.testing.assert_allclose(fuser.predict_proba(P), reference)
    np.testing.assert_allclose(fuser.partial_proba(P, [True, True]), reference)
    right = [(f.predict_proba(P).argmax(axis=1) == y).mean() for f in (base.fuser, fuser)]
    assert right[1] >= right[0]
    stiff = Recalibrated(base.fuser, penalty=1e9).fit(P, y)
    np.testing.assert_allclose(stiff.predict_proba(P), answers[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda base: Recalibrated(base),
        lambda base: ExtendedFuser(base, Stacking()),
        lambda base: ExtendedFuser(base, ClasswisePool()),
    ],
    ids=["recalibrated", "stacking", "classwise"],
)
def test_the_base_does_not_learn_and_clones_share_it(base: NamedFuser, make: Any) -> None:
    from sklearn.base import clone

    P, y, _ = rows(60, 1, OFF)
    before = base.fuser.predict_proba(P)
    copy = clone(make(base.fuser))
    assert copy.base is base.fuser
    assert np.isfinite(copy.fit(P, y).predict_proba(P)).all()
    np.testing.assert_array_equal(base.fuser.predict_proba(P), before)


@pytest.mark.parametrize("persons", [False, True])
@pytest.mark.parametrize("head", ["recalibrated", "stacking", "classwise", "naive bayes"])
def test_what_was_chosen_survives_the_way_to_disk(base: NamedFuser, head: str, persons: bool, tmp_path: Path) -> None:
    P, y, person = rows(60, 1, OFF, spread=1.0)
    heads: dict[str, Any] = {
        "stacking": Stacking(),
        "classwise": ClasswisePool(),
        "naive bayes": Stacking(GaussianNB()),
    }
    fuser: Any = Recalibrated(base.fuser) if head == "recalibrated" else ExtendedFuser(base.fuser, heads[head])
    fuser = (AdaptiveFuser(fuser, 0.003) if persons else fuser).fit(P, y, person)
    named = NamedFuser(fuser, MODALITIES, LABELS, head)
    named.write(tmp_path)
    if head == "naive bayes":
        assert (tmp_path / "fuser.skops").exists(), "a part of scikit-learn's own"
    read = NamedFuser.read(tmp_path)
    P[::3, 1], P[4] = np.nan, np.nan
    np.testing.assert_array_equal(read.fuse(P, MODALITIES), named.fuse(P, MODALITIES))
    np.testing.assert_array_equal(
        read.partial(P, MODALITIES, [True, False]), named.partial(P, MODALITIES, [True, False])
    )
    if persons:
        own = P[person == "1"]
        np.testing.assert_array_equal(
            read.adapt(own, MODALITIES).fuse(own, MODALITIES), named.adapt(own, MODALITIES).fuse(own, MODALITIES)
        )


def test_a_fuser_seen_through_other_labels_learns_too(quick: None, tmp_path: Path) -> None:
    P, y, person = rows(300, 0)
    own = NamedFuser(ProductRule().fit(P, y, person), MODALITIES, ("joy", "sad", "calm"))
    emotions = own.over_emotions()
    columns = [emotions.labels.index(name) for name in ("happiness", "sadness", "neutral")]
    Q, z, _ = rows(60, 1, OFF)
    wide = np.zeros((60, 2, 7))
    wide[:, :, columns] = Q
    found = transfer(emotions, wide, np.array(columns)[z], MODALITIES)
    assert found.facts["rows_by_label"]["anger"] == 0
    found.fuser.write(tmp_path)
    np.testing.assert_array_equal(NamedFuser.read(tmp_path).fuse(wide, MODALITIES), found.fuser.fuse(wide, MODALITIES))
