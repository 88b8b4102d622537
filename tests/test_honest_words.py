"""What is said about an answer: contradictions that are ones, and a sentiment that goes with the emotion."""

from __future__ import annotations

import numpy as np
import pytest

from affuse.fusion.explain import SURE, conflict_in_words, contradicting, contradiction, contradictory
from affuse.fusion.sentiment import (
    COMPATIBILITY,
    _compatibility,
    agree,
    contradicts,
    lean_that_agrees,
    sentiment_score,
    trust_that_agrees,
)
from affuse.labels import EKMAN, SENTIMENT

NOTHING = np.full(7, np.nan)
NO_JUDGE = np.full((1, 1, 3), np.nan)


def _sure_of(label: str, p: float = 0.9) -> np.ndarray:
    row = np.full(7, (1 - p) / 6)
    row[EKMAN.index(label)] = p
    return row


# --- contradictions


@pytest.mark.parametrize(
    ("face", "voice", "expected"),
    [
        ("happiness", "anger", True),  # opposite valence
        ("happiness", "sadness", True),
        ("sadness", "anger", True),  # two different emotions
        ("anger", "disgust", True),
        ("surprise", "sadness", True),
        ("surprise", "happiness", False),  # a glad surprise
        ("fear", "surprise", False),  # a fright
        ("neutral", "anger", False),  # neutral contradicts nothing
        ("happiness", "neutral", False),
        ("fear", "fear", False),
    ],
)
def test_what_contradicts_what(face: str, voice: str, expected: bool) -> None:
    P = np.stack([_sure_of(face), _sure_of(voice)])[None]
    assert contradiction(P, EKMAN.labels).tolist() == [expected]
    assert contradiction(P[:, ::-1], EKMAN.labels).tolist() == [expected]


def test_only_the_sure_contradict() -> None:
    P = np.stack([_sure_of("happiness"), _sure_of("anger", SURE - 0.01)])[None]
    assert not contradiction(P, EKMAN.labels).any()
    assert contradiction(P, EKMAN.labels, sure=0.5).all()
    assert contradiction(np.stack([_sure_of("happiness"), _sure_of("anger", SURE)])[None], EKMAN.labels).all()


def test_silence_contradicts_nothing() -> None:
    P = np.stack([[_sure_of("happiness"), NOTHING], [NOTHING, NOTHING]])
    assert contradiction(P, EKMAN.labels).tolist() == [False, False]


def test_only_those_who_contradict_are_named() -> None:
    P = np.stack([_sure_of("happiness"), _sure_of("neutral"), _sure_of("anger"), _sure_of("anger", 0.4)])
    assert contradicting(P[None], EKMAN.labels).tolist() == [[True, False, True, False]]
    modalities = ("face", "gaze", "voice", "text")
    assert conflict_in_words(P, modalities, EKMAN.labels) == "face says happiness, voice says anger"
    assert conflict_in_words(P[1:], modalities[1:], EKMAN.labels) == ""
    assert conflict_in_words(P, modalities, EKMAN.labels, sure=0.3) == "face says happiness, voice and text say anger"


def test_other_labels_follow_the_same_rule() -> None:
    labels = ("calm", "boredom", "negative", "positive", "anger", "surprise", "frustration")
    pairs = contradictory(labels)
    np.testing.assert_array_equal(pairs, pairs.T)
    assert not pairs[:2].any()
    index = labels.index
    assert pairs[index("negative"), index("positive")]
    assert not pairs[index("negative"), index("anger")]
    assert pairs[index("positive"), index("anger")]
    assert pairs[index("anger"), index("frustration")]
    assert not pairs[index("positive"), index("surprise")]


# --- emotion and sentiment


def test_compatibilities_are_distributions_with_the_right_sign() -> None:
    np.testing.assert_allclose(COMPATIBILITY.sum(axis=1), 1.0)
    score = sentiment_score(COMPATIBILITY)
    for label in ("anger", "disgust", "fear", "sadness"):
        assert score[EKMAN.index(label)] < -0.5
    assert score[EKMAN.index("happiness")] > 0.5
    np.testing.assert_allclose(score[[EKMAN.index("neutral"), EKMAN.index("surprise")]], 0.0, atol=1e-12)


def test_without_a_judge_sentiment_is_what_the_emotions_imply() -> None:
    q = np.random.default_rng(0).dirichlet(np.ones(7), size=5)
    emotions, sentiment = agree(q, np.full((5, 2, 3), np.nan))
    np.testing.assert_allclose(emotions, q)
    np.testing.assert_allclose(sentiment, q @ COMPATIBILITY)


