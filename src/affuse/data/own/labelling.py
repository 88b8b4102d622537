"""From labels as people write them to a label space and columns in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from affuse.labels import CANONICAL, EKMAN, SENTIMENT, SYNONYMS, LabelSpace, recognise

__all__ = ["Labelling", "label_space"]

_KNOWN_SPACES = (EKMAN, SENTIMENT)
_ALIKE = 0.8  # difflib's ratio from which a word counts as a misspelling: "hapy" is .89 of "happy"


@dataclass(frozen=True)
class Labelling:
    """A label space, the column of every word in it, misspelt words with what they are near to, and remarks."""

    space: LabelSpace
    columns: Mapping[str, int]
    misspelt: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def label_space(name: str, words: Iterable[str]) -> Labelling:
    """The label space of all ``words``: emotions and sentiments by their usual names, other words as they are."""
    written = sorted({word.strip() for word in words} - {""})
    meant = {word: recognise(word) for word in written}
    known = {label for label in meant.values() if label}
    others = [word for word, label in meant.items() if label is None]
    misspelt = {word: near for word in others if known and (near := _near(word))}
    own = [word for word in others if word not in misspelt]
    space = _space(name, known, own)
    columns = {word: space.index(meant[word] or word) for word in written if word not in misspelt}
    return Labelling(space, columns, misspelt, tuple(_notes(meant, own)))


def _space(name: str, known: set[str], own: Sequence[str]) -> LabelSpace:
    labels = (*(label for label in CANONICAL if label in known), *sorted(own, key=_natural))
    return next((space for space in _KNOWN_SPACES if set(space.labels) == set(labels)), LabelSpace(name, labels))


def _natural(word: str) -> tuple[bool, float, str]:
    """Numbers in their order before words in theirs."""
    return (False, float(word), word) if word.isdecimal() else (True, 0.0, word)


def _near(word: str) -> str:
    return next(iter(difflib.get_close_matches(word.casefold(), SYNONYMS, n=1, cutoff=_ALIKE)), "")


def _notes(meant: Mapping[str, str | None], own: Sequence[str]) -> Iterable[str]:
    renamed = [f"{word} as {label}" for word, label in meant.items() if label and word != label]
    if renamed:
        yield f"labels were read by their usual names: {', '.join(renamed)}"
    if own:
        yield f"labels that are no emotions known to affuse were taken as they are: {', '.join(own)}"
