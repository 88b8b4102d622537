"""The words of the commercial set: one network for all languages, English and Chinese included.

It shares the lower layers of multilingual-e5-small with the network of the research set, and gives the same answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import ClassVar, Self

from affuse.experts.text.english import FEW_WORDS
from affuse.experts.text.language import LANGUAGES, LanguageModel
from affuse.experts.text.multilingual import MultilingualText
from affuse.weight_sets import COMMERCIAL

__all__ = ["CommercialText", "commercial_kind"]

_HEADS = {"en": ("eng",), "zh": ("chn",)}
_LEAST = 0.3  # share from which words in Latin letters that no other language claims are taken for English


class CommercialText(MultilingualText):
    """Linear models over states of multilingual-e5-small and over n-grams, learned from data for commercial use."""

    asset = "text_commercial"
    of_set: ClassVar[str] = COMMERCIAL

    @classmethod
    def claims(cls, text: str, network: Callable[[], Self]) -> bool:
        """Whether the network is sure enough; it is asked about English last, of which three words or less suffice."""
        if cls.code != "en":
            return super().claims(text, network)
        return len(text.split()) < FEW_WORDS or cls.is_sure(network().languages_of(text), _LEAST)


@cache
def commercial_kind(code: str) -> type[LanguageModel] | None:
    """The class for a language in the commercial set; None where it is of another package.

    Parameters
    ----------
    code : str
        Code of the language.

    Returns
    -------
    type or None

    Examples
    --------
    >>> commercial_kind("en").asset
    'text_commercial'
    """
    if code not in LANGUAGES.built_in:
        return None
    kind = LANGUAGES.find(code)
    heads = _HEADS.get(code) or kind.heads
    own = {
        "code": code,
        "script": kind.script,
        "heads": heads,
        "__module__": __name__,
        "__doc__": CommercialText.__doc__,
    }
    return type(f"Commercial_{code}", (CommercialText,), own)
