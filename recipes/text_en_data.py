"""What the English text recipe reads: rows of all corpora, their vocabulary, and the batches of an epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from affuse.data.corpora import load
from affuse.labels import EKMAN, SENTIMENT, to_sentiment
from affuse.loop import epoch_seed
from affuse.training.augment.words import drop_tokens, mistype
from affuse.training.batching import batches_by_length, pad
from affuse.training.networks.backbones import minilm_folder

__all__ = [
    "COMMENTS",
    "DIALOGUE",
    "DOMAINS",
    "DOMAIN_OF",
    "EMOTIONAL",
    "NEUTRAL",
    "NO_LABEL",
    "POLAR",
    "REVIEWS",
    "TextBatches",
    "TextConfig",
    "TextRows",
    "base_tokenizer",
    "cut_vocabulary",
    "gather",
    "kept_pieces",
    "oversampled",
    "sentiment_of",
]

DOMAINS = ("comments", "dialogue", "reviews")
"""Kinds of text, each with heads of its own; reviews have no labels of emotion."""

DOMAIN_OF = {"goemotions": "comments", "meld": "dialogue", "sst2": "reviews", "mosi": "reviews"}
COMMENTS, DIALOGUE, REVIEWS = range(len(DOMAINS))
EMOTIONAL = (COMMENTS, DIALOGUE)
POLAR = [SENTIMENT.index("negative"), SENTIMENT.index("positive")]
NEUTRAL = SENTIMENT.index("neutral")

# Rows without a label for one of the heads carry this target, which the loss passes over.
NO_LABEL = -100


@dataclass(frozen=True)
class TextConfig:
    """Everything that shapes a run.

    ``passes`` is how often an epoch reads each corpus: the small ones more often, so that comments do not outweigh
    them. ``layer_decay`` is the factor of the learning rate from one layer to the one below it. ``class_weight_power``
    gives more weight to the rare emotions of comments, which are scored by macro-F1. ``perturbation`` is the length of
    the step that a batch moves the table of word embeddings by, all its words together. The teachers' answers make up
    ``teacher_share`` of the loss.
    """

    epochs: int = 4
    passes: tuple[tuple[str, float], ...] = (("goemotions", 0.6), ("meld", 1.0), ("sst2", 1.3), ("mosi", 1.3))
    batch_size: int = 64
    max_tokens: int = 64
    learning_rate: float = 1.2e-4
    head_learning_rate: float = 4e-4
    layer_decay: float = 0.9
    weight_decay: float = 0.01
    warmup: float = 0.1
    dropout: float = 0.1
    mask_share: float = 0.1
    mistyped_rows: float = 0.15
    mistyped_letters: float = 0.04
    perturbation: float = 1.4
    class_weight_power: float = 0.3
    teacher_share: float = 0.5
    sentiment_weights: tuple[float, ...] = (0.5, 0.5, 1.0)
    domain_weight: float = 0.1
    held_out_every: int = 20
    seed: int = 3
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


@dataclass(frozen=True)
class TextRows:
    """Rows of all corpora: texts, and what is known of each.

    ``emotions`` (n,) over `EKMAN` and ``sentiments`` (n,) over `SENTIMENT`, -100 where unknown; ``corpora`` (n,) names,
    ``domains`` (n,) places in `DOMAINS`, ``held_out`` (n,) marks.
    """

    texts: list[str]
    emotions: np.ndarray
    sentiments: np.ndarray
    corpora: np.ndarray
    held_out: np.ndarray

    def select(self, chosen: np.ndarray) -> TextRows:
        """Only the rows at the places ``chosen`` (m,)."""
        fields = (self.emotions, self.sentiments, self.corpora, self.held_out)
        return TextRows([self.texts[i] for i in chosen], *(field[chosen] for field in fields))

    @property
    def domains(self) -> np.ndarray:
        """Place (n,) in `DOMAINS` of every row."""
        return np.array([DOMAINS.index(DOMAIN_OF[corpus]) for corpus in self.corpora.tolist()])


def gather(data: Path, held_out_every: int) -> TextRows:
    """Read the train parts of all corpora and hold out every n-th group (comment, dialogue, video)."""
    parts: list[TextRows] = []
    emotion_sets = {"goemotions": load("goemotions", data, "train"), "meld": load("meld", data, "train")}
    for name, rows in emotion_sets.items():
        sentiments = sentiment_of(rows.targets)
        if name == "meld":
            sentiments = load("meld_sentiment", data, "train").targets
        parts.append(_part(name, rows.inputs, rows.targets, sentiments, rows.groups, held_out_every))
    for name in ("sst2", "mosi"):
        rows = load(name, data, "train")
        unknown = np.full(len(rows), NO_LABEL)
        parts.append(_part(name, rows.inputs, unknown, rows.targets * 2, rows.groups, held_out_every))
    return TextRows(
        texts=[text for part in parts for text in part.texts],
        emotions=np.concatenate([part.emotions for part in parts]),
        sentiments=np.concatenate([part.sentiments for part in parts]),
        corpora=np.concatenate([part.corpora for part in parts]),
        held_out=np.concatenate([part.held_out for part in parts]),
    )


def sentiment_of(emotions: np.ndarray) -> np.ndarray:
    """Sentiment that an emotion implies; surprise implies none."""
    implied = to_sentiment(np.eye(len(EKMAN))).argmax(axis=1)
    implied[EKMAN.index("surprise")] = NO_LABEL
    return implied[emotions]


def _part(
    name: str, texts: Any, emotions: np.ndarray, sentiments: np.ndarray, groups: np.ndarray, every: int
) -> TextRows:
    chosen = np.random.default_rng(0).permutation(np.unique(groups))[::every]
    return TextRows(list(texts), emotions, sentiments, np.full(len(emotions), name), np.isin(groups, chosen))


def base_tokenizer() -> Tokenizer:
    """The base's tokenizer, with its full vocabulary."""
    loaded = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    loaded.no_padding()
    loaded.no_truncation()
    return loaded


