"""Fusers with names: any order of modalities and labels, one missing or one more, exact shares, and folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from affuse.errors import AssetError, ConfigError, DataError
from affuse.fusion import (
    CommonCausePool,
    Fuser,
    MeanRule,
    NamedFuser,
    ProductRule,
    SafeFusion,
    Stacking,
    TemperatureScaling,
    save,
)
from affuse.fusion.explain import log_odds
from affuse.labels import EKMAN

THREE = ("face", "voice", "text")
ABC = ("a", "b", "c")


def simulated(k: int = 3, m: int = 3, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y = np.arange(n) % k
    L = rng.normal(size=(n, m, k))
    L[np.arange(n)[:, None], np.arange(m), y[:, None]] += 1.5
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y


class Alone(Fuser):
    """Answers every row by its last modality that speaks, whatever else there is: a choice by the whole row."""

    def combine(self, P: np.ndarray, here: np.ndarray) -> np.ndarray:
        last = here.shape[1] - 1 - here[:, ::-1].argmax(axis=1)
        return np.asarray(P[np.arange(len(P)), last])

    def partial_proba(self, P: Any, keep: Any) -> np.ndarray:
        answers = self.predict_proba(P)
        last = P.shape[1] - 1 - (~np.isnan(P[:, ::-1, 0])).argmax(axis=1)
        answers[~np.asarray(keep)[last]] = np.nan
        return answers


def test_modalities_come_in_any_order_and_may_be_missing() -> None:
    P, y = simulated()
    fuser = CommonCausePool().fit(P, y)
    named = NamedFuser(fuser, THREE, ABC)
    np.testing.assert_array_equal(named.fuse(P[:, ::-1], THREE[::-1]), fuser.predict_proba(P))
    gap = P.copy()
    gap[:, 1] = np.nan
    np.testing.assert_array_equal(named.fuse(P[:, [2, 0]], ("text", "face")), fuser.predict_proba(gap))
    alone = named.alone(P[:, :2], ("face", "voice"))
    only = np.full_like(P, np.nan)
    only[:, 1] = P[:, 1]
    np.testing.assert_array_equal(alone[:, 1], fuser.predict_proba(only))
    with pytest.raises(DataError, match="the fuser knows face, voice, text; got gait"):
        named.fuse(P[:, :1], ["gait"])
    with pytest.raises(DataError, match=r"expected P of shape \(n, 2 modalities, 3 labels\)"):
        named.fuse(P[:, :1], ["face", "voice"])


def test_shares_add_up_to_the_gain_over_the_prior_of_the_answer() -> None:
    P, y = simulated()
    named = NamedFuser(Stacking().fit(P, y), THREE, ABC)
    for prior in (None, np.array([0.6, 0.3, 0.1])):
        fused = named.fuse(P[:, 1:], THREE[1:], prior)
        answers = fused.argmax(axis=1)
        shares = named.shares(P[:, 1:], THREE[1:], answers, prior)
        start = log_odds((named.prior if prior is None else prior)[answers])
        gain = log_odds(fused[np.arange(len(P)), answers]) - start
        np.testing.assert_allclose(shares.sum(axis=1), gain, atol=1e-9)


def test_where_one_modality_answers_the_others_have_no_share() -> None:
    P, y = simulated()
    named = NamedFuser(Alone().fit(P, y), THREE, ABC)
    answers = named.fuse(P, THREE).argmax(axis=1)
    shares = named.shares(P, THREE, answers)
    assert (shares[:, :2] == 0).all()
    expected = log_odds(P[np.arange(len(P)), 2, answers]) - log_odds(named.prior[answers])
    np.testing.assert_allclose(shares[:, 2], expected)


def test_the_prior_of_the_answer_is_exchanged_by_bayes() -> None:
    named = NamedFuser(ProductRule(prior=[0.5, 0.5]).fit(np.full((2, 1, 2), 0.5), [0, 1]), ("face",), ("x", "y"))
    answer = named.fuse([[[0.2, 0.8]]], ["face"], [0.75, 0.25])
    np.testing.assert_allclose(answer, [[3 / 7, 4 / 7]])  # 0.2 * 1.5 against 0.8 * 0.5


def test_names_must_fit_the_fuser() -> None:
    P, y = simulated()
    fuser = MeanRule().fit(P, y)
    with pytest.raises(ConfigError, match="fitted on 3 modalities and 3 labels; named are face and a, b, c"):
        NamedFuser(fuser, ("face",), ABC)
    with pytest.raises(ConfigError, match="the labels of a fuser need different names; got a, b, b"):
        NamedFuser(fuser, THREE, ("a", "b", "b"))


# --- labels of its own ------------------------------------------------------------------------------------------------


def test_labels_in_another_order_are_put_in_that_of_the_seven() -> None:
    P, y = simulated(7)
    order = tuple(reversed(EKMAN.labels))
    fuser = CommonCausePool().fit(P, y)
    named = NamedFuser(fuser, THREE, order).over_emotions()
    assert named.labels == EKMAN.labels
    np.testing.assert_allclose(named.fuse(P[:, :, ::-1], THREE), fuser.predict_proba(P)[:, ::-1])
    np.testing.assert_allclose(named.prior, fuser.prior_[::-1])
    assert NamedFuser(fuser, THREE, EKMAN.labels).over_emotions().fuser is fuser


def test_words_and_finer_labels_are_placed_and_a_label_it_lacks_is_never_answered() -> None:
    P, y = simulated(4, 1)
    labels = ("joy", "calm", "neutral", "Wut")
    fuser = ProductRule().fit(P, y)
    named = NamedFuser(fuser, ("voice",), labels, notes={"priors": {"voice": [0.1, 0.2, 0.3, 0.4]}}).over_emotions()
    answer = named.fuse([[[0.3, 0.2, 0.0, 0.1, 0.0, 0.0, 0.4]]], ["voice"])[0]
    expected = dict.fromkeys(EKMAN.labels, 0.0) | {"anger": 0.3 / 0.8, "happiness": 0.1 / 0.8, "neutral": 0.4 / 0.8}
    np.testing.assert_allclose(answer, list(expected.values()))
    prior = named.prior_of("voice")
    assert prior is not None
    np.testing.assert_allclose(prior, [0.4, 0, 0, 0.1, 0, 0, 0.5])
    only = np.eye(7)[[EKMAN.index("fear")]][:, None]
    assert np.isnan(named.fuse(only, ["voice"])).all(), "what the fuser has no word for is no evidence"


@pytest.mark.parametrize("label", ["laughter", "positive", "negative"])
def test_labels_without_a_place_among_the_seven_are_named(label: str) -> None:
    P, y = simulated(2, 1)
    with pytest.raises(ConfigError, match=f"the fuser's labels {label} have no place among anger, disgust"):
        NamedFuser(MeanRule().fit(P, y), ("voice",), ("anger", label)).over_emotions()


# --- one more modality ------------------------------------------------------------------------------------------------


def test_one_more_modality_counts_by_bayes() -> None:
    P, y = simulated(3, 2)
    product = ProductRule().fit(P, y)
    three = ProductRule(prior=product.prior_).fit(np.concatenate([P, P[:, :1]], axis=1), y)
    wide = NamedFuser(product, ("face", "voice"), ABC).with_modality("joint")
    assert wide.modalities == ("face", "voice", "joint")
    test, _ = simulated(3, 3, 50)
    test[::3, 2] = np.nan
    test[1::4, :2] = np.nan
    expected = three.predict_proba(test)
    np.testing.assert_allclose(wide.fuse(test, wide.modalities), expected, atol=1e-12)
    np.testing.assert_allclose(
        wide.partial(test, wide.modalities, [True, False, True]),
        three.partial_proba(test, [True, False, True]),
        atol=1e-12,
    )


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fuser", [CommonCausePool(), SafeFusion(), Stacking(), MeanRule()], ids=repr)
def test_folders_come_back_as_they_were(tmp_path: Path, fuser: Fuser) -> None:
    P, y = simulated()
    notes = {"prior": {"name": "even", "frequencies": [1, 1, 1]}, "measured": {"accuracy": 0.5}}
    named = NamedFuser(fuser.fit(P, y), THREE, ABC, "own", notes)
    named.write(tmp_path)
    again = NamedFuser.read(tmp_path)
    assert (again.modalities, again.labels, again.method, again.notes) == (THREE, ABC, "own", notes)
    assert len(again.sha256) == 64
    np.testing.assert_array_equal(again.fuse(P, THREE), named.fuse(P, THREE))
    np.testing.assert_allclose(again.default_prior.frequencies, np.full(3, 1 / 3))
    assert again.default_prior.name == "even"


def test_a_pipeline_serves_as_a_fuser(tmp_path: Path) -> None:
    P, y = simulated(7)
    pipeline = make_pipeline(TemperatureScaling(), MeanRule()).fit(P, y)
    NamedFuser(pipeline, THREE, tuple(sorted(EKMAN.labels))).write(tmp_path)
    named = NamedFuser.read(tmp_path).over_emotions().with_modality("joint")
    four = named.modalities
    P = np.concatenate([P, P[:, :1]], axis=1)
    assert np.isfinite(named.shares(P[:20], four, np.zeros(20, dtype=int))).all()


def test_folders_without_names_or_with_notes_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    P, y = simulated()
    fuser = MeanRule().fit(P, y)
    save(fuser, tmp_path / "bare")
    with pytest.raises(AssetError, match="bare holds a fuser without its modalities; save it with"):
        NamedFuser.read(tmp_path / "bare")
    damages: list[dict[str, Any]] = [{"labels": ["a"]}, {"labels": ["a", "b", 3]}]
    damages += [{"modalities": ["face"]}, {"modalities": [{}, [], None]}]
    for number, names in enumerate(damages):
        save(fuser, tmp_path / str(number), {"modalities": THREE, "labels": ABC, **names})
        with pytest.raises(AssetError, match="does not hold together"):
            NamedFuser.read(tmp_path / str(number))
    for wrong in (3, "x", [1], {"name": "x"}, {"name": "x", "frequencies": [1, 2]}, {"name": "x", "frequencies": "y"}):
        with pytest.raises(AssetError, match="note of its prior does not hold together"):
            _ = NamedFuser(fuser, THREE, ABC, notes={"prior": wrong}).default_prior
        with pytest.raises(AssetError, match="note of the prior of face"):
            NamedFuser(fuser, THREE, ABC, notes={"priors": {"face": wrong}}).prior_of("face")


def test_answering_imports_nothing_that_only_learning_needs(tmp_path: Path) -> None:
    P, y = simulated()
    NamedFuser(CommonCausePool().fit(P, y), THREE, ABC).write(tmp_path)
    code = f"""
import sys
import numpy as np
from affuse.fusion.named import NamedFuser
named = NamedFuser.read({str(tmp_path)!r})
P = np.full((2, 3, 3), 1 / 3)
named.fuse(P, named.modalities), named.alone(P, named.modalities), named.shares(P, named.modalities, np.array([0, 1]))
print([name for name in ("pandas", "scipy.optimize", "skops", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_safe_fuser_explains_a_row_by_what_answers_it() -> None:
    P, y = simulated()
    for level, alone in ((1e-12, True), (0.5, False)):
        named = NamedFuser(SafeFusion(level=level).fit(P, y), THREE, ABC)
        assert named.fuser.falls_back == alone
        fused = named.fuse(P, THREE)
        answers = fused.argmax(axis=1)
        shares = named.shares(P, THREE, answers)
        gain = log_odds(fused[np.arange(len(P)), answers]) - log_odds(named.prior[answers])
        np.testing.assert_allclose(shares.sum(axis=1), gain, atol=1e-9)
        assert ((shares == 0).all(axis=0).sum() == 2) == alone
