"""What the Chinese text recipe reads: rows of all corpora, folds without copies, and counted n-grams."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.model_selection import StratifiedGroupKFold

from affuse.data.corpora import load
from affuse.errors import MissingExtraError
from affuse.experts.text.chinese import gram_hashes, look_up, normalise
from affuse.experts.text.chinese_words import Words
from affuse.labels import SMP2020

__all__ = [
    "NO_FOLD",
    "NO_LABEL",
    "Grams",
    "ZhConfig",
    "ZhRows",
    "copied",
    "fold_of",
    "gather",
    "letters_of",
    "polarity_of",
    "traditional_characters",
]

# Reviews that ChnSentiCorp was drawn from: hotels, books, computers.
_OVERLAPPING = ("酒店", "书籍", "计算机")
NO_LABEL = -100
"""In place of a label that a row does not have."""
NO_FOLD = -1
"""Of rows that only help, and are never held out."""


@dataclass(frozen=True)
class ZhConfig:
    """Everything that shapes a run.

    ``microblog_weight`` is that of the stack's evidence beside the everyday head's.
    """

    folds: int = 8
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    dropout: float = 0.4
    mask_share: float = 0.2
    width: int = 64
    n_words: int = 34_000
    stack_strength: float = 0.1
    class_weight_power: float = 0.5
    other_weight: float = 0.1
    everyday_strength: float = 1.0
    microblog_weight: float = 0.7
    seed: int = 1
    threads: int = 1
    bfloat16: bool = False


@dataclass(frozen=True)
class ZhRows:
    """Training rows of all corpora, normalised.

    ``emotions`` (n,) over `SMP2020` and ``polarity`` (n,) 0 or 1, -100 where unknown; ``corpora`` (n,);
    ``folds`` (n,), -1 for corpora that only help.
    """

    texts: list[str]
    emotions: np.ndarray
    polarity: np.ndarray
    corpora: np.ndarray
    folds: np.ndarray

    def of(self, corpus: str) -> np.ndarray:
        """Places of the rows of one corpus."""
        return np.flatnonzero(self.corpora == corpus)


def traditional_characters() -> tuple[str, str]:
    """Traditional characters, and at the same places their simplified forms; the first where there are several.

    From OpenCC's table (Apache-2.0). Raises MissingExtraError where the package that carries it is not installed.
    """
    try:
        import opencc
    except ImportError as error:
        raise MissingExtraError("opencc-python-reimplemented", "train") from error
    table = Path(opencc.__file__).parent / "dictionary" / "TSCharacters.txt"
    lines = (line.split("\t") for line in table.read_text(encoding="utf-8").splitlines())
    pairs = [(traditional, simplified.split(" ")[0]) for traditional, simplified in lines]
    pairs = [(t, s) for t, s in pairs if len(t) == len(s) == 1 and t != s]
    return "".join(t for t, _ in pairs), "".join(s for _, s in pairs)


def letters_of(text: str) -> str:
    """The letters and digits of a text alone; texts that agree in them count as copies."""
    return re.sub(r"[\W_]+", "", normalise(text))


def fold_of(texts: list[str], targets: np.ndarray, n_folds: int) -> np.ndarray:
    """A fold (n,) for every row, stratified; copies of a text share theirs."""
    _, groups = np.unique([letters_of(text) for text in texts], return_inverse=True)
    folds = np.empty(len(texts), dtype=int)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    for fold, (_, held_out) in enumerate(splitter.split(targets, targets, groups)):
        folds[held_out] = fold
    return folds


def gather(data: Path, config: ZhConfig) -> ZhRows:
    """Read the train parts of all corpora; the shop reviews that overlap with ChnSentiCorp stay away."""
    blogs, reviews = load("smp2020_ewect", data, "train"), load("chnsenticorp", data, "train")
    everyday = load("smp2020_usual", data, "train")
    delivery, shop = load("waimai_10k", data, "train"), load("online_shopping_10_cats", data, "train")
    apart = np.flatnonzero(~np.isin(shop.groups, _OVERLAPPING))
    texts = {
        "blogs": list(blogs.inputs),
        "everyday": list(everyday.inputs),
        "reviews": list(reviews.inputs),
        "delivery": list(delivery.inputs),
        "shop": [shop.inputs[int(i)] for i in apart],
    }
    polarity = {
        "blogs": polarity_of(blogs.targets),
        "everyday": polarity_of(everyday.targets),
        "reviews": reviews.targets,
        "delivery": delivery.targets,
        "shop": shop.targets[apart],
    }
    simplified = str.maketrans(*traditional_characters())
    none = {name: np.full(len(part), NO_LABEL) for name, part in texts.items()}
    folds = {name: np.full(len(part), NO_FOLD) for name, part in texts.items()}
    folds["blogs"] = fold_of(texts["blogs"], blogs.targets, config.folds)
    folds["reviews"] = fold_of(texts["reviews"], reviews.targets, config.folds)
    return ZhRows(
        texts=[normalise(text).translate(simplified) for part in texts.values() for text in part],
        emotions=np.concatenate(list((none | {"blogs": blogs.targets, "everyday": everyday.targets}).values())),
        polarity=np.concatenate(list(polarity.values())),
        corpora=np.concatenate([np.full(len(part), name) for name, part in texts.items()]),
        folds=np.concatenate(list(folds.values())),
    )


def polarity_of(emotions: np.ndarray) -> np.ndarray:
    """Polarity (n,) that an emotion implies: happiness 1; anger, fear and sadness 0; neutral and surprise none."""
    implied = {"happiness": 1, "anger": 0, "fear": 0, "sadness": 0}
    return np.array([implied.get(label, NO_LABEL) for label in SMP2020.labels])[emotions]


@dataclass(frozen=True)
class Grams:
    """N-grams, words and tags of all rows, counted once: hashes and counts, and matrices over any vocabulary."""

    hashes: list[np.ndarray]
    counts: list[np.ndarray]

    @classmethod
    def of(cls, texts: list[str], words: Words) -> Grams:
        """Those of normalised texts."""
        found = [gram_hashes(text, words.hashes(words.cut(text))) for text in texts]
        return cls([hashes for hashes, _ in found], [counts for _, counts in found])

    def vocabulary(self, rows: np.ndarray, least: int) -> np.ndarray:
        """Hashes (v,), ascending, that at least ``least`` of ``rows`` hold."""
        hashes, n_rows = np.unique(np.concatenate([self.hashes[i] for i in rows]), return_counts=True)
        return hashes[n_rows >= least]

    def matrix(self, rows: np.ndarray, vocabulary: np.ndarray) -> sparse.csr_matrix:
        """Counts (len(rows), v)."""
        found = [look_up(self.hashes[i], self.counts[i], vocabulary) for i in rows]
        ends = np.cumsum([0] + [len(ids) for ids, _ in found])
        columns, counts = (np.concatenate([pair[j] for pair in found]) for j in range(2))
        return sparse.csr_matrix((counts, columns, ends), shape=(len(rows), len(vocabulary)))


def copied(texts: Any, others: Any, size: int = 10) -> np.ndarray:
    """Which texts (n,) repeat ``others``: half of their sequences of ten letters, or all their letters, stand there."""
    known = {piece for other in others for piece in _pieces(letters_of(other), size)}
    whole = {letters_of(other) for other in others}
    found = []
    for letters in map(letters_of, texts):
        pieces = _pieces(letters, size)
        found.append(letters in whole or (bool(pieces) and sum(p in known for p in pieces) >= len(pieces) / 2))
    return np.array(found)


def _pieces(letters: str, size: int) -> list[str]:
    return [letters[i : i + size] for i in range(len(letters) - size + 1)]
