"""The multilingual text network: pieces of words in 28 languages in, emotions, marks, sentiment and language out."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.experts.text.bulk import CHECKED, NO_BUCKET, bulk_session, read_in_batches, same
from affuse.experts.text.chinese import gram_hashes
from affuse.experts.text.language import LanguageModel, read_in_parts, stored_tokenizer

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["N_BUCKETS", "MultilingualText", "gram_buckets"]

_BITS = 14
N_BUCKETS = 1 << _BITS
"""Number of places that n-grams of characters fall into."""

_MAX_TOKENS = 128  # twice what the network was trained with; longer texts are read in parts
_SURE = 0.6  # most languages that the network does not know look like several that it does
_REMEMBERED = 64  # texts: recognising the language of one and reading it is one run of the network
_OUTPUTS = ("probabilities", "sentiment", "embedding", "languages", "marks")
_SPACE = re.compile(r"\s+")
_FACTOR = np.uint64(2654435761)  # 2^32 / golden ratio (Knuth, TAOCP 3, 6.4)
_SHIFT = np.uint64(32 - _BITS)


def gram_buckets(text: str) -> np.ndarray:
    """Places (m,) int64, ascending, that the n-grams of one to four characters of a text fall into.

    Full width counts as half width, capitals as small letters, and every blank as one space.
    """
    plain = f" {_SPACE.sub(' ', unicodedata.normalize('NFKC', text).lower()).strip()} "
    hashes = gram_hashes(plain)[0].astype(np.uint64) * _FACTOR
    return np.unique(((hashes & np.uint64(0xFFFFFFFF)) >> _SHIFT).astype(np.int64))


class MultilingualText(LanguageModel):
    """multilingual-e5-small tuned on posts in 28 languages, with linear models over n-grams; a batch equals its rows.

    A subclass is a language: ``heads`` are the names that the network gives it. The embedding is the mean of the last
    layer's states. The tokenizer and the names of the languages travel in the metadata of the ONNX file, under the same
    checksum as the weights. Raises AssetError where ``path`` is another model's file.
    """

    asset = "text_multi"
    heads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self._path = path
        self._session = weights.session(path)
        facts = self._session.get_modelmeta().custom_metadata_map
        try:
            self._tokenizer = Tokenizer.from_str(stored_tokenizer(facts, weights.companions(path)))
            self.languages: tuple[str, ...] = tuple(json.loads(facts["languages"]))
        except KeyError as error:
            raise AssetError(
                f"{path} does not hold the multilingual text network: no {error} in its metadata"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._one_by_one = lru_cache(maxsize=_REMEMBERED)(self._read)
        self._ahead: dict[str, tuple[np.ndarray, ...]] = {}  # what many texts were answered together
        self._last: tuple[str | None, Mapping[str, float]] = (None, {})  # text and its languages

    @classmethod
    def claims(cls, text: str, network: Callable[[], Self]) -> bool:
        """Whether the network is sure enough that a text is in this language."""
        return cls.is_sure(network().languages_of(text))

    @classmethod
    def is_sure(cls, shares: Mapping[str, float], least: float = _SURE) -> bool:
        """Whether this language has ``least`` of the ``shares`` of all."""
        return sum(shares[head] for head in cls.heads) >= least

    def languages_of(self, text: str) -> Mapping[str, float]:
        """How likely a text is in each language, by the network's names; others than these 28 it does not know."""
        last, shares = self._last
        if last != text:  # every language asks in turn
            shares = dict(zip(self.languages, self._answers(text)[3].tolist(), strict=True))
            self._last = text, shares
        return shares

    def name_of_language(self, text: str) -> str:
        """The network's name of the language that a text is most likely in."""
        shares = self.languages_of(text)
        return max(shares, key=lambda name: shares[name])

    def read(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Emotions (7,), sentiment (3,) and embedding (d,) of one text; parts of a long one count by their tokens."""
        emotions, sentiment, embedding, *_ = self._answers(text)
        return emotions / emotions.sum(), sentiment / sentiment.sum(), embedding  # weights of 8 bits miss 1 by 1e-5

    def marks(self, text: str) -> np.ndarray:
        """How likely annotators mark a text with each of the six emotions (6,); one half is where to say yes."""
        return self._answers(text)[4]

    def read_all(self, texts: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As `read` of each, in batches of texts of equal length."""
        with self.reading_ahead(texts):
            return [self.read(text) for text in texts]

    @contextmanager
    def reading_ahead(self, texts: Sequence[str]) -> Iterator[None]:
        """Inside, all questions about these texts are answered at once: they are read in batches before."""
        new = [] if self._bulk is None else [text for text in dict.fromkeys(texts) if text not in self._ahead]
        if self._bulk is not None:
            self._ahead.update(zip(new, self._batches(self._bulk, new), strict=True))
        try:
            yield
        finally:
            for text in new:
                self._ahead.pop(text, None)  # another thread may have read the same one

    @cached_property
    def _bulk(self) -> InferenceSession | None:
        """None where texts are read one by one."""
        alone = [self._read(text) for text in CHECKED]
        return bulk_session(self._path, lambda session: same(self._batches(session, CHECKED), alone))

    def _batches(self, session: InferenceSession, texts: Sequence[str]) -> list[tuple[np.ndarray, ...]]:
        ids = [self._tokenizer.encode(text).ids for text in texts]
        buckets = [gram_buckets(text) for text in texts]
        return read_in_batches(ids, _MAX_TOKENS, partial(_run_batch, session, buckets))

    def _answers(self, text: str) -> tuple[np.ndarray, ...]:
        known = self._ahead.get(text)
        return self._one_by_one(text) if known is None else known

    def _read(self, text: str) -> tuple[np.ndarray, ...]:
        run = partial(self._run, buckets=gram_buckets(text))
        return read_in_parts(self._tokenizer.encode(text).ids, _MAX_TOKENS, run)

    def _run(self, ids: list[int], buckets: np.ndarray) -> list[np.ndarray]:
        row = np.array([ids], dtype=np.int64)
        inputs = {"ids": row, "mask": np.ones_like(row), "buckets": buckets[None]}
        outputs = self._session.run(list(_OUTPUTS), inputs)
        return [np.asarray(output[0], dtype=float) for output in outputs]


def _run_batch(
    session: InferenceSession, buckets: Sequence[np.ndarray], ids: np.ndarray, texts: Sequence[int]
) -> Sequence[np.ndarray]:
    """Outputs for ids (n, t) of texts, whose buckets are filled up to one length."""
    places = np.full((len(texts), max(len(buckets[text]) for text in texts)), NO_BUCKET)
    for row, text in zip(places, texts, strict=True):
        row[: len(buckets[text])] = buckets[text]
    outputs: Sequence[np.ndarray] = session.run(
        list(_OUTPUTS), {"ids": ids, "mask": np.ones_like(ids), "buckets": places}
    )
    return outputs


def _language(code: str, script: str, *heads: str) -> type[MultilingualText]:
    """The class of one language."""
    name = f"Multilingual_{code}"
    return type(name, (MultilingualText,), {"code": code, "script": script, "heads": heads, "__module__": __name__})


Afrikaans = _language("af", "latin", "afr")
Amharic = _language("am", "ethiopic", "amh")
Arabic = _language("ar", "arabic", "arq", "ary")
German = _language("de", "latin", "deu")
Spanish = _language("es", "latin", "esp")
Hausa = _language("ha", "latin", "hau")
Hindi = _language("hi", "devanagari", "hin")
Igbo = _language("ig", "latin", "ibo")
Marathi = _language("mr", "devanagari", "mar")
Oromo = _language("om", "latin", "orm")
Pidgin = _language("pcm", "latin", "pcm")
Portuguese = _language("pt", "latin", "ptbr", "ptmz")
Romanian = _language("ro", "latin", "ron")
Russian = _language("ru", "cyrillic", "rus")
Kinyarwanda = _language("rw", "latin", "kin")
Somali = _language("so", "latin", "som")
Sundanese = _language("su", "latin", "sun")
Swedish = _language("sv", "latin", "swe")
Swahili = _language("sw", "latin", "swa")
Tigrinya = _language("ti", "ethiopic", "tir")
Tatar = _language("tt", "cyrillic", "tat")
Ukrainian = _language("uk", "cyrillic", "ukr")
Makhuwa = _language("vmw", "latin", "vmw")
Yoruba = _language("yo", "latin", "yor")