def kept_pieces(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Ids (v,), ascending, of the wordpieces that stay: special ones, those in ``texts``, and what any word can be cut
    into: continuations and single characters of alphabets that English is written in.
    """
    seen = {i for encoding in tokenizer.encode_batch(texts) for i in encoding.ids}
    general = {
        i
        for piece, i in tokenizer.get_vocab().items()
        if (piece.startswith("##") or len(piece) == 1) and not any(c > "\u024f" and c.isalpha() for c in piece)
    }
    return np.array(sorted(seen | general | set(tokenizer.get_added_tokens_decoder())))


def cut_vocabulary(tokenizer: Tokenizer, kept: np.ndarray) -> Tokenizer:
    """A tokenizer with the pieces ``kept`` (v,) alone; their new ids are their places in it."""
    facts = json.loads(tokenizer.to_str())
    place = {int(old): new for new, old in enumerate(kept)}
    vocabulary = sorted(facts["model"]["vocab"].items(), key=lambda entry: entry[1])
    facts["model"]["vocab"] = {piece: place[old] for piece, old in vocabulary if old in place}
    for token in facts["added_tokens"]:
        token["id"] = place[token["id"]]
    for token in facts["post_processor"]["special_tokens"].values():
        token["ids"] = [place[i] for i in token["ids"]]
    return Tokenizer.from_str(json.dumps(facts))


def oversampled(places: np.ndarray, passes: float, rng: np.random.Generator) -> np.ndarray:
    """``places`` as many whole times as ``passes`` says, and the rest of it as a random share."""
    whole = int(passes)
    rest = rng.permutation(places)[: round((passes - whole) * len(places))]
    return np.concatenate([np.tile(places, whole), rest])


class TextBatches:
    """Batches of an epoch, drawn anew from the seed and the number that ``epoch`` gives; mistyped and masked.

    A batch is a dict of tensors: "ids" and "mask" (n, t), "emotions", "sentiments" and "domains" (n,), and "rows" (n,),
    their places among all.
    """

    def __init__(self, rows: TextRows, tokenizer: Tokenizer, config: TextConfig, epoch: Callable[[], int]) -> None:
        self.rows, self.tokenizer, self.config, self.epoch = rows, tokenizer, config, epoch
        self.fitting = {name: np.flatnonzero((rows.corpora == name) & ~rows.held_out) for name, _ in config.passes}
        self.lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(rows.texts)])
        self.domains = rows.domains
        vocabulary = tokenizer.get_vocab()
        self.hidden, self.ends = vocabulary["[MASK]"], [vocabulary["[CLS]"], vocabulary["[SEP]"]]
        self._length = len(self._plan(np.random.default_rng(0)))  # the same for any seed

    def __len__(self) -> int:
        return self._length

    def _plan(self, rng: np.random.Generator) -> list[np.ndarray]:
        chosen = np.concatenate([oversampled(self.fitting[name], passes, rng) for name, passes in self.config.passes])
        return [chosen[batch] for batch in batches_by_length(self.lengths[chosen], self.config.batch_size, rng)]

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(epoch_seed(self.config.seed, self.epoch()))
        generator = torch.Generator().manual_seed(epoch_seed(self.config.seed, self.epoch(), 1))
        for batch in self._plan(rng):
            encoded = self.tokenizer.encode_batch([self._typed(self.rows.texts[i], rng) for i in batch])
            ids, mask = pad([encoding.ids for encoding in encoded])
            yield {
                "ids": drop_tokens(ids, mask, self.config.mask_share, self.hidden, generator, self.ends),
                "mask": mask,
                "emotions": torch.from_numpy(self.rows.emotions[batch]),
                "sentiments": torch.from_numpy(self.rows.sentiments[batch]),
                "domains": torch.from_numpy(self.domains[batch]),
                "rows": torch.from_numpy(batch),
            }

    def _typed(self, text: str, rng: np.random.Generator) -> str:
        if rng.random() >= self.config.mistyped_rows:
            return text
        return mistype(text, self.config.mistyped_letters, rng) or text
