"""Augmentation of texts: words left out and typing mistakes, on texts and on token ids."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from affuse.training.augment.ranges import check_share

__all__ = ["WordAugmentation", "drop_tokens", "drop_words", "mistype"]

# Languages without spaces between words lose and mix up characters.
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\u3040-\u30ff"
_WORD = re.compile(rf"\s*(?:[{_HAN}]|[^\s{_HAN}]+)")

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    key: "".join(
        other
        for r, others in enumerate(_ROWS)
        for c, other in enumerate(others)
        # Every row of a QWERTY keyboard stands about half a key to the right of the one above.
        if other != key and abs(r - row) <= 1 and abs((c + r / 2) - (column + row / 2)) <= 1
    )
    for row, keys in enumerate(_ROWS)
    for column, key in enumerate(keys)
}


@dataclass(frozen=True)
class WordAugmentation:
    """Texts as people type them in haste.

    Calling it changes one text; every random choice comes from the generator given.

    Parameters
    ----------
    drop : float
        Share of the words that are left out, on average; a Chinese or Japanese character counts as a word.
    typos : float
        Share of the letters that are mistyped.

    Raises
    ------
    ConfigError
        If a value is no share.

    Examples
    --------
    >>> WordAugmentation(drop=0.5)("how are you today", np.random.default_rng(0))
    'how'
    """

    drop: float = 0.0
    typos: float = 0.0

    def __post_init__(self) -> None:
        check_share("drop", self.drop)
        check_share("typos", self.typos)

    def __call__(self, text: str, rng: np.random.Generator) -> str:
        """A text in, a text out."""
        return mistype(drop_words(text, self.drop, rng), self.typos, rng)


def drop_words(text: str, share: float, rng: np.random.Generator) -> str:
    """``text`` without each of its words with probability ``share``; one word always stays.

    Source: Iyyer et al. 2015 (doi:10.3115/v1/P15-1162). A Chinese or Japanese character counts as a word.
    """
    words = _WORD.findall(text)
    if share == 0 or not words:
        return text
    kept = rng.random(len(words)) >= share
    if not kept.any():
        kept[rng.integers(len(words))] = True
    return "".join(word for word, keep in zip(words, kept, strict=True) if keep).lstrip()


def mistype(text: str, share: float, rng: np.random.Generator) -> str:
    """``text`` with each letter mistyped with probability ``share``.

    Letters of a QWERTY keyboard are hit beside their key, left out, typed twice or swapped with the next one, equally
    often (Belinkov & Bisk 2018, arXiv:1711.02173); other letters are left out or swapped. Everything that is no
    letter stays.
    """
    if share == 0:
        return text
    characters = list(text)
    wrong = rng.random(len(characters)) < share
    for i in np.flatnonzero(wrong).tolist():
        character = characters[i]
        if not character.isalpha():
            continue
        near = _NEIGHBOURS.get(character.lower(), "")
        mistake = rng.integers(4 if near else 2)
        if mistake == 0:
            characters[i] = ""
        elif mistake == 1:
            if i + 1 < len(characters) and characters[i + 1].isalpha():
                characters[i : i + 2] = characters[i + 1], character
        elif mistake == 2:
            characters[i] = character * 2
        else:
            beside = near[rng.integers(len(near))]
            characters[i] = beside.upper() if character.isupper() else beside
    return "".join(characters)


def drop_tokens(
    ids: Tensor,
    mask: Tensor,
    share: float,
    unknown: int,
    generator: torch.Generator,
    keep: Collection[int] = (),
) -> Tensor:
    """Token ids of which some are replaced at random, as a network is made to read without them.

    Parameters
    ----------
    ids : Tensor of shape (n, t)
        Token ids.
    mask : Tensor of shape (n, t)
        1 where a token counts, 0 where a row is padded.
    share : float
        Probability that a token is replaced.
    unknown : int
        Id that stands in its place.
    generator : torch.Generator
        Source of the random choices.
    keep : collection of int
        Ids that always stay, such as a tokenizer's marks of beginning and end.

    Returns
    -------
    Tensor of shape (n, t)
        A new tensor.

    Examples
    --------
    >>> ids, mask = torch.tensor([[1, 5, 6, 2, 0]]), torch.tensor([[1, 1, 1, 1, 0]])
    >>> drop_tokens(ids, mask, 1.0, 9, torch.Generator(), keep=[1, 2])
    tensor([[1, 9, 9, 2, 0]])
    """
    hit = torch.rand(ids.shape, generator=generator, device=generator.device).to(ids.device) < share
    special = torch.isin(ids, torch.tensor(sorted(keep), dtype=ids.dtype, device=ids.device))
    return torch.where(hit & mask.bool() & ~special, unknown, ids)
