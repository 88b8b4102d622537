"""Words of Chinese text: the likeliest cut into words of a dictionary, and what it says about each of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["Words"]

_LONGEST = 5
_UNKNOWN_COST = 17.0  # of a character that is no word: about as much as of the rarest word


@dataclass(frozen=True)
class Words:
    """A dictionary: words (w), what each costs (w,) and the tags that each carries, such as the name of an emotion.

    A cost is the negative logarithm of a word's share of all words. Word i carries ``tags[ends[i] : ends[i + 1]]``;
    ``ends`` is (w + 1,), ``tags`` (l,) holds numbers of kinds of words.
    """

    words: Sequence[str]
    costs: np.ndarray
    ends: np.ndarray
    tags: np.ndarray

    @cached_property
    def _costs(self) -> dict[str, float]:
        return dict(zip(self.words, self.costs.tolist(), strict=True))

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    @cached_property
    def _tag_hashes(self) -> np.ndarray:
        kinds = range(int(self.tags.max(initial=-1)) + 1)
        return np.array([zlib.crc32(f"\x01{kind}".encode()) for kind in kinds], dtype=np.uint32)

    def cut(self, text: str) -> list[str]:
        """The words of ``text`` of least total cost, by dynamic programming; they join to ``text`` again."""
        n, costs = len(text), self._costs
        best, ends = [0.0] * (n + 1), [0] * (n + 1)
        for start in range(n - 1, -1, -1):
            best[start], ends[start] = costs.get(text[start], _UNKNOWN_COST) + best[start + 1], start + 1
            for end in range(start + 2, min(n, start + _LONGEST) + 1):
                cost = costs.get(text[start:end])
                if cost is not None and cost + best[end] < best[start]:
                    best[start], ends[start] = cost + best[end], end
        words, start = [], 0
        while start < n:
            words.append(text[start : ends[start]])
            start = ends[start]
        return words

    def ids(self, cut: list[str]) -> np.ndarray:
        """For every character of the text the id (n,) of its word, int64: its place plus one, or 0 for no word."""
        known = np.array([self._places.get(word, -1) + 1 for word in cut], dtype=np.int64)
        return np.repeat(known, [len(word) for word in cut])

    def hashes(self, cut: list[str]) -> np.ndarray:
        """Hashes (m,) of all words of two characters and more, and of all tags, as often as the text has them."""
        long = [zlib.crc32(word.encode()) for word in cut if len(word) > 1]
        places = [self._places[word] for word in cut if word in self._places]
        tags = [self.tags[self.ends[place] : self.ends[place + 1]] for place in places]
        carried = self._tag_hashes[np.concatenate(tags)] if tags else np.zeros(0, dtype=np.uint32)
        return np.concatenate([np.array(long, dtype=np.uint32), carried])
