"""The Chinese text network: characters, n-grams and words in, emotions, sentiment and an embedding out."""

from __future__ import annotations

import re
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affuse import weights
from affuse.errors import AssetError
from affuse.experts.text.chinese_words import Words
from affuse.experts.text.language import LanguageModel

__all__ = ["HEADS", "Alphabet", "ChineseText", "clip_and_pad", "gram_hashes", "look_up", "normalise"]

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

HEADS = ("emotion", "sentiment", "everyday")
"""Parts of the network that read n-grams, each with a vocabulary of its own."""

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


def gram_hashes(normalised: str, others: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct 32-bit hashes (m,) of all n-grams of one to four characters, ascending, and their counts (m,).

    ``others`` holds further hashes of the text, of its words for example, which count as its n-grams do.
    """
    codes = _codes(_START + normalised + _END)
    state = np.zeros(len(codes), dtype=np.uint64)
    hashes = [] if others is None else [others]
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
    """The characters that the convolutions know by their code points ``codes`` (c,), ascending.

    Id 0 is padding, id 1 an unknown character.
    """

    codes: np.ndarray

    @property
    def n_characters(self) -> int:
        """Number of ids, padding and unknown included."""
        return len(self.codes) + 2

    def encode(self, normalised: str) -> np.ndarray:
        """Ids of the characters (t,), int64 and padded at the end."""
        codes = _codes(normalised)
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return clip_and_pad(np.where(self.codes[places] == codes, places + 2, 1).astype(np.int64))


def clip_and_pad(ids: np.ndarray) -> np.ndarray:
    """Ids (n,) of a text's characters as the convolutions read them (t,): start and end, and zeros behind."""
    half = _MAX_CHARACTERS // 2
    kept = ids if len(ids) <= _MAX_CHARACTERS else np.concatenate([ids[:half], ids[-half:]])
    return np.concatenate([kept, np.zeros(_PADDING, dtype=ids.dtype)])


class ChineseText(LanguageModel):
    """Linear models over n-grams and words and small convolutional networks, stacked; runs one text at a time.

    Positive and negative sentiment share what the emotions neutral and surprise leave, in the polarity model's ratio;
    where the text is no review, the evidence of its emotions counts for the ratio too. The embedding is the pooled
    features of the first convolutional network.

    The vocabularies, the dictionary and the table of traditional characters travel in the ONNX file, under the same
    checksum as the weights. ``prior`` (7,) holds the frequencies of emotions under which it answers. Raises AssetError
    where ``path`` is another model's file.
    """

    code = "zh"
    asset = "text_zh"
    script = "han"
    # By the loss on dialogues and posts (dev of CPED and BRIGHTER); reviews are this network's strength.
    multilingual = (0.7, 0.3)

    def __init__(self, path: Path) -> None:
        self._session = weights.session(path)
        try:
            facts = self._session.get_modelmeta().custom_metadata_map
            codes = np.array([ord(c) for c in facts["characters"]], dtype=np.uint64)
            self._alphabet = Alphabet(codes)
            self._simplified = str.maketrans(facts.get("traditional", ""), facts.get("simplified", ""))
            words = facts["words"].split("\n")
        except (KeyError, ValueError) as error:
            raise AssetError(f"{path} does not hold the Chinese text network: no {error} in its metadata") from error
        costs, ends, tags, prior, *vocabularies = self._constants(path)
        self.prior: np.ndarray = np.asarray(prior, dtype=float)
        self._words = Words(words, costs, ends, tags)
        self._vocabularies: list[np.ndarray] = vocabularies

    def read(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Emotions (7,), sentiment (3,) and embedding (d,) of one text."""
        outputs = self._session.run(["probabilities", "sentiment", "embedding"], self._inputs(text))
        emotions, sentiment, embedding = (np.asarray(output[0], dtype=float) for output in outputs)
        return emotions, sentiment, embedding

    def _constants(self, path: Path) -> list[np.ndarray]:
        """The dictionary's costs, ends and tags, the prior and the vocabularies, which are outputs of every input."""
        ids, counts = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        letters = np.zeros((1, _PADDING), dtype=np.int64)
        inputs: dict[str, np.ndarray] = {"characters": letters, "words": letters}
        for head in HEADS:
            inputs |= {f"{head}_grams": ids, f"{head}_counts": counts}
        names = ["word_costs", "word_ends", "word_tags", "prior", *(f"{head}_vocabulary" for head in HEADS)]
        outputs = {output.name for output in self._session.get_outputs()}
        lost = [name for name in names if name not in outputs]
        if lost:
            raise AssetError(f"{path} does not hold this version's Chinese text network: it lacks {', '.join(lost)}")
        return list(self._session.run(names, inputs))

    def _inputs(self, text: str) -> dict[str, np.ndarray]:
        clean = normalise(text).translate(self._simplified)
        cut = self._words.cut(clean)
        characters, words = self._alphabet.encode(clean), clip_and_pad(self._words.ids(cut))
        inputs = {"characters": characters[None], "words": words[None]}
        hashes, counts = gram_hashes(clean, self._words.hashes(cut))
        for head, vocabulary in zip(HEADS, self._vocabularies, strict=True):
            inputs[f"{head}_grams"], inputs[f"{head}_counts"] = look_up(hashes, counts, vocabulary)
        return inputs
