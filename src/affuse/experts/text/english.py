"""The English text network: wordpieces in, emotions, sentiment and an embedding out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from affuse import weights
from affuse.experts.text.bulk import CHECKED, bulk_session, read_in_batches, same
from affuse.experts.text.language import LanguageModel, read_in_parts, stored_tokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["FEW_WORDS", "EnglishText"]

_OUTPUTS = ("probabilities", "sentiment", "embedding")
_MAX_TOKENS = 64  # what the network was trained with; longer texts are read in parts

# A text of several words in Latin letters is not English where its words fall into many wordpieces, or into quite
# some and none of them is a common English one. Of 4,560 GoEmotions comments (dev, four words or more) 99.4 % pass.
FEW_WORDS = 4
"""Texts of fewer words are taken for English as far as their pieces tell."""

_MANY_PIECES = 2.0
_SOME_PIECES = 1.25
# Frequent, and rarely words of another language: not "in", "was", "so", "will" or "to".
_ENGLISH_WORDS = frozenset(
    re.findall(
        r"[a-z']+",
        "the and you is it that this of with are my your have for not but they she he his her what there just be we "
        "would can very it's i'm don't at from about like if their were who been how when our as an get know think",
    )
)


class EnglishText(LanguageModel):
    """MiniLM tuned on comments, dialogue and reviews; a batch equals its rows.

    The embedding is the mean of the last layer's states. The tokenizer travels in the metadata of the ONNX file, under
    the same checksum as the weights.
    """

    code = "en"
    asset = "text_en"
    script = "latin"
    multilingual = (0.3, 0.3)  # by the loss on dialogues (dev of MELD)

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._path = path
        self._session = weights.session(path)
        self._tokenizer = Tokenizer.from_str(stored_tokenizer(self._session.get_modelmeta().custom_metadata_map))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @classmethod
    def claims(cls, text: str, network: Callable[[], Self]) -> bool:
        """Whether a text in Latin letters is English, as far as its words tell."""
        words = text.lower().replace("’", "'").split()
        if len(words) < FEW_WORDS:
            return True
        pieces = network().pieces_per_word(text)
        familiar = any(word.strip('.,;:!?"()') in _ENGLISH_WORDS for word in words)
        return not (pieces > _MANY_PIECES or (pieces > _SOME_PIECES and not familiar))

    def read(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Emotions (7,), sentiment (3,) and embedding (d,) of one text; parts of a long one count by their tokens."""
        emotions, sentiment, embedding = read_in_parts(self._tokenizer.encode(text).ids, _MAX_TOKENS, self._run)
        return emotions, sentiment, embedding

    def read_all(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As `read` of each, in batches of texts of equal length."""
        if self._bulk is None:
            return super().read_all(texts)
        return [(emotions, sentiment, embedding) for emotions, sentiment, embedding in self._batches(self._bulk, texts)]

    def pieces_per_word(self, text: str) -> float:
        """Wordpieces a word: about 1.2 in English, above 2 in other languages, whose words the vocabulary lacks."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        words = {w for w in encoding.word_ids if w is not None}
        return len(encoding.ids) / max(1, len(words))

    @cached_property
    def _bulk(self) -> InferenceSession | None:
        """None where texts are read one by one."""
        alone = [self.read(text) for text in CHECKED]
        return bulk_session(self._path, lambda session: same(self._batches(session, CHECKED), alone))

    def _batches(self, session: InferenceSession, texts: Sequence[str]) -> list[tuple[np.ndarray, ...]]:
        ids = [self._tokenizer.encode(text).ids for text in texts]
        return read_in_batches(
            ids, _MAX_TOKENS, lambda rows, _: session.run(list(_OUTPUTS), {"ids": rows, "mask": np.ones_like(rows)})
        )

    def _run(self, ids: list[int]) -> list[np.ndarray]:
        row = np.array([ids], dtype=np.int64)
        outputs = self._session.run(list(_OUTPUTS), {"ids": row, "mask": np.ones_like(row)})
        return [np.asarray(output[0], dtype=float) for output in outputs]
