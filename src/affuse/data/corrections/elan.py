"""Corrections from ELAN: the labels in the tiers of an ``.eaf`` file."""

from __future__ import annotations

import warnings
from bisect import bisect_left
from pathlib import Path
from typing import Any

from affuse.budget import budget_in_use
from affuse.data.corrections.tiers import Annotation, CorrectedRecording, split_tier_name
from affuse.errors import DataError
from affuse.lazy import needs_extra

__all__ = ["read_elan"]

_WORDS = "words"


def read_elan(path: Path, tier: str) -> list[CorrectedRecording]:
    """The annotations of all tiers called ``tier`` or ``tier@PERSON``, with the words of the tiers ``words``.

    Raises DataError where the file is no ELAN file, has no such tier, or an annotation is empty.
    """
    document = _parsed(path)
    named = {name: split_tier_name(name) for name in document.get_tier_names()}
    chosen = [name for name, (kind, _) in named.items() if kind == tier]
    if not chosen:
        listed = ", ".join(named) or "none"
        raise DataError(f"{path} has no tier called {tier} or {tier}@NAME; its tiers: {listed} (--tier chooses others)")
    words = sorted(
        (
            (middle, person, text)
            for name, (kind, person) in named.items()
            if kind == _WORDS and kind != tier
            for middle, text in _middles(document, name)
        ),
        key=lambda word: word[0],
    )
    if why := budget_in_use().excess("max_cues", len(words)):
        raise DataError(f"{path} has {len(words):,} words; {why}")
    found = [
        annotation
        for name in chosen
        for annotation in _annotations(path, document, name, named[name][1] or _participant(document, name), words)
    ]
    media = [place for medium in document.media_descriptors for place in _places(medium)]
    return [CorrectedRecording(str(path), media, sorted(found, key=lambda a: (a.start, a.end, a.speaker)))]


def _parsed(path: Path) -> Any:
    with needs_extra("formats"):
        from pympi import Eaf
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of the format that are read all the same
            return Eaf(str(path))
    except Exception as error:  # pympi raises Exception itself, and KeyError or IndexError where XML is not ELAN's
        raise DataError(f"{path} is not an ELAN file (.eaf), or not all of it is there") from error


def _aligned(path: Path, document: Any, name: str) -> list[tuple[float, float, str]]:
    try:  # tiers of references hold tuples that are longer: start, end, own text, text of the parent
        rows = [(row[0], row[1], str(row[2] or "")) for row in document.get_annotation_data_for_tier(name)]
        return [(start / 1000, end / 1000, " ".join(text.split())) for start, end, text in rows]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: annotations of the tier {name!r} have no times; align them in ELAN") from error


def _annotations(
    path: Path, document: Any, name: str, person: str, words: list[tuple[float, str, str]]
) -> list[Annotation]:
    found, size = [], 0
    middles = [middle for middle, _, _ in words]
    for start, end, label in _aligned(path, document, name):
        if not label:
            raise DataError(
                f"{path}: the annotation of the tier {name!r} at {start:g} s is empty; give it a label or delete it"
            )
        said = [
            text
            for _, speaker, text in words[bisect_left(middles, start) : bisect_left(middles, end)]
            if not speaker or not person or speaker == person
        ]
        size += sum(map(len, said))  # labels that overlap repeat the words under them
        if why := budget_in_use().excess("max_text", size):
            raise DataError(f"{path}: the labels of the tier {name!r} hold {size:,} letters of words; {why}")
        found.append(Annotation(start, end, label, person, " ".join(said)))
    return found


def _middles(document: Any, name: str) -> list[tuple[float, str]]:
    return [((start + end) / 2, text) for start, end, text in _aligned(Path(name), document, name) if text]


def _participant(document: Any, name: str) -> str:
    return str(document.tiers[name][2].get("PARTICIPANT") or "").strip()


def _places(medium: Any) -> list[str]:
    return [place for place in (medium.get("RELATIVE_MEDIA_URL"), medium.get("MEDIA_URL")) if place]
