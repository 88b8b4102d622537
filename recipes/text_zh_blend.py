"""How the parts of the Chinese text recipe become one answer: the microblogs' stack and the everyday head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import expit, log_softmax, logsumexp, softmax

from affuse.labels import EKMAN, SMP2020
from recipes.text_zh_data import NO_FOLD, NO_LABEL, Grams, ZhConfig, ZhRows
from recipes.text_zh_everyday import EverydayHead, fit_everyday
from recipes.text_zh_linear import inverse_document_frequency, tfidf

__all__ = [
    "HAPPINESS",
    "LEAST",
    "NEGATIVE",
    "NEITHER",
    "ONTO",
    "SHARED",
    "Blend",
    "Everyday",
    "blend_of",
    "everyday_of",
    "polarity_with_evidence",
    "sentiment_of",
]

_GOODS = ("reviews", "delivery")
# Assumed frequency of disgust, which the microblogs have no label for: its share among English training rows.
_DISGUST_SHARE = 0.016
_DISGUST = EKMAN.index("disgust")
ONTO = [EKMAN.index(label) for label in SMP2020.labels]
"""Columns of `EKMAN` that the labels of the microblogs are."""
SHARED = 0.5
"""Weight of the everyday head's evidence for happiness: half, since the polarity model reads the same words."""
LEAST = -9.0
"""Log-probability: the stack's certainties are worth no more than e^9."""
HAPPINESS = EKMAN.index("happiness")
NEGATIVE = [EKMAN.index(label) for label in ("anger", "disgust", "fear", "sadness")]
NEITHER = [EKMAN.index(label) for label in ("neutral", "surprise")]


@dataclass(frozen=True)
class Everyday:
    """What the everyday head learns from: TF-IDF X (n, v) of all rows, its ``idf`` (v,), and what is known of each row.

    First come the rows of `ZhRows`, then those that the everyday corpora add. ``emotions`` (n,) over `EKMAN`, -100
    unknown; ``reviews`` (n,) marks; ``folds`` (n,) as in `ZhRows`.
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


def everyday_of(rows: ZhRows, grams: Grams, others: Grams, targets: np.ndarray) -> Everyday:
    """Rows of the everyday head: those of `ZhRows` with ``grams``, and ``others`` with ``targets`` over `EKMAN`."""
    own = np.full(len(rows.emotions), NO_LABEL)
    told = rows.emotions >= 0
    own[told] = np.array(ONTO)[rows.emotions[told]]
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
        folds=np.concatenate([rows.folds, np.full(added, NO_FOLD)]),
    )


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
        """Emotions (n, 7) from the stack's logits (n, 6), offsets included, and evidence (n, 8)."""
        told = np.full((len(logits), len(EKMAN)), 0.0)  # no evidence for or against disgust
        told[:, ONTO] = np.maximum(log_softmax(logits, axis=1), LEAST) - np.log(self.shares)
        return np.asarray(softmax(self.weight * told + evidence[:, :-1] + np.log(self.prior), axis=1))


def blend_of(emotions: np.ndarray, offsets: np.ndarray, weight: float) -> Blend:
    """The blend for a stack that was fitted on labels ``emotions`` (n,) and has ``offsets`` (6,) for rare ones."""
    shares = np.bincount(emotions, minlength=len(SMP2020)) / len(emotions) * np.exp(offsets)
    shares /= shares.sum()
    prior = np.empty(len(EKMAN))
    prior[ONTO], prior[_DISGUST] = shares * (1 - _DISGUST_SHARE), _DISGUST_SHARE
    return Blend(shares, prior, weight)


def polarity_with_evidence(polarity: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Log-odds (n,) of positive: the polarity model's, and what everyday emotions add where the text is no review."""
    glad = evidence[:, HAPPINESS] - logsumexp(evidence[:, NEGATIVE], axis=1) + np.log(len(NEGATIVE))
    return np.asarray(polarity + SHARED * expit(-evidence[:, -1]) * glad)


def sentiment_of(emotions: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Sentiment (n, 3): neutral has the mass of neutral and surprise, the rest is split by ``positive`` (n,).

    ``emotions`` (n, 7) over `EKMAN`.
    """
    neutral = emotions[:, NEITHER].sum(axis=1)
    return np.stack([(1 - neutral) * (1 - positive), neutral, (1 - neutral) * positive], axis=1)
