"""Every sentence has an answer of its own, beside those of the windows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import jsonschema
import numpy as np
import pytest

from affuse import Analyzer, LabelSpace
from affuse.experts.words import WordsExpert
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
