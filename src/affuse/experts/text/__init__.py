"""Words: one network for English, one for Chinese, and the expert that chooses between them."""

from affuse.experts.text.expert import LANGUAGES, TextExpert

__all__ = ["LANGUAGES", "TextExpert"]
