"""Recipe of the Chinese text expert: linear models over n-grams and words, and small convolutional networks, stacked.

``python -m recipes.text_zh --data DIR --out runs/text_zh``

Emotions come from the microblogs of SMP2020-EWECT: those about the virus, and everyday ones, which belong to no part
of that task and hold more of the rare emotions. Polarity comes from ChnSentiCorp, waimai_10k, a part of
online_shopping_10_cats and the polar emotions of the microblogs. The categories books, computers and hotels of
online_shopping_10_cats are dropped as a whole: 96 % of ChnSentiCorp's valid rows stand in them word for word, so its
test rows do as well. Both corpora also repeat themselves: of the valid rows, 10 % (SMP2020) and 29 % (ChnSentiCorp)
stand word for word in train. Copies therefore share a fold here, and the card also scores the valid rows without one.
Traditional characters are read as their simplified forms.

What others know of words joins in: vectors learned from Wikipedia, which the package synonyms carries
(`text_zh_words`).

Two linear models look at n-grams of one to four characters, at words, and at the clusters of vectors that the words
belong to: a support vector machine over TF-IDF and one over naive Bayes ratios (Wang & Manning 2012, "Baselines and
Bigrams"). They alone judge polarity, to which networks added nothing out of fold. The
networks read emotions: their characters start from vectors that the plain texts of all corpora give
(`text_zh_vectors`), what is known of words stays as it came. They are those of several folds, so that every training
row has an answer from models that never saw it; how the parts are weighed (stacking: Wolpert 1992,
doi:10.1016/S0893-6080(05)80023-1) and the lift of rare emotions are learned from these answers.

All that tells what microblogs feel in the days of an epidemic, which know no disgust. The evidence of a second head,
that learned from dialogues and posts of all kinds (`text_zh_everyday`), is added to that of the stack.
"""

from __future__ import annotations

import argparse
import copy
import math
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.special import expit, log_softmax, logsumexp, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.svm import LinearSVC
from torch import nn
from torch.nn import functional as F

from affuse.data.corpora import load
from affuse.errors import MissingExtraError
from affuse.experts.text.chinese import HEADS, Alphabet, ChineseText, clip_and_pad, gram_hashes, look_up, normalise
from affuse.experts.text.chinese_words import Words
from affuse.labels import EKMAN, SENTIMENT, SMP2020, restrict
from affuse.training.common import (
    class_offsets,
    one_cycle,
    seed_everything,
    store_in_half,
    write_card,
    write_held_out,
)
from recipes.text_zh_everyday import EverydayHead, fit_everyday, read_everyday
from recipes.text_zh_vectors import co_occurrence, neighbour_vectors
from recipes.text_zh_words import WordTable, read_sources, table_of, word_vectors

__all__ = ["Grams", "LinearModel", "Network", "Stack", "ZhConfig", "train"]

# Reviews that ChnSentiCorp was drawn from: hotels, books, computers.
_OVERLAPPING = ("酒店", "书籍", "计算机")
_NO_LABEL = -100
_NO_FOLD = -1
_LEAVE_NOTHING_OUT = -2
_KINDS = ("tfidf", "bayes")
_GOODS = ("reviews", "delivery")
_LIFTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # powers of the priors that rare emotions may be lifted by
# How frequent disgust is held to be, which the microblogs' labels do not know: its share among English training rows.
_DISGUST_SHARE = 0.016
_ONTO = [EKMAN.index(label) for label in SMP2020.labels]
# The polarity model reads the same words as the everyday head, whose evidence for a glad text therefore counts half.
_SHARED = 0.5
_LEAST = -9.0  # log-probability: the stack's certainties are worth no more than e^9
_DISGUST, _HAPPINESS = EKMAN.index("disgust"), EKMAN.index("happiness")
_NEGATIVE = [EKMAN.index(label) for label in ("anger", "disgust", "fear", "sadness")]
_NEITHER = [EKMAN.index(label) for label in ("neutral", "surprise")]


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


@dataclass(frozen=True)
class Rows:
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


def gather(data: Path, config: ZhConfig) -> Rows:
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
    none = {name: np.full(len(part), _NO_LABEL) for name, part in texts.items()}
    folds = {name: np.full(len(part), _NO_FOLD) for name, part in texts.items()}
    folds["blogs"] = fold_of(texts["blogs"], blogs.targets, config.folds)
    folds["reviews"] = fold_of(texts["reviews"], reviews.targets, config.folds)
    return Rows(
        texts=[normalise(text).translate(simplified) for part in texts.values() for text in part],
        emotions=np.concatenate(list((none | {"blogs": blogs.targets, "everyday": everyday.targets}).values())),
        polarity=np.concatenate(list(polarity.values())),
        corpora=np.concatenate([np.full(len(part), name) for name, part in texts.items()]),
        folds=np.concatenate(list(folds.values())),
    )


