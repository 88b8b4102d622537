"""Plain sentences with one obvious emotion each, written before anybody saw answers, through the whole product."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from affuse import Analyzer
from affuse.analyzer import load_experts

HERE = Path(__file__).parent
SIGNS = {"anger": -1, "disgust": -1, "fear": -1, "sadness": -1, "happiness": 1}


def sentences(language: str) -> list[tuple[str, str]]:
    with (HERE / f"sentences_{language}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def analyzer() -> Analyzer:
    return Analyzer(load_experts({"text": "text"}))


@pytest.mark.parametrize(("language", "count"), [("en", 40), ("zh", 20)])
def test_most_plain_sentences_are_read_right(analyzer: Analyzer, language: str, count: int) -> None:
    asked = sentences(language)
    assert len(asked) == count
    right = [analyzer.analyze_text(text).summary.label == label for text, label in asked]
    assert sum(right) / len(right) >= 0.85


@pytest.mark.parametrize("language", ["en", "zh"])
def test_label_and_sentiment_never_contradict_each_other(analyzer: Analyzer, language: str) -> None:
    for text, _ in [*sentences(language), ("太开心了", ""), ("难过", "")]:
        answer = analyzer.analyze_text(text).summary
        assert answer.label is not None
        assert answer.sentiment is not None
        sign = SIGNS.get(answer.label, 0)
        assert sign == 0 or sign * answer.sentiment > 0, f"{text}: {answer.label}, {answer.sentiment}"
