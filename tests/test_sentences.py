"""Every sentence has an answer of its own, beside those of the windows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from affuse import EKMAN, Analyzer, LabelSpace, Recording, Segment, Timeline
from affuse.experts.base import Abilities
from affuse.experts.words import NO_WORDS_HERE, WordsExpert
from affuse.report import schema
from affuse.results import Analysis
from affuse.testing import FakeExpert


class Shouting(WordsExpert):
    """Angry in capitals; says nothing of numbers."""

    name, labels = "shouting", LabelSpace("two", ("calm", "angry"))

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        angry = np.array([np.nan if text.isdigit() else 0.9 if text.isupper() else 0.2 for text in texts])
        return np.stack([1 - angry, angry], axis=1)


@pytest.fixture(scope="module")
def shipped() -> Analyzer:
    return Analyzer()


def test_a_single_sentence_has_the_answer_of_the_whole(shipped: Analyzer) -> None:
    analysis = shipped.analyze_text("I am so proud of you, this is wonderful!")
    (cue,) = analysis.cues
    assert cue.label == analysis.summary.label == "happiness"
    assert cue.confidence == pytest.approx(analysis.summary.confidence, abs=1e-9)
    assert cue.sentiment == pytest.approx(analysis.summary.sentiment, abs=1e-9)


def test_sentences_differ_where_the_text_is_mixed(shipped: Analyzer) -> None:
    analysis = shipped.analyze_text("What wonderful news, I am so happy! 我今天非常难过。 1234")
    assert [cue.label for cue in analysis.cues] == ["happiness", "sadness", None]
    assert [np.sign(cue.sentiment or 0) for cue in analysis.cues] == [1, -1, 0]


def test_own_labels_without_sentiment() -> None:
    analysis = Analyzer({"text": Shouting()}).analyze_text("GO AWAY! Come here. 1234")
    assert [cue.label for cue in analysis.cues] == ["angry", "calm", None]
    assert [cue.sentiment for cue in analysis.cues] == [None, None, None]
    jsonschema.validate(json.loads(analysis.to_json()), schema())


def test_experts_that_say_nothing_of_sentences_leave_them_without() -> None:
    analysis: Analysis = Analyzer({"text": FakeExpert("text", {"anger": 0.9})}).analyze_text("No! Never.")
    assert [cue.label for cue in analysis.cues] == [None, None]


class Judging(WordsExpert):
    """The same emotions for all texts; what it judges of the sentiment is told by the text."""

    name, labels = "judging", EKMAN
    abilities = Abilities(reads=("words",), classifies=True, judges_sentiment=True)
    prior = np.full(len(EKMAN), 1 / len(EKMAN))

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        return np.tile(np.array([0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 0.2]), (len(texts), 1))

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[0.1, 0.1, 0.8] if "good" in text else [0.8, 0.1, 0.1] for text in texts])


def test_sentences_that_come_again_are_answered_like_the_first() -> None:
    said = "This is good. This is bad. This is good."
    first, second, third = Analyzer({"text": Judging()}).analyze_text(said).cues
    assert (first.label, first.confidence, first.sentiment) == (third.label, third.confidence, third.sentiment)
    assert first.sentiment is not None
    assert second.sentiment is not None
    assert first.sentiment > second.sentiment


def test_thousands_of_sentences_keep_their_order() -> None:
    shares = np.random.default_rng(0).random(5000)

    class Told(Shouting):
        def classify(self, texts: Sequence[str]) -> np.ndarray:
            angry = np.array([shares[int(text.rstrip("."))] for text in texts])
            return np.stack([1 - angry, angry], axis=1)

    analysis = Analyzer({"text": Told()}).analyze_text(" ".join(f"{number}." for number in range(5000)))
    assert [cue.label for cue in analysis.cues] == ["angry" if share > 0.5 else "calm" for share in shares]
    np.testing.assert_allclose([cue.confidence for cue in analysis.cues], np.maximum(shares, 1 - shares))


def test_reasons_tell_windows_without_words_from_those_with_unreadable_ones(tmp_path: Path) -> None:
    class Told(Shouting):
        unread = "numbers only"

    texts = ("Come here.", "1234")
    cues = [{"start": 10.0 * i, "end": 10.0 * i + 1, "text": texts[i % 2]} for i in range(100)]
    path = tmp_path / "talk.json"
    path.write_text(json.dumps({"segments": cues}))
    windows = Timeline.windows(991.0, 3.0, 1.0)
    (output,) = Told().read(Recording.open(path), windows)
    for window, reason, row in zip(windows, output.reasons, output.probabilities, strict=True):
        near = [i for i in range(100) if window.overlap(Segment(10.0 * i, 10.0 * i + 1)) > 0]
        assert reason == (NO_WORDS_HERE if not near else "numbers only" if near[0] % 2 else "")
        assert np.isnan(row).all() == bool(reason)
