"""Which language an utterance is written in, as far as affuse must know: English, Chinese, or another one."""

from __future__ import annotations

import unicodedata
from collections import Counter

__all__ = ["script_of"]

_HAN_NEIGHBOURS = ("HIRAGANA", "KATAKANA", "HANGUL")


def script_of(text: str) -> str | None:
    """Name of the script of most letters in ``text``: "latin", "han" or "other"; None where there are no letters.

    Han characters among Japanese or Korean letters do not make a text Chinese. A Han character counts as two letters:
    it carries a syllable, where a Latin letter carries about half of one.
    """
    counts: Counter[str] = Counter()
    for character in text:
        if not character.isalpha():
            continue
        name = unicodedata.name(character, "")
        if name.startswith("CJK"):
            counts["han"] += 2
        elif name.startswith("LATIN") or name.startswith("FULLWIDTH LATIN"):
            counts["latin"] += 1
        elif name.startswith(_HAN_NEIGHBOURS):
            counts["neighbour"] += 2
        else:
            counts["other"] += 1
    if not counts:
        return None
    if counts["neighbour"] * 5 >= counts["han"] and counts["neighbour"] > 0:
        counts["other"] += counts.pop("han", 0) + counts.pop("neighbour")
    return max(("latin", "han", "other"), key=lambda script: counts[script])
