"""Finding words and phrases in what somebody said, in scripts with spaces between words and in those without."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from affuse.errors import ConfigError
from affuse.fusion.base import Columns

__all__ = ["MAX_PHRASE", "PhraseIndex", "find_all", "normalise"]

MAX_PHRASE = 5
"""Longest phrase in words; where words are not separated, eight characters count as one."""

_CHARACTERS_A_WORD = 8

# Thai, Lao, Myanmar, Khmer, kana, Chinese characters: written without spaces between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Vowel signs and accents belong to their word, but are no \w: combining marks, Hebrew, Arabic, India's, joiners.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff\u200c\u200d"
_LETTER = rf"(?:[^\W{_UNSPACED}]|[{_MARKS}])"
_TOKEN = re.compile(rf"{_LETTER}+(?:'{_LETTER}+)*|[.!?;。\n]|[,:—–]")
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_GAP = re.compile(rf"(?<=[{_UNSPACED}])\s+(?=[{_UNSPACED}])")

_STOP = "."  # no phrase and no negation reaches over it
_STOPS = frozenset(".!?;。\n")
_COMMAS = frozenset(",:—–")
_CONTRASTS = frozenset({"but", "aber"})  # "not sad but happy"

# Negation, in English (as in VADER, Hutto & Gilbert 2014), in German, and without the apostrophe that recognisers drop.
_ENGLISH = """not never cannot neither nor nothing nobody hardly barely scarcely rarely seldom without aint arent cant
couldnt didnt doesnt dont hadnt hasnt havent isnt shouldnt wasnt werent wont wouldnt"""
_GERMAN = "nicht nie niemals kein keine keinen keinem keiner"
_NEGATORS = frozenset(f"{_ENGLISH} {_GERMAN}".split())
_REACH = 3  # words
_CHINESE_NEGATORS = ("不", "没", "沒", "没有", "沒有", "不是", "不太", "不很", "不够", "不夠", "不那么", "不怎么", "未")


def normalise(text: str) -> str:
    """``text`` as it is compared: compatible characters made one (NFKC), no case, straight apostrophes."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = text.replace("’", "'").replace("\ufe0f", "")  # a sign's request to be drawn in colour
    return _GAP.sub("", text)  # recognisers put spaces between Chinese words


class PhraseIndex:
    """Finds any of many phrases in a text, in time that grows with the text and not with the number of phrases.

    Phrases of scripts with spaces match whole words; all others (Chinese, signs such as "😂") match anywhere.

    Parameters
    ----------
    phrases : sequence of str
        Up to `MAX_PHRASE` words each; upper and lower case are the same.

    Raises
    ------
    ConfigError
        For an empty or too long phrase, and for two that are the same.

    Examples
    --------
    >>> index = PhraseIndex(["happy", "fed up", "开心"])
    >>> index.meant("I am not happy, I am FED UP")
    [1]
    >>> index.meant("他不开心"), index.meant("太开心了")
    ([], [2])
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self._whole: dict[str, int] = {}
        self._anywhere: dict[str, int] = {}
        for number, phrase in enumerate(phrases):
            self._add(number, phrase, phrases)
        # The lengths of phrases by their first word or character, longest first: most words begin none.
        self._words_from = _lengths(phrase.split(" ") for phrase in self._whole)
        self._characters_from = _lengths(self._anywhere)

    def _add(self, number: int, phrase: str, phrases: Sequence[str]) -> None:
        text = normalise(phrase).strip()
        words = [token for token in _TOKEN.findall(text) if token not in _STOPS and token not in _COMMAS]
        spaced = bool(words) and not _HAS_UNSPACED.search(text)
        length = len(words) if spaced else -(-len(text) // _CHARACTERS_A_WORD)
        if not text:
            raise ConfigError("an empty phrase would be found everywhere; leave it out")
        if length > MAX_PHRASE:
            raise ConfigError(f"the phrase {phrase!r} is longer than {MAX_PHRASE} words")
        where, key = (self._whole, " ".join(words)) if spaced else (self._anywhere, text)
        if where.setdefault(key, number) != number:
            raise ConfigError(f"the phrases {phrases[where[key]]!r} and {phrase!r} are the same")

    def meant(self, text: str) -> list[int]:
        """Numbers of the phrases that ``text`` holds and does not negate, in rising order, each once.

        Where phrases overlap the longest counts ("killing it", not "killing"). English and German negation reaches
        three words far within its clause ("no" one word), Chinese negation what follows directly.
        """
        return self._find(normalise(text), longest=True)

    def held(self, text: str) -> list[int]:
        """Numbers of all phrases that ``text`` holds, negated, overlapping or not, in rising order, each once."""
        return self._find(normalise(text), longest=False)

    def _find(self, text: str, longest: bool) -> list[int]:
        found: set[int] = set()
        if self._whole:
            self._find_words(text, longest, found)
        if self._anywhere:
            self._find_characters(text, longest, found)
        return sorted(found)

    def _find_words(self, text: str, longest: bool, found: set[int]) -> None:
        words, clauses = _words(text)
        known, at = self._words_from, 0
        while at < len(words):
            step = 1
            for length in known.get(words[at], ()):
                number = self._whole.get(" ".join(words[at : at + length]))
                if number is None:
                    continue
                if not longest:
                    found.add(number)
                    continue
                if not _negated(words, clauses, at):
                    found.add(number)
                step = length
                break
            at += step

    def _find_characters(self, text: str, longest: bool, found: set[int]) -> None:
        known, at = self._characters_from, 0
        while at < len(text):
            step = 1
            for length in known.get(text[at], ()):
                number = self._anywhere.get(text[at : at + length])
                if number is None:
                    continue
                if not longest:
                    found.add(number)
                    continue
                if not text[:at].endswith(_CHINESE_NEGATORS):
                    found.add(number)
                step = length
                break
            at += step


def find_all(texts: Iterable[str], find: Callable[[str], list[int]]) -> tuple[Columns, Columns]:
    """What ``find`` finds in all ``texts``, as pairs: the number of the text, the number of the phrase.

    Texts that occur again, as those of overlapping windows do, are looked through once.
    """
    known: dict[str, list[int]] = {}
    rows: list[int] = []
    numbers: list[int] = []
    for row, text in enumerate(texts):
        if not text:
            continue
        found = known.get(text)
        if found is None:
            found = known[text] = find(text)
        rows += [row] * len(found)
        numbers += found
    return np.array(rows, dtype=np.intp), np.array(numbers, dtype=np.intp)


def _lengths(phrases: Iterable[Sequence[str]]) -> dict[str, tuple[int, ...]]:
    lengths: dict[str, set[int]] = {}
    for phrase in phrases:
        lengths.setdefault(phrase[0], set()).add(len(phrase))
    return {first: tuple(sorted(values, reverse=True)) for first, values in lengths.items()}


def _words(text: str) -> tuple[list[str], set[int]]:
    """Words, with `_STOP` where a sentence ends, and the positions of words that begin a clause."""
    words: list[str] = []
    clauses: set[int] = set()
    for token in _TOKEN.findall(text):
        if token in _STOPS:
            words.append(_STOP)
        elif token in _COMMAS:
            clauses.add(len(words))
        else:
            words.append(token)
    return words, clauses


def _negated(words: Sequence[str], clauses: set[int], at: int) -> bool:
    for back in range(1, min(_REACH, at) + 1):
        word = words[at - back]
        if at - back + 1 in clauses or word == _STOP or word in _CONTRASTS:
            return False
        if word in _NEGATORS or word.endswith("n't") or (word == "no" and back == 1):
            return True
    return False
