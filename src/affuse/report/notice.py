"""The notice for people whose emotions are to be inferred: texts in ``notices.json``, blanks for what is unknown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from affuse.errors import ConfigError
from affuse.purpose import Purpose

__all__ = ["BLANK", "MODALITIES", "notice_languages", "write_notice"]

BLANK = "________"
"""What stands where a fact is not given."""

MODALITIES = ("face", "voice", "text")
"""What emotions can be inferred from."""


def write_notice(
    language: str = "en",
    *,
    purpose: str | None = None,
    exemption: str | None = None,
    modalities: Sequence[str] | None = None,
    controller: str | None = None,
    contact: str | None = None,
    retention: int | None = None,
) -> str:
    """The notice, in Markdown.

    It says what is recorded, that a program infers emotions and from what, the purpose, who is responsible, how long
    everything is kept, what rights there are, and that the result can be wrong. It is a draft: what affuse cannot know
    is a blank, and nothing is invented.

    Parameters
    ----------
    language : str
        One of `notice_languages`.
    purpose, exemption : str, optional
        As in `affuse.purpose.Purpose`.
    modalities : sequence of str, optional
        What is read of the people, of `MODALITIES`; all where None.
    controller : str, optional
        Who is responsible.
    contact : str, optional
        How those who are responsible can be reached.
    retention : int, optional
        Days, at least 1, after which recordings and results are deleted.

    Returns
    -------
    str
        Lines that end in a line break.

    Raises
    ------
    ConfigError
        If a name is unknown, the purpose is forbidden, or the days are below 1.

    References
    ----------
    Regulation (EU) 2024/1689, Art. 50(3); Regulation (EU) 2016/679, Art. 13 and 14; Personal Information Protection
    Law of the People's Republic of China, Art. 17 and 30.

    Examples
    --------
    >>> text = write_notice("de", purpose="research", controller="Example University", modalities=["voice"])
    >>> "- Zweck: wissenschaftliche Forschung" in text, "- Kontakt: ________" in text, "Gesicht," in text
    (True, True, False)
    """
    if language not in notice_languages():
        raise ConfigError(f"no notice in the language {language!r}; known: {', '.join(notice_languages())}")
    if retention is not None and retention < 1:
        raise ConfigError(f"the days of retention must be 1 or more; got {retention}")
    chosen = _check_modalities(MODALITIES if modalities is None else modalities)
    declared = Purpose(purpose, exemption)
    say = _table()[language]
    key = ".".join(name for name in (declared.name, declared.exemption) if name)
    text = "\n".join(say["lines"]).format(
        controller=_one_line(controller),
        contact=_one_line(contact),
        purpose=say["purpose"][key] if key else BLANK,
        retention=BLANK if retention is None else retention,
        recorded=_joined([say["recorded"][name] for name in chosen], say),
        read=_joined([say["read"][name] for name in chosen], say),
        blank=BLANK,
    )
    return f"{text}\n"


def notice_languages() -> tuple[str, ...]:
    """Codes of the languages that there is a notice in.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> notice_languages()
    ('en', 'zh', 'de', 'fr', 'es')
    """
    return tuple(_table())


def _check_modalities(given: Sequence[str]) -> list[str]:
    """The modalities, each once, in our order."""
    unknown = [name for name in given if name not in MODALITIES]
    if unknown or not given:
        got = repr(unknown[0]) if unknown else "none"
        raise ConfigError(f"emotions are inferred from {', '.join(MODALITIES)}; got {got}")
    return [name for name in MODALITIES if name in given]


def _joined(parts: Sequence[str], say: dict[str, Any]) -> str:
    *first, last = parts
    return f"{say['comma'].join(first)}{say['and']}{last}" if first else last


def _one_line(text: str | None) -> str:
    """A fact on one line, so that it stays within its item; a blank where there is none."""
    return " ".join((text or "").split()) or BLANK


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = files("affuse.report").joinpath("notices.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table
