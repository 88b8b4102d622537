"""The Chinese text network: characters and their n-grams in, emotions, sentiment and an embedding out."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affuse.errors import AssetError
from affuse.experts import weights
from affuse.labels import SMP2020, LabelSpace

__all__ = ["Alphabet", "ChineseText", "gram_hashes", "look_up", "normalise"]

_LINK = re.compile(r"https?://[\w./?=&%#+~-]+")
_MENTION = re.compile(r"@[\w·-]{1,30}:?")
_EMOTICON = re.compile(r"\[([^\[\]\s]{1,8})\]")  # microblogs write [心] for a picture
_NUMBER = re.compile(r"\d+")
_REPEATED = re.compile(r"(.)\1{2,}", re.DOTALL)
_SPACE = re.compile(r"\s+")

# One private character stands for every link, every mention and every emoticon, so that each counts as one character.
_LINK_MARK, _MENTION_MARK = "\ue000", "\ue001"
_FIRST_EMOTICON, _N_EMOTICONS = 0xF0000, 0xFFFD
_START, _END = "\x02", "\x03"

_LONGEST_GRAM = 4
_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio (Knuth, The Art of Computer Programming 3, 6.4)

_MAX_CHARACTERS = 160  # the convolutions read the start and the end of longer texts; the n-grams read everything
_PADDING = 4  # as wide as the widest convolution, so that a row's answer does not depend on the rows beside it


def normalise(text: str) -> str:
    """Full width to half width (NFKC), lower case; links, mentions and [emoticons] become one character each.

    Numbers become 0; runs of one character are cut to two. Traditional characters stay as they are: `ChineseText`
    replaces them by the table of its file.
    """
    text = unicodedata.normalize("NFKC", text).lower().replace("\ufeff", "")
    text = _MENTION.sub(_MENTION_MARK, _LINK.sub(_LINK_MARK, text))
    text = _EMOTICON.sub(_emoticon_mark, text)
    text = _REPEATED.sub(r"\1\1", _NUMBER.sub("0", text))
    return _SPACE.sub(" ", text).strip()


def _emoticon_mark(match: re.Match[str]) -> str:
    return chr(_FIRST_EMOTICON + zlib.crc32(match[1].encode()) % _N_EMOTICONS)


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "replace"), dtype="<u4").astype(np.uint64)


def gram_hashes(normalised: str) -> tuple[np.ndarray, np.ndarray]:
    """Distinct 32-bit hashes (m,) of all n-grams of one to four characters, ascending, and their counts (m,)."""
    codes = _codes(_START + normalised + _END)
    state = np.zeros(len(codes), dtype=np.uint64)
    hashes = []
    for n in range(min(_LONGEST_GRAM, len(codes))):
        last = len(codes) - n
        state = (state[:last] + codes[n:] + np.uint64(1)) * _HASH_FACTOR
        state ^= state >> np.uint64(29)
        hashes.append(((state * _HASH_FACTOR) >> np.uint64(32)).astype(np.uint32))
    return np.unique(np.concatenate(hashes), return_counts=True)


def look_up(hashes: np.ndarray, counts: np.ndarray, vocabulary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (l,) of the known ``hashes`` in the ascending ``vocabulary``, int64, and their counts (l,), float32."""
    places = np.minimum(np.searchsorted(vocabulary, hashes), len(vocabulary) - 1)
    known = vocabulary[places] == hashes
    return places[known].astype(np.int64), counts[known].astype(np.float32)


@dataclass(frozen=True)
class Alphabet:
    """What the convolutions read: ids of characters and of hashed pairs of characters.

    ``codes`` holds the known characters' code points, ascending; id 0 is padding, id 1 an unknown character.
    """

    codes: np.ndarray
    n_pairs: int

    @property
    def n_characters(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.codes) + 2

    def encode(self, normalised: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids of characters and of pairs, both (t,) int64 and padded at the end."""
        codes = _codes(_clip(normalised))
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        known = np.where(self.codes[places] == codes, places + 2, 1)
        characters = np.concatenate([known, np.zeros(_PADDING, dtype=np.int64)]).astype(np.int64)
        following = np.concatenate([characters[1:], [0]])
        pairs = np.where(characters > 0, (characters * 40503 + following * 7919) % self.n_pairs, 0)
        return characters, pairs


def _clip(text: str) -> str:
    half = _MAX_CHARACTERS // 2
    return text if len(text) <= _MAX_CHARACTERS else text[:half] + text[-half:]


class ChineseText:
    """Linear models over character n-grams and small convolutional networks, averaged; runs one text at a time.

    The vocabularies and the table of traditional characters travel in the ONNX file, under the same checksum as the
    weights. Raises AssetError where ``path`` is another model's file.
    """

    labels: LabelSpace = SMP2020

    def __init__(self, path: Path) -> None:
        self._session = weights.session(path)
        try:
            facts = self._session.get_modelmeta().custom_metadata_map
            codes = np.array([ord(c) for c in facts["characters"]], dtype=np.uint64)
            self._alphabet = Alphabet(codes, int(facts["n_pairs"]))
            self._simplified = str.maketrans(facts.get("traditional", ""), facts.get("simplified", ""))
        except (KeyError, ValueError) as error:
            raise AssetError(f"{path} does not hold the Chinese text network: no {error} in its metadata") from error
        nothing = np.zeros(0, dtype=np.uint32)
        self._vocabularies = self._session.run(
            ["emotion_vocabulary", "sentiment_vocabulary"], self._inputs("", nothing, nothing)
        )

    def read(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Emotions (6,), sentiment (3,) and embedding (d,) of one text."""
        outputs = self._session.run(
            ["probabilities", "sentiment", "embedding"], self._inputs(text, *self._vocabularies)
        )
        emotions, sentiment, embedding = (np.asarray(output[0], dtype=float) for output in outputs)
        return emotions, sentiment, embedding

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Emotions (n, 6) over `SMP2020`."""
        return np.array([self.read(text)[0] for text in texts]).reshape(-1, len(self.labels))

    def sentiment(self, texts: Sequence[str]) -> np.ndarray:
        """Sentiment (n, 3) over `labels.SENTIMENT`.

        Positive and negative share what the emotions neutral and surprise leave, in the polarity model's ratio.
        """
        return np.array([self.read(text)[1] for text in texts]).reshape(-1, 3)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings (n, d): the pooled features of the first convolutional network."""
        return np.array([self.read(text)[2] for text in texts])

    def _inputs(self, text: str, emotion: np.ndarray, sentiment: np.ndarray) -> dict[str, np.ndarray]:
        clean = normalise(text).translate(self._simplified)
        characters, pairs = self._alphabet.encode(clean)
        hashes, counts = gram_hashes(clean)
        inputs = {"characters": characters[None], "pairs": pairs[None]}
        for name, vocabulary in (("emotion", emotion), ("sentiment", sentiment)):
            if len(vocabulary):
                ids, known = look_up(hashes, counts, vocabulary)
            else:
                ids, known = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
            inputs |= {f"{name}_grams": ids, f"{name}_counts": known}
        return inputs
