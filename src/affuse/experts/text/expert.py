"""The text expert: recognises the language of every cue, and reads emotion and sentiment from its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from affuse import weights
from affuse.errors import ConfigError
from affuse.experts.base import NO_WORDS, ExpertOutput
from affuse.experts.text.chinese import ChineseText
from affuse.experts.text.english import EnglishText
from affuse.experts.text.language import script_of
from affuse.labels import EKMAN, SENTIMENT, LabelSpace
from affuse.media import Recording
from affuse.timeline import Timeline

__all__ = ["LANGUAGES", "NO_WORDS", "NO_WORDS_HERE", "TextExpert", "average"]

NO_WORDS_HERE = "no words in this window"

LANGUAGES = ("en", "zh")

# A text of several words in Latin letters is not English where its words fall into many wordpieces, or into quite
# some and none of them is a common English one. Of 4,560 GoEmotions comments (valid, four words or more) 99.4 % pass.
_FOREIGN_WORDS = 4
_MANY_PIECES = 2.0
_SOME_PIECES = 1.25
# Frequent, and rarely words of another language: not "in", "was", "so", "will" or "to".
_ENGLISH_WORDS = frozenset(
    re.findall(
        r"[a-z']+",
        "the and you is it that this of with are my your have for not but they she he his her what there just be we "
        "would can very it's i'm don't at from about like if their were who been how when our as an get know think",
    )
)


class TextExpert:
    """Emotion and sentiment of words, in English and Chinese.

    Parameters
    ----------
    language: "en" or "zh" for every cue, or None to recognise the language of each. Raises ConfigError for another one.
    english, chinese: other weights than the shipped ones.
    """

    name = "text"
    modality = "text"
    labels: LabelSpace = EKMAN

    def __init__(self, language: str | None = None, english: Path | None = None, chinese: Path | None = None) -> None:
        if language is not None and language not in LANGUAGES:
            raise ConfigError(f"unknown language {language!r}; affuse reads {', '.join(LANGUAGES)}")
        self.language = language
        self.english = english
        self.chinese = chinese

    def in_language(self, language: str | None) -> TextExpert:
        """An expert for words in ``language`` (None to recognise it) that shares this one's networks."""
        other = TextExpert(language, self.english, self.chinese)
        other._english, other._chinese = self._english, self._chinese
        return other

    @cached_property
    def _english(self) -> EnglishText:
        return EnglishText(self.english or weights.shipped("text_en"))

    @cached_property
    def _chinese(self) -> ChineseText:
        return ChineseText(self.chinese or weights.shipped("text_zh"))

    @property
    def networks(self) -> tuple[EnglishText, ChineseText]:
        """The networks of both languages."""
        return self._english, self._chinese

    @property
    def sha256(self) -> dict[str, str]:
        """Checksums of the weights by name."""
        own = {"text_en": self.english, "text_zh": self.chinese}
        return {n: weights.digest(n) if path is None else weights.sha256_of(path) for n, path in own.items()}

    def language_of(self, text: str) -> str | None:
        """Language that a text is read in; None where it is in neither, or holds no words."""
        if self.language is not None:
            return self.language
        script = script_of(text)
        if script == "han":
            return "zh"
        if script == "latin" and not self._is_foreign(text):
            return "en"
        return None

    def _is_foreign(self, text: str) -> bool:
        words = text.lower().replace("’", "'").split()
        if len(words) < _FOREIGN_WORDS:
            return False
        pieces = self._english.pieces_per_word(text)
        familiar = any(word.strip('.,;:!?"()') in _ENGLISH_WORDS for word in words)
        return pieces > _MANY_PIECES or (pieces > _SOME_PIECES and not familiar)

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Emotions (n, 7) over `EKMAN`; a text in no supported language is a row of NaN."""
        return self._each(texts)[0]

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        """Sentiment (n, 3) over `labels.SENTIMENT`; a text in no supported language is a row of NaN."""
        return self._each(texts)[1]

    def _each(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        emotions = np.full((len(texts), len(EKMAN)), np.nan)
        sentiments = np.full((len(texts), len(SENTIMENT)), np.nan)
        for i, text in enumerate(texts):
            language = self.language_of(text)
            if language == "en":
                emotions[i], sentiments[i], _ = self._english.read(text)
            elif language == "zh":
                emotions[i], sentiments[i], _ = self._chinese.read(text)
        return emotions, sentiments

    def read(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        """One reading for the whole scene; a window averages its cues, weighted by the seconds they share."""
        cues = recording.cues
        emotions, sentiments = self._each([cue.text for cue in cues])
        shared = timeline.overlaps([cue.segment for cue in cues])
        readable = ~np.isnan(emotions).any(axis=1)
        reasons = tuple(self._reason(row, readable, recording) for row in shared)
        parts = [(shared[:, readable], values[readable]) for values in (emotions, sentiments)]
        return [ExpertOutput(average(*parts[0]), reasons, sentiment=average(*parts[1]))]

    def _reason(self, shared: np.ndarray, readable: np.ndarray, recording: Recording) -> str:
        if not recording.cues:
            return NO_WORDS
        spoken = shared > 0
        if not spoken.any():
            return NO_WORDS_HERE
        return "" if (spoken & readable).any() else "language not supported"

    def predict(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Emotions (n, 7) a window; NaN where no words are."""
        return self.read(recording, timeline)[0].probabilities

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """English embedding (n, d) a window, weighted as in `read`; NaN where there are no English words."""
        cues = [cue for cue in recording.cues if self.language_of(cue.text) == "en"]
        width = len(self._english.embed(["a"])[0])
        if not cues:
            return np.full((len(timeline), width), np.nan)
        shared = timeline.overlaps([cue.segment for cue in cues])
        return average(shared, self._english.embed([cue.text for cue in cues]))


def average(shared: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the cues' ``values`` (c, d) in every window, weighted by ``shared`` seconds (n, c); NaN without any."""
    total = shared.sum(axis=1, keepdims=True)
    mean = np.full((len(shared), values.shape[1]), np.nan)
    np.divide(shared @ values, total, out=mean, where=total > 0)
    return mean
