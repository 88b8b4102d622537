"""What the multilingual text recipe reads: rows of all corpora, their pieces, and the batches of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from affuse.data.corpora import load
from affuse.data.corpora.brighter import LANGUAGES, MARKS, read_marks
from affuse.labels import EKMAN
from affuse.loop import epoch_seed
from affuse.training.augment.words import drop_tokens
from affuse.training.batching import batches_by_length, pad
from recipes.e5 import SPECIAL
from recipes.text_en_data import NO_LABEL, oversampled, sentiment_of

__all__ = ["DOMAINS", "EMOTIONAL", "POLAR", "MultiBatches", "MultiConfig", "MultiRows", "encode", "gather"]

DOMAINS = ("comments", "dialogue", "microblogs", "talk", "series", "reviews_en", "reviews_zh", "posts")
"""Kinds of text: each has a head of its own, since annotators of different corpora mean different things."""

EMOTIONAL = DOMAINS[:5]
"""Those with one emotion a row."""

POLAR = ("reviews_en", "reviews_zh")
"""Those with a polarity alone."""

_DOMAIN_OF = {
    "goemotions": "comments",
    "meld": "dialogue",
    "smp2020_ewect": "microblogs",
    "smp2020_usual": "microblogs",
    "emotiontalk_words": "talk",
    "cped": "series",
    "sst2": "reviews_en",
    "mosi": "reviews_en",
    "chnsenticorp": "reviews_zh",
    "waimai_10k": "reviews_zh",
}
_ENGLISH = ("goemotions", "meld", "sst2", "mosi")


@dataclass(frozen=True)
class MultiConfig:
    """Everything that shapes a run.

    ``passes`` is how often an epoch reads each corpus; "brighter" is all its languages. Pieces stay that occur in
    ``least`` rows of the corpora, or are among the first ``common`` of the base's vocabulary, which is sorted by
    frequency. ``layer_decay`` is the factor of the learning rate from one layer to the one below it; the lowest
    ``frozen_layers`` stay as they are, which spares a quarter of the time.
    """

    epochs: int = 2
    passes: tuple[tuple[str, float], ...] = (
        ("brighter", 1.0),
        ("smp2020_ewect", 1.0),
        ("smp2020_usual", 1.0),
        ("emotiontalk_words", 1.0),
        ("cped", 0.7),
        ("chnsenticorp", 1.0),
        ("waimai_10k", 0.2),
        ("goemotions", 0.3),
        ("meld", 0.5),
        ("sst2", 1.0),
        ("mosi", 1.0),
    )
    batch_size: int = 48
    max_tokens: int = 64
    least: int = 3
    common: int = 20_000
    learning_rate: float = 1.5e-4
    head_learning_rate: float = 1e-3
    layer_decay: float = 0.9
    frozen_layers: int = 4
    weight_decay: float = 0.01
    warmup: float = 0.1
    dropout: float = 0.1
    mask_share: float = 0.1
    class_weight_power: float = 0.3
    domain_weight: float = 0.1
    language_weight: float = 0.1
    held_out_every: int = 20
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


@dataclass(frozen=True)
class MultiRows:
    """Rows of all corpora.

    ``emotions`` (n,) over `EKMAN` and ``sentiments`` (n,) over `SENTIMENT`, -100 where unknown; ``marks`` (n, 6) tell
    which emotions are seen, -1 where nobody was asked; ``languages`` (n,) are places in `LANGUAGES`, -100 where that
    has no such language; ``domains`` (n,) places in `DOMAINS`; ``held_out`` (n,) marks.
    """

    texts: list[str]
    emotions: np.ndarray
    sentiments: np.ndarray
    marks: np.ndarray
    languages: np.ndarray
    corpora: np.ndarray
    domains: np.ndarray
    held_out: np.ndarray

    def select(self, chosen: np.ndarray) -> MultiRows:
        """Only the rows at the places ``chosen`` (m,)."""
        fields = (self.emotions, self.sentiments, self.marks, self.languages, self.corpora, self.domains, self.held_out)
        return MultiRows([self.texts[i] for i in chosen], *(field[chosen] for field in fields))


def gather(data: Path, split: str, every: int) -> MultiRows:
    """Read one split of all corpora; every n-th group (comment, dialogue, video, series, post) is held out."""
    parts = [_labelled(name, data, split, every) for name in _DOMAIN_OF if _has(name, split)]
    parts += [_marked(language, data, split, every) for language in LANGUAGES]
    fields = ("emotions", "sentiments", "marks", "languages", "corpora", "domains", "held_out")
    texts = [text for part in parts for text in part.texts]
    return MultiRows(texts, *(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


def _has(name: str, split: str) -> bool:
    return split == "train" or name not in ("smp2020_usual", "waimai_10k", "mosi")


def _labelled(name: str, data: Path, split: str, every: int) -> MultiRows:
    rows = load(name, data, split)
    n, domain = len(rows), _DOMAIN_OF[name]
    unknown = np.full(n, NO_LABEL)
    emotions, sentiments = unknown, unknown
    if domain in POLAR:
        sentiments = rows.targets * 2
    else:
        emotions = np.array([EKMAN.index(label) for label in rows.labels.labels])[rows.targets]
        sentiments = sentiment_of(emotions)
        if name == "meld":
            sentiments = load("meld_sentiment", data, split).targets
    return MultiRows(
        texts=list(map(str, rows.inputs)),
        emotions=emotions,
        sentiments=sentiments,
        marks=np.full((n, len(MARKS)), -1),
        languages=np.full(n, LANGUAGES.index("eng" if name in _ENGLISH else "chn")),
        corpora=np.full(n, name),
        domains=np.full(n, DOMAINS.index(domain)),
        held_out=_held_out(rows.groups, every),
    )


def _marked(language: str, data: Path, split: str, every: int) -> MultiRows:
    texts, marks = read_marks(data, split, language)
    n = len(texts)
    unknown = np.full(n, NO_LABEL)
    return MultiRows(
        texts=texts,
        emotions=unknown,
        sentiments=unknown,
        marks=marks,
        languages=np.full(n, LANGUAGES.index(language)),
        corpora=np.full(n, "brighter"),
        domains=np.full(n, DOMAINS.index("posts")),
        held_out=_held_out(np.arange(n), every),
    )


def _held_out(groups: np.ndarray, every: int) -> np.ndarray:
    chosen = np.random.default_rng(0).permutation(np.unique(groups))[::every]
    # A corpus of a few series has no twentieth of them to spare.
    return np.isin(groups, chosen) if len(chosen) > 1 else np.zeros(len(groups), dtype=bool)


class MultiBatches:
    """Batches of an epoch, drawn anew from the seed and the number that ``epoch`` gives; words are masked.

    A batch is a dict of tensors: "ids" and "mask" (n, t), "emotions", "sentiments", "languages" and "domains" (n,),
    "marks" (n, 6).
    """

    def __init__(self, rows: MultiRows, tokenizer: Tokenizer, config: MultiConfig, epoch: Callable[[], int]) -> None:
        self.rows, self.config, self.epoch = rows, config, epoch
        self.fitting = {name: np.flatnonzero((rows.corpora == name) & ~rows.held_out) for name, _ in config.passes}
        self.encoded = encode(tokenizer, rows.texts)
        self.lengths = np.array([len(ids) for ids in self.encoded])
        vocabulary = tokenizer.get_vocab()
        self.hidden = vocabulary["<mask>"]
        self.ends = [vocabulary[piece] for piece in SPECIAL[:3]]
        self._length = len(self._plan(np.random.default_rng(0)))  # the same for any seed

    def __len__(self) -> int:
        return self._length

    def _plan(self, rng: np.random.Generator) -> list[np.ndarray]:
        chosen = np.concatenate([oversampled(self.fitting[name], passes, rng) for name, passes in self.config.passes])
        return [chosen[batch] for batch in batches_by_length(self.lengths[chosen], self.config.batch_size, rng)]

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(epoch_seed(self.config.seed, self.epoch()))
        generator = torch.Generator().manual_seed(epoch_seed(self.config.seed, self.epoch(), 1))
        rows = self.rows
        for batch in self._plan(rng):
            ids, mask = pad([self.encoded[i] for i in batch])
            fields = {
                "emotions": rows.emotions,
                "sentiments": rows.sentiments,
                "marks": rows.marks,
                "languages": rows.languages,
                "domains": rows.domains,
            }
            yield {
                "ids": drop_tokens(ids, mask, self.config.mask_share, self.hidden, generator, self.ends),
                "mask": mask,
                **{name: torch.from_numpy(values[batch]) for name, values in fields.items()},
            }


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Ids (t,) of every text."""
    return [np.array(encoding.ids, dtype=np.int32) for encoding in tokenizer.encode_batch(list(texts))]