def polarity_of(emotions: np.ndarray) -> np.ndarray:
    """Polarity (n,) that an emotion implies: happiness 1; anger, fear and sadness 0; neutral and surprise none."""
    implied = {"happiness": 1, "anger": 0, "fear": 0, "sadness": 0}
    return np.array([implied.get(label, _NO_LABEL) for label in SMP2020.labels])[emotions]


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


def inverse_document_frequency(X: sparse.csr_matrix) -> np.ndarray:
    """Smoothed IDF (v,) of counts X (n, v): ln((1 + n) / (1 + df)) + 1, as scikit-learn has it."""
    df = np.bincount(X.indices, minlength=X.shape[1])
    return np.log((1 + X.shape[0]) / (1 + df)) + 1


def tfidf(X: sparse.csr_matrix, idf: np.ndarray) -> sparse.csr_matrix:
    """Rows of (1 + ln count) · idf, of length 1."""
    weighted = sparse.csr_matrix((1 + np.log(X.data), X.indices, X.indptr), X.shape) @ sparse.diags(idf)
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return (sparse.diags(1 / np.maximum(norms, 1e-12)) @ weighted).tocsr()


def presence(X: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows of ones where a count is, of length 1."""
    ones = sparse.csr_matrix((np.ones_like(X.data), X.indices, X.indptr), X.shape)
    return (sparse.diags(1 / np.sqrt(np.maximum(1, np.diff(X.indptr)))) @ ones).tocsr()


def bayes_ratio(X: sparse.csr_matrix, positive: np.ndarray, row_weights: np.ndarray) -> np.ndarray:
    """Log ratio (v,) of the shares that n-grams have among positive and other rows, with one row of each added."""
    ones = sparse.csr_matrix((np.ones_like(X.data), X.indices, X.indptr), X.shape)
    p, q = (np.asarray(ones.T @ (row_weights * side)).ravel() + 1 for side in (positive, ~positive))
    return np.log(p / p.sum()) - np.log(q / q.sum())


@dataclass
class LinearModel:
    """Both linear models over one vocabulary: ``weights`` (v, k) and ``bias`` (k,) of each kind; ``idf`` (v,)."""

    idf: np.ndarray
    weights: dict[str, np.ndarray]
    bias: dict[str, np.ndarray]

    def decide(self, X: sparse.csr_matrix) -> dict[str, np.ndarray]:
        """Decision values (n, k) of each kind."""
        inputs = {"tfidf": tfidf(X, self.idf), "bayes": presence(X)}
        return {kind: inputs[kind] @ self.weights[kind] + self.bias[kind] for kind in _KINDS}


def fit_emotions(X: sparse.csr_matrix, y: np.ndarray, power: float) -> LinearModel:
    """One-against-rest machines for every emotion; rare ones weigh more."""
    idf = inverse_document_frequency(X)
    plain = LinearSVC(C=0.3, class_weight="balanced", tol=1e-2, random_state=0).fit(tfidf(X, idf), y)
    counts = np.bincount(y, minlength=len(SMP2020))
    columns, biases = [], []
    for label in range(len(SMP2020)):
        ratio = bayes_ratio(X, y == label, np.ones(len(y)))
        weigh = {True: (counts.mean() / counts[label]) ** power, False: 1.0}
        machine = LinearSVC(C=0.3, class_weight=weigh, tol=1e-2, random_state=0)
        machine.fit(presence(X) @ sparse.diags(ratio), y == label)
        columns.append(machine.coef_[0] * ratio)
        biases.append(machine.intercept_[0])
    weights = {"tfidf": plain.coef_.T, "bayes": np.stack(columns, axis=1)}
    return LinearModel(idf, weights, {"tfidf": plain.intercept_, "bayes": np.array(biases)})


def fit_polarity(X: sparse.csr_matrix, y: np.ndarray, row_weights: np.ndarray) -> LinearModel:
    """Negative against positive; ``row_weights`` (n,) lets other corpora count less than the one at hand."""
    idf = inverse_document_frequency(X[row_weights == 1])
    plain = LinearSVC(C=0.5, tol=1e-2, random_state=0).fit(tfidf(X, idf), y, sample_weight=row_weights)
    ratio = bayes_ratio(X, y == 1, row_weights)
    bayes = LinearSVC(C=1.0, tol=1e-2, random_state=0)
    bayes.fit(presence(X) @ sparse.diags(ratio), y, sample_weight=row_weights)
    weights = {"tfidf": plain.coef_.T, "bayes": bayes.coef_.T * ratio[:, None]}
    return LinearModel(idf, weights, {"tfidf": plain.intercept_, "bayes": bayes.intercept_})


class Network(nn.Module):
    """Ids of characters (n, t) and numbers of their words (n, t, d) in; emotion logits (n, 6) and features (n, f) out.

    ``n_numbers`` is d: what the word table says of a word. Zeros stand for no word.
    """

    def __init__(self, n_characters: int, n_numbers: int, config: ZhConfig) -> None:
        super().__init__()
        width = config.width
        self.characters = nn.Embedding(n_characters, width)
        nn.init.normal_(self.characters.weight, std=0.1)
        self.words = nn.Linear(n_numbers, width, bias=False)
        nn.init.normal_(self.words.weight, std=0.2 / n_numbers**0.5)
        self.convolutions = nn.ModuleList([nn.Conv1d(width, width, size) for size in (2, 3, 4)])
        self.mask_share = config.mask_share
        self.dropout = nn.Dropout(config.dropout)
        self.emotion = nn.Linear(6 * width, len(SMP2020))

    def forward(self, characters: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        present = (characters > 0).float()
        single = self.characters(characters) * self._masked(present)
        word = self.words(numbers) * self._masked(present)
        root = present.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        sums = torch.cat([part.sum(dim=1) for part in (single, word)], dim=1) / root * 0.5
        stream = (single + word).transpose(1, 2)
        peaks = [torch.relu(convolve(stream)).amax(dim=2) for convolve in self.convolutions]
        features = torch.cat([*peaks, sums, word.amax(dim=1)], dim=1)
        return self.emotion(self.dropout(features)), features

    @torch.no_grad()
    def start_from(self, vectors: np.ndarray) -> None:
        """Put vectors (n_characters, width) into the table; rows of NaN stay as they are."""
        told = torch.from_numpy(~np.isnan(vectors).any(axis=1))
        self.characters.weight[told] = torch.from_numpy(vectors).float()[told]

    def _masked(self, present: torch.Tensor) -> torch.Tensor:
        if self.training:
            present = present * (torch.rand(present.shape) > self.mask_share)
        return present.unsqueeze(-1)


@dataclass(frozen=True)
class Reading:
    """What the networks read of every row: ids of characters and of their words, (t,) each.

    Characters start from ``vectors`` (n_characters, width), NaN unknown; ``numbers`` (w + 1, d) tell of the words, row
    0 of none.
    """

    characters: list[np.ndarray]
    words: list[np.ndarray]
    vectors: np.ndarray
    numbers: torch.Tensor

    def batch(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Characters (n, t) of ``rows``, and their words' numbers (n, t, d)."""
        characters, words = (pad([ids[i] for i in rows]) for ids in (self.characters, self.words))
        return characters, self.numbers[words]

    @property
    def lengths(self) -> np.ndarray:
        """Number of ids of every row (n,)."""
        return np.array([len(ids) for ids in self.characters])


def pad(rows: list[np.ndarray]) -> torch.Tensor:
    """Ids of unequal length as (n, t), zeros behind."""
    return nn.utils.rnn.pad_sequence([torch.from_numpy(ids) for ids in rows], batch_first=True)


def batches(chosen: np.ndarray, lengths: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of rows of like length, in random order."""
    order = rng.permutation(chosen)
    chunks = [order[i : i + size * 50] for i in range(0, len(order), size * 50)]
    chunks = [chunk[np.argsort(lengths[chunk], kind="stable")] for chunk in chunks]
    split = [chunk[i : i + size] for chunk in chunks for i in range(0, len(chunk), size)]
    for i in rng.permutation(len(split)):
        yield split[i]


def fit_network(rows: Rows, reading: Reading, fold: int, config: ZhConfig) -> Network:
    """Train one network on all rows that have an emotion but those of ``fold``."""
    seed_everything(config.seed + fold, config.threads)
    rng = np.random.default_rng(config.seed + fold)
    chosen = np.flatnonzero((rows.emotions >= 0) & (rows.folds != fold))
    counts = np.bincount(rows.emotions[chosen], minlength=len(SMP2020))
    weights = torch.from_numpy((counts.mean() / counts) ** config.class_weight_power).float()
    model = Network(len(reading.vectors), reading.numbers.shape[1], config)
    model.start_from(reading.vectors)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    lengths = reading.lengths
    plan = [b for _ in range(config.epochs) for b in batches(chosen, lengths, config.batch_size, rng)]
    for step, batch in enumerate(plan):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * one_cycle((step + 1) / len(plan), warmup=0.06)
        logits, _ = model(*reading.batch(batch))
        loss = F.cross_entropy(logits, torch.from_numpy(rows.emotions[batch]), weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def answers(network: Network, reading: Reading, chosen: np.ndarray) -> np.ndarray:
    """Emotion logits (len(chosen), 6) of the rows ``chosen``, computed in batches of like length."""
    logits = np.empty((len(chosen), len(SMP2020)))
    order = np.argsort(reading.lengths[chosen], kind="stable")
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        logits[part] = network(*reading.batch(chosen[part]))[0].numpy()
    return logits


@dataclass(frozen=True)
class Stack:
    """Logistic regression over the parts' decision values: ``weights`` (k of the part, k) of each; ``bias`` (k,)."""

    weights: dict[str, np.ndarray]
    bias: np.ndarray

    def logits(self, parts: dict[str, np.ndarray]) -> np.ndarray:
        """Calibrated logits (n, k)."""
        return sum(parts[name] @ weights for name, weights in self.weights.items()) + self.bias


def fit_stack(parts: dict[str, np.ndarray], targets: np.ndarray, strength: float) -> Stack:
    """How held-out decision values become calibrated logits, where a small ``strength`` keeps parts close to equal.

    ``parts`` (n, k) each, where k = 1 is the evidence for label 1 against label 0; ``targets`` (n,).
    """
    spread = {name: float(z.std()) for name, z in parts.items()}
    X = np.concatenate([z / spread[name] for name, z in parts.items()], axis=1)
    fitted = LogisticRegression(C=strength, max_iter=500).fit(X, targets)
    ends = np.cumsum([z.shape[1] for z in parts.values()])[:-1]
    pieces = np.split(fitted.coef_.T, ends)
    weights = {name: piece / spread[name] for name, piece in zip(parts, pieces, strict=True)}
    return Stack(weights, fitted.intercept_)


def cross_stacked(parts: dict[str, np.ndarray], targets: np.ndarray, folds: np.ndarray, strength: float) -> np.ndarray:
    """Calibrated logits (n, k) of stacks that never saw the fold they answer for."""
    logits = np.empty((len(targets), next(iter(parts.values())).shape[1]))
    for fold in np.unique(folds):
        kept = folds != fold
        stack = fit_stack({name: z[kept] for name, z in parts.items()}, targets[kept], strength)
        logits[~kept] = stack.logits({name: z[~kept] for name, z in parts.items()})
    return logits


def sentiment_of(emotions: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Sentiment (n, 3): neutral has the mass of neutral and surprise, the rest is split by ``positive`` (n,).

    ``emotions`` (n, 7) over `EKMAN`.
    """
    neutral = emotions[:, _NEITHER].sum(axis=1)
    return np.stack([(1 - neutral) * (1 - positive), neutral, (1 - neutral) * positive], axis=1)


class QuantisedTable(nn.Module):
    """A table of weights (v, k) in INT8 with one scale a column; rows are looked up and become numbers again."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        scale = np.maximum(np.abs(table).max(axis=0), 1e-12) / 127
        self.register_buffer("table", torch.from_numpy(np.round(table / scale).astype(np.int8)))
        self.register_buffer("scale", torch.from_numpy(scale).float())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids].float() * self.scale


class LinearGraph(nn.Module):
    """`LinearModel` for one text: known n-grams (m,) and counts (m,) in, decision values (1, k) of each kind out."""

    def __init__(self, model: LinearModel) -> None:
        super().__init__()
        self.idf = QuantisedTable(model.idf[:, None])
        for kind in _KINDS:
            setattr(self, kind, QuantisedTable(model.weights[kind]))
            self.register_buffer(f"{kind}_bias", torch.from_numpy(model.bias[kind]).float())

    def forward(self, ids: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weighted = (1 + torch.log(counts)).unsqueeze(1) * self.idf(ids)
        norm = (weighted * weighted).sum().sqrt().clamp(min=1e-12)
        plain = (self.tfidf(ids) * weighted).sum(dim=0) / norm + self.tfidf_bias
        root = torch.ones_like(counts).sum().clamp(min=1).sqrt()
        bayes = self.bayes(ids).sum(dim=0) / root + self.bayes_bias
        return plain.unsqueeze(0), bayes.unsqueeze(0)


@dataclass(frozen=True)
class Blend:
    """How the stack's answer and the everyday head's evidence become one answer.

    ``shares`` (6,) over `SMP2020` are the frequencies under which the stack answers, ``prior`` (7,) over `EKMAN` those
    of the blend; ``weight`` is that of the stack's evidence.
    """

    shares: np.ndarray
    prior: np.ndarray
    weight: float

    def emotions(self, logits: np.ndarray, evidence: np.ndarray) -> np.ndarray:
        """Emotions (n, 7) from the stack's logits (n, 6), lifts included, and evidence (n, 8)."""
        told = np.full((len(logits), len(EKMAN)), 0.0)  # of disgust the stack says nothing, for or against
        told[:, _ONTO] = np.maximum(log_softmax(logits, axis=1), _LEAST) - np.log(self.shares)
        return np.asarray(softmax(self.weight * told + evidence[:, :-1] + np.log(self.prior), axis=1))


def blend_of(emotions: np.ndarray, offsets: np.ndarray, weight: float) -> Blend:
    """The blend for a stack that was fitted on labels ``emotions`` (n,) and lifted by ``offsets`` (6,)."""
    shares = np.bincount(emotions, minlength=len(SMP2020)) / len(emotions) * np.exp(offsets)
    shares /= shares.sum()
    prior = np.empty(len(EKMAN))
    prior[_ONTO], prior[_DISGUST] = shares * (1 - _DISGUST_SHARE), _DISGUST_SHARE
    return Blend(shares, prior, weight)


def polarity_with_evidence(polarity: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Log-odds (n,) of positive: the polarity model's, and what everyday emotions add where the text is no review."""
    glad = evidence[:, _HAPPINESS] - logsumexp(evidence[:, _NEGATIVE], axis=1) + np.log(len(_NEGATIVE))
    return np.asarray(polarity + _SHARED * expit(-evidence[:, -1]) * glad)


class EverydayGraph(nn.Module):
    """`EverydayHead` for one text: known n-grams (m,) and counts (m,) in, evidence (1, 8) out."""

    def __init__(self, head: EverydayHead) -> None:
        super().__init__()
        self.idf, self.weights = QuantisedTable(head.idf[:, None]), QuantisedTable(head.weights)
        self.register_buffer("bias", torch.from_numpy(head.bias).float())

    def forward(self, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        weighted = (1 + torch.log(counts)).unsqueeze(1) * self.idf(ids)
        norm = (weighted * weighted).sum().sqrt().clamp(min=1e-12)
        return ((self.weights(ids) * weighted).sum(dim=0) / norm + self.bias).unsqueeze(0)


class BlendGraph(nn.Module):
    """`Blend` for one text: the stack's logits (1, 6) and evidence (1, 8) in, emotions (1, 7) out."""

    def __init__(self, blend: Blend) -> None:
        super().__init__()
        onto = np.zeros((len(SMP2020), len(EKMAN)))
        onto[np.arange(len(SMP2020)), _ONTO] = blend.weight
        for name, values in (("shares", np.log(blend.shares)), ("prior", np.log(blend.prior)), ("onto", onto)):
            self.register_buffer(name, torch.from_numpy(values).float())

    def forward(self, logits: torch.Tensor, evidence: torch.Tensor) -> torch.Tensor:
        told = (torch.log_softmax(logits, dim=1).clamp(min=_LEAST) - self.shares) @ self.onto
        return torch.softmax(told + evidence[:, :-1] + self.prior, dim=1)


class StackGraph(nn.Module):
    """`Stack` for one text: the parts' decision values in the stack's order in, logits (1, k) out."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        weights = np.concatenate(list(stack.weights.values()))
        self.register_buffer("weights", torch.from_numpy(weights).float())
        self.register_buffer("bias", torch.from_numpy(stack.bias).float())

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, dim=1) @ self.weights + self.bias


class Graph(nn.Module):
    """What is exported: known n-grams, characters and words of one text in; emotions, sentiment and embedding out."""

    def __init__(
        self,
        linear: dict[str, LinearModel],
        networks: list[Network],
        numbers: np.ndarray,
        stacks: dict[str, Stack],
        offsets: np.ndarray,
        everyday: EverydayHead,
        blend: Blend,
    ) -> None:
        super().__init__()
        self.emotion, self.sentiment = LinearGraph(linear["emotion"]), LinearGraph(linear["sentiment"])
        self.numbers = QuantisedTable(numbers)
        self.networks = nn.ModuleList([_quantised(network) for network in networks])
        self.emotion_stack, self.sentiment_stack = StackGraph(stacks["emotion"]), StackGraph(stacks["sentiment"])
        self.register_buffer("offsets", torch.from_numpy(offsets).float())
        self.everyday, self.blend = EverydayGraph(everyday), BlendGraph(blend)

    def forward(  # type: ignore[no-untyped-def]
        self,
        characters,
        words,
        emotion_grams,
        emotion_counts,
        sentiment_grams,
        sentiment_counts,
        everyday_grams,
        everyday_counts,
    ):
        numbers = self.numbers(words)
        outputs = [network(characters, numbers) for network in self.networks]
        mean = sum(logits for logits, _ in outputs) / len(outputs)
        logits = self.emotion_stack(*self.emotion(emotion_grams, emotion_counts), mean)
        evidence = self.everyday(everyday_grams, everyday_counts)
        emotions = self.blend(logits + self.offsets, evidence)
        polarity = self.sentiment_stack(*self.sentiment(sentiment_grams, sentiment_counts))
        glad = evidence[:, _HAPPINESS] - torch.logsumexp(evidence[:, _NEGATIVE], dim=1) + math.log(len(_NEGATIVE))
        positive = torch.sigmoid(polarity + (_SHARED * torch.sigmoid(-evidence[:, -1]) * glad).unsqueeze(1))
        neutral = emotions[:, _NEITHER].sum(dim=1, keepdim=True)
        sentiment = torch.cat([(1 - neutral) * (1 - positive), neutral, (1 - neutral) * positive], dim=1)
        return emotions, sentiment, outputs[0][1]


def _quantised(trained: Network) -> Network:
    network = copy.deepcopy(trained)
    network.characters = QuantisedTable(network.characters.weight.detach().numpy())
    return network.eval()


def linear_models(rows: Rows, matrices: dict[str, Any], fold: int, config: ZhConfig) -> dict[str, LinearModel]:
    """Both linear models, fitted on all rows but those of ``fold``; a fold that no row has leaves nothing out."""
    kept = rows.folds != fold
    blogs = np.flatnonzero(kept & (rows.emotions >= 0))
    polar = np.flatnonzero(kept & (rows.polarity >= 0))
    row_weights = np.where(rows.corpora[polar] == "reviews", 1.0, config.other_weight)
    return {
        "emotion": fit_emotions(matrices["emotion"][blogs], rows.emotions[blogs], config.class_weight_power),
        "sentiment": fit_polarity(matrices["sentiment"][polar], rows.polarity[polar], row_weights),
    }


@dataclass(frozen=True)
class Everyday:
    """What the everyday head learns from: TF-IDF X (n, v) of all rows, its ``idf`` (v,), and what is known of each row.

    First come the rows of `Rows`, then those that the everyday corpora add. ``emotions`` (n,) over `EKMAN`, -100
    unknown; ``reviews`` (n,) marks; ``folds`` (n,) as in `Rows`.
    """

    X: sparse.csr_matrix
    idf: np.ndarray
    vocabulary: np.ndarray
    emotions: np.ndarray
    reviews: np.ndarray
    folds: np.ndarray

    def fit(self, fold: int, config: ZhConfig) -> EverydayHead:
        """The head, fitted on all rows but those of ``fold``; a fold that no row has leaves nothing out."""
        kept = np.flatnonzero((self.folds != fold) & ((self.emotions >= 0) | self.reviews))
        parts = (self.emotions[kept], self.reviews[kept])
        return fit_everyday(self.X[kept], self.idf, *parts, config.everyday_strength)


def everyday_of(rows: Rows, grams: Grams, others: Grams, targets: np.ndarray) -> Everyday:
    """Rows of the everyday head: those of `Rows` with ``grams``, and ``others`` with ``targets`` over `EKMAN`."""
    own = np.full(len(rows.emotions), _NO_LABEL)
    told = rows.emotions >= 0
    own[told] = np.array(_ONTO)[rows.emotions[told]]
    emotions = np.concatenate([own, targets])
    everything = Grams(grams.hashes + others.hashes, grams.counts + others.counts)
    vocabulary = everything.vocabulary(np.flatnonzero(emotions >= 0), 3)
    counts = everything.matrix(np.arange(len(emotions)), vocabulary)
    idf = inverse_document_frequency(counts[emotions >= 0])
    added = len(targets)
    return Everyday(
        X=tfidf(counts, idf),
        idf=idf,
        vocabulary=vocabulary,
        emotions=emotions,
        reviews=np.concatenate([np.isin(rows.corpora, _GOODS), np.zeros(added, dtype=bool)]),
        folds=np.concatenate([rows.folds, np.full(added, _NO_FOLD)]),
    )


def cross_fit(
    rows: Rows, matrices: dict[str, Any], reading: Reading, everyday: Everyday, config: ZhConfig
) -> tuple[list[Network], np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """The networks of all folds, and all heads' parts' answers on the rows (n,) that every fold left out."""
    networks, places, found = [], [], []
    for fold in range(config.folds):
        started = time.monotonic()
        networks.append(fit_network(rows, reading, fold, config))
        linear = linear_models(rows, matrices, fold, config)
        left_out = np.flatnonzero(rows.folds == fold)
        parts = {head: model.decide(matrices[head][left_out]) for head, model in linear.items()}
        parts["emotion"]["network"] = answers(networks[-1], reading, left_out)
        parts["everyday"] = {"evidence": everyday.fit(fold, config).evidence(everyday.X[left_out])}
        places.append(left_out)
        found.append(parts)
        print(f"fold {fold + 1}/{config.folds} {time.monotonic() - started:.0f} s", flush=True)
    parts = {
        head: {name: np.concatenate([f[head][name] for f in found]) for name in found[0][head]} for head in found[0]
    }
    return networks, np.concatenate(places), parts


def alphabet_of(texts: list[str], least: int = 4) -> Alphabet:
    """Characters that occur ``least`` times."""
    codes, counts = np.unique(np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4"), return_counts=True)
    return Alphabet(codes[counts >= least].astype(np.uint64))


def train(data: Path, vectors_file: Path, out: Path, config: ZhConfig) -> None:
    """Train, export, and measure the exported graph; leaves text_zh.onnx, card.json and held_out.npz in ``out``.

    ``vectors_file`` is that of the package synonyms (`word_vectors`).
    """
    sources = read_sources(vectors_file, str.maketrans(*traditional_characters()))
    out.mkdir(parents=True, exist_ok=True)
    rows = gather(data, config)
    table = table_of(rows.texts, sources, config.n_words)
    cuts = [table.words.cut(text) for text in rows.texts]
    grams = Grams.of(rows.texts, table.words)
    vocabularies = vocabularies_of(rows, grams)
    everything = np.arange(len(rows.texts))
    matrices = {head: grams.matrix(everything, hashes) for head, hashes in vocabularies.items()}
    alphabet = alphabet_of(rows.texts)
    reading = reading_of(rows.texts, cuts, alphabet, table, config)
    talk, targets = read_everyday(data)
    simplified = str.maketrans(*traditional_characters())
    others = Grams.of([normalise(text).translate(simplified) for text in talk], table.words)
    everyday = everyday_of(rows, grams, others, targets)
    networks, places, parts = cross_fit(rows, matrices, reading, everyday, config)
    stacks, offsets, blend, held_out = stack_held_out(rows, places, parts, config)
    linear = linear_models(rows, matrices, _LEAVE_NOTHING_OUT, config)
    head = everyday.fit(_LEAVE_NOTHING_OUT, config)
    weights = out / "text_zh.onnx"
    graph = Graph(linear, networks, table.numbers, stacks, offsets, head, blend).eval()
    export(graph, alphabet, table.words, vocabularies | {"everyday": everyday.vocabulary}, blend.prior, weights)
    write_held_out(out / "held_out.npz", **held_out)
    facts = {
        "config": asdict(config),
        "rows": {corpus: int((rows.corpora == corpus).sum()) for corpus in np.unique(rows.corpora).tolist()}
        | {"talk": len(talk)},
        "vocabularies": {name: len(hashes) for name, hashes in vocabularies.items()}
        | {"everyday": len(everyday.vocabulary)},
        "characters": alphabet.n_characters,
        "words": len(table.words.words),
        "offsets": dict(zip(SMP2020.labels, offsets.tolist(), strict=True)),
        "prior": dict(zip(EKMAN.labels, blend.prior.tolist(), strict=True)),
        "held_out": _scores_held_out(held_out),
        "valid": measure(ChineseText(weights), data),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def vocabularies_of(rows: Rows, grams: Grams) -> dict[str, np.ndarray]:
    """Hashes (v,) that each head's linear models know: those in several rows of the corpora that it is judged on."""
    polar_blogs = np.flatnonzero((rows.corpora == "blogs") & (rows.polarity >= 0))
    return {
        "emotion": grams.vocabulary(np.flatnonzero(rows.emotions >= 0), 2),
        # The microblogs' commoner n-grams are few more, and spare sentiment from blindness to how microblogs speak.
        "sentiment": np.union1d(grams.vocabulary(rows.of("reviews"), 3), grams.vocabulary(polar_blogs, 8)),
    }


def reading_of(
    texts: list[str], cuts: list[list[str]], alphabet: Alphabet, table: WordTable, config: ZhConfig
) -> Reading:
    """What the networks read of ``texts``, which ``cuts`` holds as words."""
    characters = [alphabet.encode(text) for text in texts]
    words = [clip_and_pad(table.words.ids(cut)) for cut in cuts]
    vectors = neighbour_vectors(co_occurrence(characters, alphabet.n_characters), config.width)
    return Reading(characters, words, vectors, torch.from_numpy(table.numbers).float())


def stack_held_out(
    rows: Rows, places: np.ndarray, parts: dict[str, dict[str, np.ndarray]], config: ZhConfig
) -> tuple[dict[str, Stack], np.ndarray, Blend, dict[str, np.ndarray]]:
    """Stack, emotions' offsets and blend that ship, learned on the parts' answers on the rows ``places`` (n,).

    Also the arrays of held_out.npz: there every row's answer is from a stack that never saw its fold.
    """
    folds, emotions, polarity = rows.folds[places], rows.emotions[places], rows.polarity[places]
    blogs, reviews, polar = emotions >= 0, rows.corpora[places] == "reviews", polarity >= 0
    emotion = {name: z[blogs] for name, z in parts["emotion"].items()}
    sentiment = {name: z[reviews] for name, z in parts["sentiment"].items()}
    strength = config.stack_strength
    stacks = {
        "emotion": fit_stack(emotion, emotions[blogs], strength),
        "sentiment": fit_stack(sentiment, polarity[reviews], strength),
    }
    logits = stacks["emotion"].logits(parts["emotion"])
    logits[blogs] = cross_stacked(emotion, emotions[blogs], folds[blogs], strength)
    offsets = class_offsets(logits[blogs], emotions[blogs], _LIFTS)
    polarities = stacks["sentiment"].logits(parts["sentiment"])
    polarities[reviews] = cross_stacked(sentiment, polarity[reviews], folds[reviews], strength)
    everyday = parts["everyday"]["evidence"]
    blend = blend_of(emotions[blogs], offsets, config.microblog_weight)
    probabilities = blend.emotions(logits + offsets, everyday)
    positive = expit(polarity_with_evidence(polarities[:, 0], everyday))
    held_out = {
        "emotion_probabilities": probabilities[blogs],
        "emotion_targets": np.array(_ONTO)[emotions[blogs]],
        "sentiment_probabilities": sentiment_of(probabilities, positive)[polar],
        "sentiment_targets": polarity[polar] * 2,
        "sentiment_corpus": rows.corpora[places][polar],
    }
    return stacks, offsets, blend, held_out


def _scores_held_out(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    answered = restrict(arrays["emotion_probabilities"], EKMAN, SMP2020.labels).argmax(axis=1)
    y = np.array([_ONTO.index(label) for label in arrays["emotion_targets"]])
    reviews = arrays["sentiment_corpus"] == "reviews"
    polarity = restrict(arrays["sentiment_probabilities"], SENTIMENT, ("negative", "positive")).argmax(axis=1) * 2
    right = polarity == arrays["sentiment_targets"]
    return {
        "smp2020_macro_f1": float(f1_score(y, answered, average="macro")),
        "smp2020_accuracy": float((answered == y).mean()),
        "chnsenticorp_accuracy": float(right[reviews].mean()),
        "smp2020_polarity_accuracy": float(right[~reviews].mean()),
    }


def export(
    graph: Graph, alphabet: Alphabet, words: Words, vocabularies: dict[str, np.ndarray], prior: np.ndarray, path: Path
) -> None:
    """Write the graph for one text at a time; alphabet and dictionary travel in the file.

    Inputs "characters" and "words" (1, t) int64, and for every head its known n-grams (m,) int64 and their
    counts (m,) float32; outputs "probabilities" (1, 7), "sentiment" (1, 3), "embedding" (1, d), all vocabularies, the
    dictionary's costs, ends and tags, as `Words` has them, and the "prior" (7,) under which the probabilities are.
    """
    import onnx

    names = ["characters", "words", *(f"{head}_{what}" for head in HEADS for what in ("grams", "counts"))]
    ids, counts = torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 1.0])
    letters = torch.ones(1, 9, dtype=torch.int64)
    example = (letters, letters.clone(), ids, counts, ids[:2], counts[:2], ids[1:], counts[1:])
    axes = {name: {1: "t"} for name in names[:2]} | {
        f"{head}_{what}": {0: f"{head}_n"} for head in HEADS for what in ("grams", "counts")
    }
    plain = path.with_suffix(".part.onnx")
    torch.onnx.export(
        graph,
        example,
        str(plain),
        input_names=names,
        output_names=["probabilities", "sentiment", "embedding"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(plain))
    constants = {f"{head}_vocabulary": hashes for head, hashes in vocabularies.items()}
    constants |= {"word_costs": words.costs, "word_ends": words.ends, "word_tags": words.tags}
    constants["prior"] = prior.astype(np.float32)
    for name, values in constants.items():
        _add_constant(model, name, values)
    facts = {"characters": "".join(chr(code) for code in alphabet.codes)}
    facts |= dict(zip(("traditional", "simplified"), traditional_characters(), strict=True))
    facts["words"] = "\n".join(words.words)
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(plain))
    store_in_half(plain)
    plain.replace(path)


def _add_constant(model: Any, name: str, values: np.ndarray) -> None:
    """Add an output to a graph that gives ``values`` whatever comes in."""
    from onnx import helper, numpy_helper

    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(values, f"{name}_values"))
    graph.node.append(helper.make_node("Identity", [f"{name}_values"], [name]))
    element = helper.np_dtype_to_tensor_dtype(values.dtype)
    graph.output.append(helper.make_tensor_value_info(name, element, values.shape))


def measure(model: ChineseText, data: Path) -> dict[str, dict[str, float]]:
    """Scores of the exported model on the valid parts: on all rows, and on those without a copy in train."""
    blogs, reviews = load("smp2020_ewect", data, "valid"), load("chnsenticorp", data, "valid")
    answered = restrict(model.probabilities(blogs.inputs), EKMAN, SMP2020.labels).argmax(axis=1)
    fresh = ~copied(blogs.inputs, load("smp2020_ewect", data, "train").inputs)
    polarity = restrict(model.sentiment(reviews.inputs), SENTIMENT, reviews.labels.labels).argmax(axis=1)
    unseen = ~copied(reviews.inputs, load("chnsenticorp", data, "train").inputs)
    right = polarity == reviews.targets
    scores: dict[str, dict[str, float]] = {}
    for name, part in (("smp2020_ewect", slice(None)), ("smp2020_ewect without copies", fresh)):
        y, z = blogs.targets[part], answered[part]
        macro_f1 = float(f1_score(y, z, average="macro"))
        scores[name] = {"n": len(y), "macro_f1": macro_f1, "accuracy": float((y == z).mean())}
    for name, part in (("chnsenticorp", slice(None)), ("chnsenticorp without copies", unseen)):
        scores[name] = {"n": len(right[part]), "accuracy": float(right[part].mean())}
    return scores


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


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the data sets")
    parser.add_argument("--word-vectors", type=Path, help="in place of those of the package synonyms")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--epochs", type=int, default=ZhConfig.epochs)
    parser.add_argument("--threads", type=int, default=ZhConfig.threads)
    options = parser.parse_args()
    config = ZhConfig(epochs=options.epochs, threads=options.threads)
    train(options.data, options.word_vectors or word_vectors(), options.out, config)


if __name__ == "__main__":
    _main()