def test_without_emotions_sentiment_is_what_is_judged() -> None:
    judged = np.array([[[0.2, 0.3, 0.5], [np.nan] * 3]])
    start = np.full(7, 1 / 7) @ COMPATIBILITY
    emotions, sentiment = agree(NOTHING[None], judged)
    assert np.isnan(emotions).all()
    np.testing.assert_allclose(sentiment, judged[:, 0])
    # Two judges who are independent of each other: the product of what each adds to where both start.
    both = np.array([[[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]])
    product = np.array([0.2, 0.3, 0.5]) ** 2 / start
    np.testing.assert_allclose(agree(NOTHING[None], both)[1][0], product / product.sum())


def test_where_nobody_speaks_nothing_is_said() -> None:
    emotions, sentiment = agree(NOTHING[None], NO_JUDGE)
    assert np.isnan(emotions).all()
    assert np.isnan(sentiment).all()


def test_a_judge_who_is_trusted_entirely_replaces_what_its_emotions_imply() -> None:
    """Jeffrey's rule: sentiment becomes the judged one, and emotions of one sentiment keep their proportions."""
    q = np.random.default_rng(1).dirichlet(np.ones(7), size=4)
    judged = np.random.default_rng(2).dirichlet(np.ones(3), size=(4, 1))
    emotions, sentiment = agree(q, judged, trust=1.0)
    np.testing.assert_allclose(sentiment, judged[:, 0])
    joint = q[:, :, None] * COMPATIBILITY
    joint *= (judged[:, 0] / joint.sum(axis=1))[:, None, :]
    np.testing.assert_allclose(emotions, joint.sum(axis=2))
    np.testing.assert_allclose(agree(q, judged, trust=0.0)[0], q)


def test_who_agrees_with_itself_changes_nothing() -> None:
    q = np.random.default_rng(3).dirichlet(np.ones(7), size=4)
    implied = (q @ COMPATIBILITY)[:, None]
    emotions, sentiment = agree(q, implied)
    np.testing.assert_allclose(emotions, q)
    np.testing.assert_allclose(sentiment, implied[:, 0])


def test_the_judge_replaces_its_own_emotions_not_those_of_others() -> None:
    """The face is sure of sadness: words that judge what their own emotions imply already do not take it back."""
    words, face = _sure_of("happiness", 0.6), _sure_of("sadness", 0.9)
    fused = words * face / (words * face).sum()
    judged = np.stack([(words @ COMPATIBILITY), np.full(3, np.nan)])[None]
    alone = np.stack([words, face])[None]
    emotions, sentiment = agree(fused[None], judged, alone)
    np.testing.assert_allclose(emotions[0], fused)
    np.testing.assert_allclose(sentiment[0], fused @ COMPATIBILITY)


def test_a_judge_without_emotions_counts_from_the_prior() -> None:
    fused, judged = _sure_of("sadness", 0.5)[None], np.array([[[0.1, 0.2, 0.7]]])
    alone, prior = NOTHING[None, None], np.full(7, 1 / 7)
    joint = fused[0, :, None] * COMPATIBILITY * (judged[0, 0] / (prior @ COMPATIBILITY))
    joint /= joint.sum()
    emotions, sentiment = agree(fused, judged, alone, prior)
    np.testing.assert_allclose(emotions[0], joint.sum(axis=1))
    np.testing.assert_allclose(sentiment[0], joint.sum(axis=0))


def test_a_judge_without_emotions_starts_from_an_uneven_prior() -> None:
    judged, prior = np.array([[[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]] * 2), np.array([0.3, 0.1, 0.1, 0.2, 0.1, 0.1, 0.1])
    judged[1] = np.nan
    start = prior @ COMPATIBILITY
    product = judged[0, 0] * judged[0, 1] / start
    emotions, sentiment = agree(np.full((2, 7), np.nan), judged, prior=prior)
    np.testing.assert_allclose(sentiment, [product / product.sum(), [np.nan] * 3])
    assert np.isnan(emotions).all()


@pytest.mark.parametrize("judgement", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_certainties_stay_finite(judgement: tuple[float, ...]) -> None:
    emotions, sentiment = agree(np.eye(7), np.broadcast_to(judgement, (7, 1, 3)))
    for answer in (emotions, sentiment):
        assert np.isfinite(answer).all()
        np.testing.assert_allclose(answer.sum(axis=1), 1.0)
    assert (np.sign(sentiment_score(sentiment)) == np.sign(judgement[2] - judgement[0])).sum() >= 5
    assert len(SENTIMENT) == sentiment.shape[1]


def test_rows_are_answered_by_themselves() -> None:
    rng = np.random.default_rng(4)
    q, judged = rng.dirichlet(np.ones(7), size=6), rng.dirichlet(np.ones(3), size=(6, 2))
    q[1], judged[2, 0], judged[3] = np.nan, np.nan, np.nan
    together = agree(q, judged)
    for i in range(6):
        for whole, row in zip(together, agree(q[i : i + 1], judged[i : i + 1]), strict=True):
            np.testing.assert_allclose(whole[i], row[0])


@pytest.mark.parametrize(
    ("label", "negative", "even", "positive"),
    [
        ("anger", False, True, True),
        ("disgust", False, True, True),
        ("fear", False, True, True),
        ("sadness", False, True, True),
        ("happiness", True, True, False),
        ("surprise", False, False, False),
        ("neutral", False, False, False),
    ],
)
def test_which_sentiment_contradicts_which_emotion(label: str, negative: bool, even: bool, positive: bool) -> None:
    sentiment = np.array([[0.5, 0.2, 0.3], [0.3, 0.4, 0.3], [0.3, 0.2, 0.5]])
    emotions = np.tile(_sure_of(label, 0.5), (3, 1))
    assert contradicts(emotions, sentiment).tolist() == [negative, even, positive]
    assert not contradicts(np.full((3, 7), np.nan), sentiment).any()


def test_a_judge_is_trusted_as_far_as_label_and_sentiment_agree() -> None:
    rng = np.random.default_rng(5)
    q, judged = rng.dirichlet(np.ones(7), size=300), rng.dirichlet(np.full(3, 0.3), size=(300, 1))
    alone, prior = rng.dirichlet(np.ones(7), size=(300, 1)), rng.dirichlet(np.ones(7))
    alone[::5] = np.nan
    q[7], judged[8] = np.nan, np.nan
    trusts = trust_that_agrees(q, judged, alone, prior)
    for i, trust in enumerate(trusts):
        row = slice(i, i + 1)
        fits = [
            t for t in (0.9, 0.45) if not contradicts(*agree(q[row], judged[row], alone[row], prior, trust=t)).any()
        ]
        assert trust == (fits or [0.0])[0]
    assert set(trusts) == {0.9, 0.45, 0.0}


def test_an_answer_leans_to_its_label_as_little_as_it_takes() -> None:
    """Happiness is the likeliest emotion, though three negative ones together outweigh it: log(0.574 / 0.268) / 2."""
    q, prior = np.array([[0.25, 0.0, 0.2, 0.3, 0.25, 0.0, 0.0]]), np.full(7, 1 / 7)
    judged = np.array([[[0.6, 0.2, 0.2]]])
    before = agree(q, judged, q[:, None], prior, 0.0)
    assert contradicts(*before).all()
    lean = lean_that_agrees(q, judged, q[:, None], prior, np.zeros(1))
    assert lean == pytest.approx(np.log(0.572 / 0.268) / 2 + 0.01)
    emotions, sentiment = agree(q, judged, q[:, None], prior, 0.0, lean)
    assert emotions.argmax() == EKMAN.index("happiness")
    assert 0 < sentiment_score(sentiment)[0] < 0.02
    assert emotions.sum() == pytest.approx(1)
    assert lean_that_agrees(q, NO_JUDGE, q[:, None], prior, np.zeros(1)) > 0
    np.testing.assert_array_equal(agree(q, NO_JUDGE, q[:, None], prior, 0.0, lean)[0], q)  # nobody judges


@pytest.mark.parametrize("concentration", [0.05, 0.3, 1.0, 5.0])
def test_whatever_words_say_label_and_sentiment_of_the_answer_agree(concentration: float) -> None:
    from affuse import Analyzer, Segment, Timeline
    from affuse.analyzer import load_experts
    from affuse.experts.base import ExpertOutput

    rng = np.random.default_rng(7)
    n = 1000
    said = rng.dirichlet(np.full(7, concentration), size=n), rng.dirichlet(np.full(3, concentration), size=n)
    windows = Timeline(tuple(Segment(float(i), i + 1.0) for i in range(n)))
    analyzer = Analyzer(load_experts({"text": "text"}))
    answers = analyzer.fuse_outputs({"text": ExpertOutput(said[0], ("",) * n, said[1])}, windows)
    signs = {"anger": -1, "disgust": -1, "fear": -1, "sadness": -1, "happiness": 1}
    for answer in answers:
        assert answer.label is not None
        assert answer.sentiment is not None
        sign = signs.get(answer.label, 0)
        assert sign == 0 or sign * answer.sentiment > 0, answer
    assert {answer.label for answer in answers} == set(EKMAN.labels)


def test_compatibilities_by_hand() -> None:
    """A fifth of the mass lies elsewhere, four fifths of that at neutral; neutral goes both ways alike."""
    expected = {
        "anger": (0.8, 0.16, 0.04),
        "happiness": (0.04, 0.16, 0.8),
        "surprise": (0.3, 0.4, 0.3),
        "neutral": (0.1, 0.8, 0.1),
    }
    np.testing.assert_array_equal(_compatibility(0.2), COMPATIBILITY)
    expected |= dict.fromkeys(("disgust", "fear", "sadness"), expected["anger"])
    for label, row in expected.items():
        np.testing.assert_allclose(_compatibility(0.2)[EKMAN.index(label)], row)
