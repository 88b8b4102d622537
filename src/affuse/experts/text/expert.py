"""The text expert: recognises the language of every cue, and reads emotion and sentiment from its words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from affuse import weights
from affuse.budget import DEFAULT_BUDGET
from affuse.experts.base import Abilities
from affuse.experts.text.commercial import commercial_kind
from affuse.experts.text.english import FEW_WORDS
from affuse.experts.text.language import LANGUAGES, LanguageModel, languages_of_script, script_of
from affuse.experts.text.multilingual import MultilingualText
from affuse.experts.words import WordsExpert, average
from affuse.labels import EKMAN, SENTIMENT, LabelSpace
from affuse.media import Recording
from affuse.timeline import Timeline
from affuse.weight_sets import COMMERCIAL, chosen_set

__all__ = ["TextExpert"]

_EMBEDDED = "en"  # the language whose network gives the embeddings
_REMEMBERED = DEFAULT_BUDGET.max_cues  # texts whose language is known: an analysis asks for it twice
_MANY = 500  # texts that are read in batches, by networks that take a second to load
_GROUP = 1024  # texts whose answers of the multilingual network are held at once
_AT_ONCE = 2  # threads: networks run without the interpreter's lock
_FLOOR = 1e-4  # so that a network that excludes a label does not exclude it for both
_SURE_OF_FEW = 0.8  # share of a language from which two or three words are not taken for English
_MARKED = "de"  # one of those whose network says which emotions annotators mark, in any language that it knows


class TextExpert(WordsExpert):
    """Emotion and sentiment of words, in every language of `LANGUAGES`.

    Parameters
    ----------
    language : str, optional
        Code of the language of every cue; None to recognise the language of each.
    models : mapping of str to Path, optional
        Other weights than the shipped ones, by language.
    weight_set : str, optional
        Of which set the shipped ones are (`affuse.weight_sets`); the one in use where None.
    files : mapping of str to Path, optional
        Other files for the weights of the set, by their names, such as those of an exported system.

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

    def __init__(
        self,
        language: str | None = None,
        models: Mapping[str, Path] | None = None,
        weight_set: str | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> None:
        self.abilities = replace(type(self).abilities, languages=tuple(LANGUAGES))
        for code in [language, *(models or {})]:
            super().in_language(code)
        self.language = language
        self.models = dict(models or {})
        self.weight_set = weight_set
        self.files = dict(files or {})
        self._networks: dict[str, LanguageModel] = {}
        self._recognised: dict[str, str | None] = {}  # languages by text
        # Every text asks for its languages and their classes; a look into the registry takes as long as a tokenizer.
        self._kinds: dict[str, type[LanguageModel]] = {}
        self._of_script: dict[str | None, list[str]] = {}

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
        other = TextExpert(language, self.models, self.weight_set, self.files)
        other._own_set = self._own_set
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
        kind = self._kind(language)
        name = kind.asset or language  # languages of one network share it
        if name not in self._networks:
            self._networks[name] = kind(self._own.get(name) or kind.file())
        return self._networks[name]

    @cached_property
    def _own_set(self) -> str:
        return chosen_set(self.weight_set)

    def _kind(self, language: str) -> type[LanguageModel]:
        """The class that reads a language: that of the set, unless its weights were given."""
        if language not in self._kinds:
            self._kinds[language] = self._find_kind(language)
        return self._kinds[language]

    def _find_kind(self, language: str) -> type[LanguageModel]:
        kind: type[LanguageModel] = LANGUAGES.find(language)
        if self._own_set != COMMERCIAL or (kind.asset or language) in self._own:
            return kind
        return commercial_kind(language) or kind

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Checksums of the weights by name."""
        kinds = {self._kind(code).asset or code: self._kind(code) for code in LANGUAGES}
        own = {name: weights.sha256_of(path) for name, path in self._own.items()}
        return {name: own.get(name) or kind.checksum() for name, kind in kinds.items()}

    @property
    def _own(self) -> dict[str, Path]:
        """Other weights than the shipped ones, by the names of these."""
        return self.files | {LANGUAGES.find(code).asset or code: path for code, path in self.models.items()}

    def sessions(self) -> list[tuple[Any, str]]:
        networks = {id(network): network for network in map(self.network, LANGUAGES)}
        return [(network, "_session") for network in networks.values()]

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
        if text not in self._recognised:
            if len(self._recognised) >= _REMEMBERED:
                self._recognised.clear()
            self._recognised[text] = self._recognise(text)
        return self._recognised[text]

    def _recognise(self, text: str) -> str | None:
        codes = self._codes(script_of(text))
        if _EMBEDDED in codes and len(text.split()) < FEW_WORDS:
            codes = [self._language_of_few_words(text, codes)]
        return next((code for code in codes if self._kind(code).claims(text, partial(self.network, code))), None)

    def _codes(self, script: str | None) -> list[str]:
        """Languages of a script in the order in which they are asked whether a text is in them.

        English last: its network tells by pieces of words, and lets a few texts of others pass.
        """
        if script not in self._of_script:
            self._of_script[script] = sorted(languages_of_script(script), key=lambda code: code == _EMBEDDED)
        return self._of_script[script]

    def _language_of_few_words(self, text: str, codes: Sequence[str]) -> str:
        """Language in Latin letters of so few words that their pieces do not tell English from others."""
        if len(text.split()) < 2:
            return _EMBEDDED
        shares = self._multilingual().languages_of(text)
        kinds = [(code, self._kind(code)) for code in codes]
        known = [(code, kind) for code, kind in kinds if issubclass(kind, MultilingualText)]
        return next((code for code, kind in known if kind.is_sure(shares, _SURE_OF_FEW)), _EMBEDDED)

    def _multilingual(self) -> MultilingualText:
        network = self.network(_MARKED)
        assert isinstance(network, MultilingualText)
        return network

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
        answers = self._read_each(list(dict.fromkeys(texts)))  # in hours of single words, most come again and again
        for i, text in enumerate(texts):
            if (answer := answers[text]) is not None:
                emotions[i], sentiments[i] = answer
        return emotions, sentiments

    def _read_each(self, texts: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray] | None]:
        """What `_read` says of different texts; None for those in no supported language."""

        def answer(text: str) -> tuple[np.ndarray, np.ndarray] | None:
            language = self.language_of(text)
            return None if language is None else self._read(language, text)

        if len(texts) < _MANY:
            return {text: answer(text) for text in texts}
        ordered = sorted(texts, key=len)  # texts of equal length run together
        first, *rest = (ordered[place : place + _GROUP] for place in range(0, len(ordered), _GROUP))
        answers = self._read_together(first)  # loads networks once
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for more in pool.map(self._read_together, rest):
                answers |= more
        return answers

    def _read_together(self, texts: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray] | None]:
        """The same, in batches of texts of one language."""
        answers: dict[str, tuple[np.ndarray, np.ndarray] | None] = dict.fromkeys(texts)
        with self._multilingual().reading_ahead([text for text in texts if self._asks_multilingual(text)]):
            by_language: dict[str, list[str]] = defaultdict(list)
            for text in texts:
                if (language := self.language_of(text)) is not None:
                    by_language[language].append(text)
            for language, own in by_language.items():
                for text, answer in zip(own, self.network(language).read_all(own), strict=True):
                    answers[text] = self._shared(language, text, answer[:2])
        return answers

    def _asks_multilingual(self, text: str) -> bool:
        """Whether the multilingual network may recognise the language of a text, or read it."""
        codes = self._codes(script_of(text)) if self.language is None else [self.language]
        kinds = [self._kind(code) for code in codes]
        return any(issubclass(kind, MultilingualText) or any(kind.multilingual) for kind in kinds)

    def _read(self, language: str, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Emotions (7,) and sentiment (3,), which the language's network may share with the multilingual one.

        Logarithms are averaged: means of probabilities would be less certain than either network is.
        """
        return self._shared(language, text, self.network(language).read(text)[:2])

    def _shared(self, language: str, text: str, own: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The language's own answer, with the multilingual network's share in it."""
        shares = self._kind(language).multilingual
        if not any(shares):
            return own
        other = self._multilingual().read(text)
        emotions, sentiment = map(_pooled, own, other[:2], shares)
        return emotions, sentiment

    def marks(self, texts: Sequence[str]) -> np.ndarray:
        """How likely annotators see each of the six emotions in texts, of which one may show several.

        Parameters
        ----------
        texts : sequence of n str
            Utterances.

        Returns
        -------
        array of shape (n, 6)
            Over `affuse.EKMAN` but neutral; from one half upwards the answer is yes.
        """
        network = self._multilingual()
        return np.array([network.marks(text) for text in texts]).reshape(-1, len(EKMAN) - 1)

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


def _pooled(own: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Two distributions (k,) as one: the mean of their logarithms, in which the other has a ``share``."""
    logarithms = (1 - share) * np.log(own + _FLOOR) + share * np.log(other + _FLOOR)
    pooled = np.exp(logarithms)
    return np.asarray(pooled / pooled.sum())
