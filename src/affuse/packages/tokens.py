"""From words to the ids that the network of a package reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse.errors import AssetError, ConfigError
from affuse.packages.package import Package

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TextPart", "Tokens"]


@dataclass(frozen=True)
class TextPart:
    """One part of a text: ``ids`` (1, t) int64, special ones included, and the ``length`` without those."""

    ids: np.ndarray
    length: int


class Tokens:
    """A tokenizer whose texts are cut into parts of at most ``longest`` ids, special ones included, of even length.

    Raises ConfigError where that leaves no room for words.
    """

    def __init__(self, tokenizer: Tokenizer, longest: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self.longest = longest
        special = tokenizer.num_special_tokens_to_add(False)
        if longest <= special:
            raise ConfigError(f"{longest} ids at once leave no room for words beside {special} special ones")

    @classmethod
    def of(cls, package: Package) -> Tokens:
        """The tokenizer of a package that reads tokens. Raises AssetError where it is none."""
        from tokenizers import Tokenizer

        description = package.description
        path: Path = package.path(str(description.tokenizer))
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise AssetError(f"{path} is not a tokenizer: {error}") from error
        return cls(tokenizer, int(description.inputs["tokens"]["longest"]))

    def parts(self, text: str) -> list[TextPart]:
        """The parts of a text; none where it holds no words that the tokenizer knows."""
        encoding = self._tokenizer.encode(text)
        own = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
        if len(own) == 0:
            return []
        before, after = encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]
        ids = np.array(encoding.ids, dtype=np.int64)[own]
        count = -(-len(ids) // (self.longest - len(before) - len(after)))  # rounded up
        return [
            TextPart(np.array([[*before, *cut.tolist(), *after]], dtype=np.int64), len(cut))
            for cut in np.array_split(ids, count)
        ]
