"""Plain sentences with one obvious emotion each, written before anybody saw answers, through the whole product."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

from affuse import Analyzer
from affuse.analyzer import load_experts
from affuse.results import Verdict

HERE = Path(__file__).parent
SIGNS = {"anger": -1, "disgust": -1, "fear": -1, "sadness": -1, "happiness": 1}
SENTENCES = {"en": 200, "zh": 100}


@dataclass(frozen=True)
class Sentence:
    """What any reader would say of a sentence: its emotion, and whether it is negative, neutral or positive."""

    text: str
    label: str
    sentiment: str


def sentences(language: str) -> list[Sentence]:
    with (HERE / f"sentences_{language}.csv").open(encoding="utf-8", newline="") as file:
        return [Sentence(row["text"], row["label"], row["sentiment"]) for row in csv.DictReader(file)]


def third(score: float) -> str:
    """In which third of -1 to 1 a sentiment lies."""
    return "negative" if score < -1 / 3 else "positive" if score > 1 / 3 else "neutral"


@pytest.fixture(scope="module")
def answers() -> dict[str, list[Verdict]]:
    analyzer = Analyzer(load_experts({"text": "text"}))
    return {code: [analyzer.analyze_text(s.text).summary for s in sentences(code)] for code in SENTENCES}


@pytest.mark.parametrize(("language", "floor"), [("en", 0.88), ("zh", 0.85)])
def test_most_plain_sentences_are_read_right(answers: dict[str, list[Verdict]], language: str, floor: float) -> None:
    asked = sentences(language)
    assert len({sentence.text for sentence in asked}) == SENTENCES[language]
    right = [answer.label == sentence.label for answer, sentence in zip(answers[language], asked, strict=True)]
    assert sum(right) / len(right) >= floor


@pytest.mark.parametrize(("language", "floor"), [("en", 0.88), ("zh", 0.85)])
def test_sentiment_agrees_with_most_plain_sentences(
    answers: dict[str, list[Verdict]], language: str, floor: float
) -> None:
    asked = sentences(language)
    right = [third(answer.sentiment) == s.sentiment for answer, s in zip(answers[language], asked, strict=True)]
    assert sum(right) / len(right) >= floor


@pytest.mark.parametrize("language", SENTENCES)
def test_label_and_sentiment_never_contradict_each_other(answers: dict[str, list[Verdict]], language: str) -> None:
    for sentence, answer in zip(sentences(language), answers[language], strict=True):
        assert answer.label is not None
        assert answer.sentiment is not None
        sign = SIGNS.get(answer.label, 0)
        assert sign == 0 or sign * answer.sentiment > 0, f"{sentence.text}: {answer.label}, {answer.sentiment}"
