"""Words: one network for each language, and the expert that chooses between them."""

from affuse.experts.text.expert import TextExpert
from affuse.experts.text.language import LANGUAGES, LanguageModel

__all__ = ["LANGUAGES", "LanguageModel", "TextExpert"]
