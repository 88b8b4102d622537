"""The text expert: recognises the language of every cue, and reads emotion and sentiment from its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from affuse import weights
from affuse.experts.base import Abilities
from affuse.experts.text.language import LANGUAGES, LanguageModel, languages_of_script, script_of
from affuse.experts.words import WordsExpert, average
from affuse.labels import EKMAN, SENTIMENT, LabelSpace
from affuse.media import Recording
from affuse.timeline import Timeline

__all__ = ["TextExpert"]

_EMBEDDED = "en"  # the language whose network gives the embeddings


class TextExpert(WordsExpert):
    """Emotion and sentiment of words, in every language of `LANGUAGES`: English and Chinese as shipped.

    Parameters
    ----------
    language : str, optional
        Code of the language of every cue; None to recognise the language of each.
    models : mapping of str to Path, optional
        Other weights than the shipped ones, by language.

    Raises
    ------
    ConfigError
        If a language is not known.

    Examples
    --------
    >>> expert = TextExpert()
    >>> expert.language_of("今天真的太开心了")
    'zh'
    >>> P = expert.classify(["What a wonderful surprise, thank you!"])
    >>> P.shape
    (1, 7)
    """

    name = "text"
    labels: LabelSpace = EKMAN
    abilities = Abilities(
        reads=("words",),
        languages=tuple(LANGUAGES.built_in),
        classifies=True,
        judges_sentiment=True,
        embeds=True,
        streams=True,
    )
    unread = "language not supported"

    def __init__(self, language: str | None = None, models: Mapping[str, Path] | None = None) -> None:
        self.abilities = replace(type(self).abilities, languages=tuple(LANGUAGES))
        for code in [language, *(models or {})]:
            super().in_language(code)
        self.language = language
        self.models = dict(models or {})
        self._networks: dict[str, LanguageModel] = {}

    def in_language(self, language: str | None) -> TextExpert:
        """An expert for words in one language that shares the networks of this one.

        Parameters
        ----------
        language : str or None
            Code of the language; None to recognise that of each cue.

        Returns
        -------
        TextExpert

        Raises
        ------
        ConfigError
            If the language is not known.
        """
        other = TextExpert(language, self.models)
        other._networks = self._networks
        return other

    def network(self, language: str) -> LanguageModel:
        """The network for one language, loaded once.

        Parameters
        ----------
        language : str
            Code of the language.

        Returns
        -------
        LanguageModel
        """
        if language not in self._networks:
            kind = LANGUAGES.find(language)
            self._networks[language] = kind(self.models.get(language) or kind.file())
        return self._networks[language]

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Checksums of the weights by name."""
        kinds = {code: LANGUAGES.find(code) for code in LANGUAGES}
        own = {code: weights.sha256_of(path) for code, path in self.models.items()}
        return {kind.asset or code: own.get(code) or kind.checksum() for code, kind in kinds.items()}

    def sessions(self) -> list[tuple[Any, str]]:
        return [(self.network(code), "_session") for code in LANGUAGES]

    def language_of(self, text: str) -> str | None:
        """Language that a text is read in.

        Parameters
        ----------
        text : str
            One utterance.

        Returns
        -------
        str or None
            Code of the language; None where it is in none that is known, or holds no words.
        """
        if self.language is not None:
            return self.language
        for code in languages_of_script(script_of(text)):
            if LANGUAGES.find(code).claims(text, partial(self.network, code)):
                return code
        return None

    def classify(self, texts: Sequence[str]) -> np.ndarray:
        """Emotions of texts.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        array of shape (n, 7)
            Over `affuse.EKMAN`; a text in no supported language is a row of NaN.
        """
        return self.judge(texts)[0]

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        """Sentiment of texts.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        array of shape (n, 3)
            Over `affuse.SENTIMENT`; a text in no supported language is a row of NaN.
        """
        return self.judge(texts)[1]

    def judge(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        # One run of a network for each text gives both.
        emotions = np.full((len(texts), len(EKMAN)), np.nan)
        sentiments = np.full((len(texts), len(SENTIMENT)), np.nan)
        for i, text in enumerate(texts):
            language = self.language_of(text)
            if language is not None:
                emotions[i], sentiments[i], _ = self.network(language).read(text)
        return emotions, sentiments

    def embed(self, recording: Recording, timeline: Timeline) -> np.ndarray:
        """Embeddings of English words, averaged as in `read`.

        Parameters
        ----------
        recording : Recording
            An open recording.
        timeline : Timeline
            The n windows.

        Returns
        -------
        array of shape (n, d)
            NaN rows where there are no English words.
        """
        english = self.network(_EMBEDDED)
        cues = [cue for cue in recording.cues if self.language_of(cue.text) == _EMBEDDED]
        if not cues:
            return np.full((len(timeline), len(english.read("a")[2])), np.nan)
        shared = timeline.overlaps([cue.segment for cue in cues])
        return average(shared, np.array([english.read(cue.text)[2] for cue in cues]))
