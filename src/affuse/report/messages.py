"""Texts that people read, by language: one table for the report, the page of the service, and the terminal.

The table is ``messages.json``: a section for what reports say, which the page shows as well, and one for the rest of
the page. Sentences that come ready-made in English with an analysis (notes, reasons) are matched by the English texts
of ``sentence.…`` and ``phrase.…``, whose ``{places}`` may hold anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from affuse.errors import ConfigError

__all__ = ["LANGUAGES", "NATIVE", "message", "messages", "name_of", "page_messages", "translate"]

LANGUAGES = ("en", "zh")
"""Languages that reports and the page speak."""

NATIVE = {"en": "en", "zh": "zh-CN"}
"""Their names in the attribute ``lang`` of HTML."""

_PLACE = re.compile(r"\{(\w+)\}")


def messages(language: str = "en") -> Mapping[str, str]:
    """Texts of reports by key. Raises ConfigError, with the valid choices, for another language."""
    if language not in LANGUAGES:
        raise ConfigError(f"no texts in the language {language!r}; known: {', '.join(LANGUAGES)}")
    return _table()["report"][language]


def page_messages(language: str = "en") -> Mapping[str, str]:
    """Texts of the page of the service by key, those of reports included."""
    return {**messages(language), **_table()["page"][language]}


def message(language: str, key: str, **values: object) -> str:
    """One text with its ``{places}`` filled in."""
    return messages(language)[key].format(**values)


def name_of(kind: str, name: str, language: str = "en") -> str:
    """A modality's or an emotion's name for readers; names that nobody translated stay as they are."""
    return messages(language).get(f"{kind}.{name}", name)


def translate(sentence: str, language: str) -> str:
    """An English sentence of an analysis in another language; one that is not in the table stays as it is."""
    if language == "en" or not sentence:
        return sentence
    found = _translated(sentence, language, "sentence.")
    if found is None and "; " in sentence:
        parts = [_translated(part, language, "sentence.") for part in sentence.split("; ")]
        found = None if None in parts else "；".join(map(str, parts))
    return sentence if found is None else found


def _translated(sentence: str, language: str, *prefixes: str) -> str | None:
    for key, pattern in _patterns():
        match = pattern.fullmatch(sentence) if key.startswith(prefixes) else None
        if match is not None:
            inner = {
                name: _translated(text, language, "sentence.", "phrase.") or text
                for name, text in match.groupdict().items()
            }
            return messages(language)[key].format(**inner)
    return None


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(key, expression that matches its English text), the texts that say most first."""
    texts = {key: text for key, text in messages("en").items() if key.startswith(("sentence.", "phrase."))}
    ordered = sorted(texts, key=lambda key: -len(_PLACE.sub("", texts[key])))
    return tuple((key, _expression(texts[key])) for key in ordered)


def _expression(text: str) -> re.Pattern[str]:
    pieces = _PLACE.split(text)  # literal, name, literal, name, …, literal
    return re.compile(
        "".join(re.escape(piece) if number % 2 == 0 else f"(?P<{piece}>.+)" for number, piece in enumerate(pieces)),
        re.DOTALL,
    )


@cache
def _table() -> dict[str, dict[str, dict[str, str]]]:
    text = files("affuse.report").joinpath("messages.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, dict[str, str]]] = json.loads(text)
    return table
