"""Any fuser made to adapt to persons, analyzers adapted to whom they hear, and what must not be lost by it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from affuse.analyzer import Analyzer, Observation
from affuse.analyzer.adaptation import adapted_analyzers, rows_of
from affuse.errors import ConfigError, DataError
from affuse.experts import Abilities, Expert, ExpertOutput
from affuse.fusion import AdaptiveFuser, MeanRule, NamedFuser, ProductRule, RandomEffectsFusion, Stacking, adapt_rows
from affuse.fusion.adaptive import design_effect
from affuse.fusion.effects import trust
from affuse.labels import EKMAN
from affuse.media import Recording
from affuse.report.schema import schema
from affuse.testing import FakeExpert
from affuse.timeline import Segment, Timeline

SIX = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")


def persons_of(people: int = 12, n: int = 24, seed: int = 0, spread: float = 1.0) -> tuple[np.ndarray, ...]:
    """Two experts and four labels, every person off by a vector of their own: P, y and persons."""
    rng = np.random.default_rng(seed)
    person, y = np.repeat(np.arange(people), n), np.tile(np.arange(4), people * n // 4)
    L = rng.normal(size=(len(y), 2, 4)) + spread * rng.normal(size=(people, 2, 4))[person]
    L[np.arange(len(y)), :, y] += 2
    P = np.exp(L)
    return P / P.sum(axis=2, keepdims=True), y, person


# --- the fuser --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [MeanRule(), ProductRule(), Stacking()], ids=["mean", "product", "stacking"])
def test_by_itself_it_answers_like_the_fuser(inner: Any) -> None:
    from sklearn.base import clone

    P, y, person = persons_of()
    P[::5, 1] = np.nan
    P[3] = np.nan
    fuser = AdaptiveFuser(inner).fit(P, y, person)
    plain = clone(inner).fit(P, y, person)
    np.testing.assert_array_equal(fuser.predict_proba(P), plain.predict_proba(P))
    np.testing.assert_array_equal(fuser.predict(P), plain.predict(P))
    np.testing.assert_allclose(fuser.partial_proba(P, [True, False]), plain.partial_proba(P, [True, False]))


def test_persons_are_needed() -> None:
    P, y, _ = persons_of()
    with pytest.raises(DataError, match="give groups, the person of every row"):
        AdaptiveFuser(MeanRule()).fit(P, y)


def test_an_adapted_answer_is_the_mean_of_both_fusers_by_trust() -> None:
    P, y, person = persons_of()
    fuser = AdaptiveFuser(ProductRule()).fit(P, y, person)
    rows = P[person == 3]
    adapted = fuser.adapt(rows)
    share = trust(fuser.predict_proba(rows), np.ones(24), fuser.prior_)
    assert 0.2 < share < 1
    shift = fuser.effects_.shifted(rows, np.ones(24), 1.0).shift_
    freed = fuser.freed_.predict_proba(fuser.effects_.move(rows, shift))
    expected = (1 - share) * fuser.plain_.predict_proba(rows) + share * freed
    np.testing.assert_allclose(adapted.predict_proba(rows), expected)
    assert adapted.adapted_["n"] == 24
    assert adapted.adapted_["trust"] == share
    assert 0 < adapted.adapted_["known"] < share
    assert (fuser.trust_, fuser.adapted_) == (0.0, {})


def test_learned_without_shifts_from_rows_without_shifts() -> None:
    P, y, person = persons_of(people=30, spread=1.5)
    fuser = AdaptiveFuser(ProductRule()).fit(P, y, person)
    freed = P.copy()
    for own in np.unique(person):
        rows = person == own
        freed[rows] = fuser.effects_.move(P[rows], fuser.effects_.labelled_shift(P[rows], y[rows]))

    def spread(rows: np.ndarray) -> float:
        means = np.array([np.log(rows[person == own]).mean(axis=0) for own in range(30)])
        return float((means - means.mean(axis=2, keepdims=True)).std(axis=0).mean())

    assert spread(freed) < 0.2 * spread(P)


def test_what_modalities_say_by_themselves_adds_up_with_what_was_adapted() -> None:
    P, y, person = persons_of()
    fuser = AdaptiveFuser(ProductRule()).fit(P, y, person)
    adapted = fuser.adapt(P[person == 1])
    rows = P[:6]
    np.testing.assert_allclose(adapted.partial_proba(rows, [True, True]), adapted.predict_proba(rows))
    face = rows.copy()
    face[:, 1] = np.nan
    np.testing.assert_allclose(adapted.partial_proba(rows, [True, False]), adapted.predict_proba(face))
    assert np.isnan(adapted.partial_proba(rows, [False, False])).all()


def test_nothing_to_adapt_to_changes_nothing() -> None:
    P, y, person = persons_of()
    fuser = AdaptiveFuser(Stacking()).fit(P, y, person)
    for rows, of in ((P[:0], "person"), (P[:1], "person"), (np.full((5, 2, 4), np.nan), "member"), (P, "collection")):
        adapted = fuser.adapt(rows, of=of)
        assert adapted.adapted_["trust"] == 0
        np.testing.assert_array_equal(adapted.predict_proba(P), fuser.predict_proba(P))


def test_rows_without_evidence_stay_without_an_answer() -> None:
    P, y, person = persons_of()
    P[5] = np.nan
    fuser = AdaptiveFuser(ProductRule()).fit(P, y, person)
    answers = adapt_rows(fuser, P, person)
    assert np.isnan(answers[5]).all()
    assert np.isfinite(np.delete(answers, 5, axis=0)).all()


@pytest.mark.parametrize("inner", [ProductRule(), Stacking()], ids=["product", "stacking"])
def test_an_adapted_one_survives_the_way_to_disk(inner: Any, tmp_path: Path) -> None:
    P, y, person = persons_of()
    adapted = AdaptiveFuser(inner).fit(P, y, person).adapt(P[person == 2])
    named = NamedFuser(adapted, ("face", "voice"), tuple("abcd"))
    named.write(tmp_path)
    read = NamedFuser.read(tmp_path)
    assert read.adapts
    assert dict(read.adapted) == adapted.adapted_
    np.testing.assert_array_equal(read.fuser.shift_, adapted.shift_)
    np.testing.assert_array_equal(read.fuse(P, ("face", "voice")), adapted.predict_proba(P))
    again = read.adapt(P[person == 4], ("face", "voice"))
    np.testing.assert_array_equal(again.fuser.shift_, adapted.adapt(P[person == 4]).shift_)


# --- rows of several persons ------------------------------------------------------------------------------------------


def test_every_persons_rows_are_answered_by_the_fuser_for_that_person() -> None:
    P, y, person = persons_of()
    fuser = RandomEffectsFusion().fit(P, y, person)
    names = np.array([f"person {i}" for i in person])
    answers = adapt_rows(fuser, P, names)
    for own in np.unique(names):
        rows = names == own
        np.testing.assert_array_equal(answers[rows], fuser.adapt(P[rows]).predict_proba(P[rows]))
    assert (answers.argmax(axis=1) == y).mean() > (fuser.predict(P) == y).mean()


def test_of_a_collection_what_is_shared_goes_first() -> None:
    P, y, person = persons_of()
    fuser = RandomEffectsFusion(domain=1.0).fit(P, y, person)
    shared = fuser.adapt(P, design_effect(person), of="collection")
    expected = shared.adapt(P[person == 0], of="member").predict_proba(P[person == 0])
    np.testing.assert_array_equal(adapt_rows(fuser, P, person, collection=True)[person == 0], expected)


def test_a_fuser_that_does_not_adapt_says_what_to_do() -> None:
    P, y, person = persons_of()
    with pytest.raises(
        DataError, match=r"^MeanRule does not adapt to persons; wrap it: AdaptiveFuser\(MeanRule\(\)\)$"
    ):
        adapt_rows(MeanRule().fit(P, y), P, person)


def test_persons_and_weights_must_fit_the_rows() -> None:
    P, y, person = persons_of()
    fuser = AdaptiveFuser(MeanRule()).fit(P, y, person)
    with pytest.raises(DataError, match="P has 288 rows, but persons has the shape"):
        adapt_rows(fuser, P, person[1:])
    with pytest.raises(DataError, match="P has 288 rows, but weights has the shape"):
        adapt_rows(fuser, P, person, np.ones(3))
    with pytest.raises(ConfigError, match="known: person, member, collection"):
        fuser.adapt(P, of="everybody")


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.floats(0, 1))
@settings(deadline=None)
def test_rows_of_a_person_together_count_for_no_more_than_they_tell(persons: list[int], correlation: float) -> None:
    counts = design_effect(np.array(persons), correlation)
    for own in set(persons):
        n = persons.count(own)
        total = counts[np.array(persons) == own].sum()
        assert total == pytest.approx(n / (1 + (n - 1) * correlation))  # Kish 1965
        assert 1 - 1e-9 <= total <= n + 1e-9


# --- people who judge CREMA-D -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(data: Path) -> dict[str, Any]:
    """Smoothed votes of half of the actors, and a fuser that was learned from the other half."""
    with (data / "cremad_votes" / "votes_open.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = np.array([[[float(row[f"{m}_{label}"]) for label in SIX] for m in ("voice", "face")] for row in rows])
    P = (counts + 1) / (counts.sum(axis=2, keepdims=True) + 6)
    y, actors = np.array([SIX.index(row["label"]) for row in rows]), np.array([row["speaker"] for row in rows])
    half = np.isin(actors, np.unique(actors)[::2])
    fuser = AdaptiveFuser(Stacking()).fit(P[half], y[half], actors[half])
    return {"fuser": fuser, "P": P[~half], "y": y[~half], "actors": actors[~half]}


def compared(judged: dict[str, Any], chosen: Sequence[np.ndarray]) -> tuple[float, float]:
    """Accuracy of the fuser as it is and adapted to each person, whose rows are given."""
    fuser, P, y = judged["fuser"], judged["P"], judged["y"]
    truth = np.concatenate([y[rows] for rows in chosen])
    plain = np.concatenate([fuser.predict(P[rows]) for rows in chosen])
    adapted = np.concatenate([fuser.adapt(P[rows]).predict(P[rows]) for rows in chosen])
    return float((plain == truth).mean()), float((adapted == truth).mean())


@pytest.mark.data
def test_actors_are_understood_better_when_adapted_to(judged: dict[str, Any]) -> None:
    actors = judged["actors"]
    plain, adapted = compared(judged, [np.flatnonzero(actors == name) for name in np.unique(actors)])
    assert plain > 0.75
    assert adapted >= plain + 0.01


@pytest.mark.data
@pytest.mark.parametrize("case", ["one emotion", "80 %", "60 %", "3 clips"])
def test_persons_who_cannot_be_adapted_to_lose_at_most_a_point(judged: dict[str, Any], case: str) -> None:
    rng, y, actors = np.random.default_rng(0), judged["y"], judged["actors"]
    chosen = []
    for name in np.unique(actors):
        rows = rng.permutation(np.flatnonzero(actors == name))
        for label in range(6):
            own, others = rows[y[rows] == label], rows[y[rows] != label]
            kept = {"one emotion": 0, "80 %": len(own) // 4, "60 %": 2 * len(own) // 3, "3 clips": 0}[case]
            chosen.append(rows[3 * label : 3 * label + 3] if case == "3 clips" else np.append(own, others[:kept]))
    plain, adapted = compared(judged, chosen)
    assert adapted >= plain - 0.01


# --- analyzers --------------------------------------------------------------------------------------------------------


class Wandering(Expert):
    """An expert who goes through the emotions, ``held`` seconds each, and leans to one of them throughout."""

    name, modality, labels = "wandering", "voice", EKMAN
    abilities = Abilities(reads=("table",))  # answers about any recording

    def __init__(self, held: float = 10.0, leaning: str = "anger", by: float = 1.0, sure: float = 2.5) -> None:
        self.held, self.leaning, self.by, self.sure = held, leaning, by, sure

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        shown = (timeline.starts // self.held).astype(int) % 7
        L = self.sure * np.eye(7)[shown]
        L[:, EKMAN.index(self.leaning)] += self.by
        return [ExpertOutput(np.exp(L) / np.exp(L).sum(axis=1, keepdims=True), ("",) * len(timeline))]


def timeline_of(seconds: int) -> Timeline:
    return Timeline(tuple(Segment(float(i), float(i + 1)) for i in range(seconds)))


def observed(analyzer: Analyzer, seconds: int) -> Observation:
    recording, timeline = Recording.from_text("nothing much"), timeline_of(seconds)
    return Observation(recording, timeline, {m: e.read(recording, timeline) for m, e in analyzer.experts.items()})


def even_fuser() -> NamedFuser:
    """One modality of the seven emotions, sharp enough to tell them apart; persons and collections differ."""
    rng = np.random.default_rng(0)
    person, y = np.repeat(np.arange(30), 28), np.tile(np.arange(7), 120)
    L = 0.8 * rng.normal(size=(840, 1, 7)) + 0.7 * rng.normal(size=(30, 1, 7))[person] + 2.5 * np.eye(7)[y][:, None]
    P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    return NamedFuser(RandomEffectsFusion(domain=0.5).fit(P, y, person), ("voice",), EKMAN.labels, "random_effects")


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer({"voice": Wandering()}, fuser=even_fuser(), prior="uniform")


def test_a_row_for_every_ten_seconds(analyzer: Analyzer) -> None:
    found = observed(analyzer, 35)
    P = found.outputs["voice"][0].probabilities
    rows = rows_of(analyzer, found)
    assert rows.shape == (4, 1, 7)
    np.testing.assert_allclose(rows[1, 0], P[10:20].mean(axis=0))
    np.testing.assert_allclose(rows[3, 0], P[30:].mean(axis=0))


def test_answers_name_the_person_they_were_adapted_to(analyzer: Analyzer) -> None:
    found = observed(analyzer, 280)
    adapted, again = adapted_analyzers(analyzer, [found, found], ["Ann", "Ann"], "person")
    assert adapted is again
    (told,) = adapted.answer(found).settings["adaptation"]
    assert set(told) == {"to", "n", "trust", "known"}
    assert (told["to"], told["n"]) == ("Ann", 56)
    assert 0 < told["known"] < told["trust"] <= round(56 / 66, 6)
    # The leaning to anger is taken out.
    anger = EKMAN.index("anger")
    before = np.array([v.fused for v in analyzer.answer(found).verdicts])[:, anger].mean()
    after = np.array([v.fused for v in adapted.answer(found).verdicts])[:, anger].mean()
    assert after < before - 0.02
    assert analyzer.answer(found).settings["adaptation"] == []


def test_a_collection_is_named_before_its_persons(analyzer: Analyzer) -> None:
    found = [observed(analyzer, 140) for _ in range(3)]
    own = adapted_analyzers(analyzer, found, ["Ann", "", "Ann"], "collection")
    assert own[0] is own[2]
    told = own[1].answer(found[1]).settings["adaptation"]
    assert [step["to"] for step in told] == ["collection of 3 recordings", "recording 2"]
    assert [step["n"] for step in told] == [42, 14]
    assert told[0]["trust"] > 0


def test_one_short_clip_changes_nothing(analyzer: Analyzer) -> None:
    found = observed(analyzer, 8)
    for adapt in ("person", "collection"):
        (own,) = adapted_analyzers(analyzer, [found], [""], adapt)
        plain, adapted = analyzer.answer(found), own.answer(found)
        assert adapted.settings["adaptation"][-1] == {"to": "recording 1", "n": 1, "trust": 0.0, "known": 0.0}
        for before, after in zip(
            [*plain.verdicts, *plain.summaries], [*adapted.verdicts, *adapted.summaries], strict=True
        ):
            np.testing.assert_array_equal(before.fused, after.fused)


def test_a_person_who_feels_one_thing_throughout_keeps_the_answers(analyzer: Analyzer) -> None:
    happy = replace_experts(analyzer, {"voice": FakeExpert("voice", {"happiness": 0.8})})
    found = observed(happy, 300)
    (own,) = adapted_analyzers(happy, [found], ["Bob"], "person")
    assert own.answer(found).settings["adaptation"] == [{"to": "Bob", "n": 30, "trust": 0.0, "known": 0.0}]
    np.testing.assert_array_equal(own.answer(found).summaries[0].fused, happy.answer(found).summaries[0].fused)


def replace_experts(analyzer: Analyzer, experts: dict[str, Any]) -> Analyzer:
    return Analyzer(experts, fuser=analyzer.fuser, prior=analyzer.prior)


def test_without_adaptation_it_is_the_same_analyzer(analyzer: Analyzer) -> None:
    found = observed(analyzer, 20)
    assert adapted_analyzers(analyzer, [found, found], ["a", "b"], "none") == [analyzer, analyzer]


def test_unknown_adaptations_and_fusers_that_do_not_adapt_are_one_sentence(analyzer: Analyzer) -> None:
    found = observed(analyzer, 20)
    with pytest.raises(ConfigError, match="unknown adaptation 'family'; known: none, person, collection"):
        adapted_analyzers(analyzer, [found], [""], "family")
    P = np.full((7, 1, 7), 1 / 7)
    stiff = replace(even_fuser(), fuser=MeanRule().fit(P, np.arange(7)), method="mean")
    with pytest.raises(ConfigError, match="the fuser 'mean' does not adapt; fit one that does"):
        adapted_analyzers(Analyzer({"voice": Wandering()}, fuser=stiff), [found], [""], "person")


def test_a_silent_recording_is_answered_as_before(analyzer: Analyzer) -> None:
    mute = replace_experts(analyzer, {"voice": FakeExpert("voice", {"anger": 0.9}, silent=range(30))})
    found = observed(mute, 30)
    (own,) = adapted_analyzers(mute, [found], [""], "person")
    answer = own.answer(found)
    assert answer.settings["adaptation"] == [{"to": "recording 1", "n": 0, "trust": 0.0, "known": 0.0}]
    assert answer.summaries[0].label is None


def test_what_was_adapted_to_is_in_the_json_and_obeys_the_schema(analyzer: Analyzer) -> None:
    found = observed(analyzer, 280)
    (own,) = adapted_analyzers(analyzer, [found], ["Ann"], "collection")
    document = json.loads(own.answer(found).to_json())
    Draft202012Validator(schema()).validate(document)
    assert [step["to"] for step in document["settings"]["adaptation"]] == ["collection of 1 recording", "Ann"]
    assert document["settings"]["adaptation"][1]["known"] > 0
    document["settings"]["adaptation"][1]["trust"] = 1.5
    (error,) = Draft202012Validator(schema()).iter_errors(document)
    assert list(error.path) == ["settings", "adaptation", 1, "trust"]
