"""Everyday language for the Chinese recipe: a linear head over the seven emotions that people show in dialogue.

Microblogs about an epidemic have no label for disgust and few everyday words. Three more corpora have both:
EmotionTalk, of which only the labels are used that were given to the words alone; CPED, dialogues of TV series; and
BRIGHTER, posts of all kinds. Their labels are noisy, so the head is a simple one: multinomial logistic regression over
TF-IDF of n-grams, words and clusters of words, in which every emotion has the same weight. It answers with evidence,
the log-odds that a text adds to any prior. A last column tells reviews of goods from people who talk about themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from affuse.data.corpora import load
from affuse.labels import EKMAN

__all__ = ["CORPORA", "EverydayHead", "fit_everyday", "read_everyday"]

CORPORA = ("emotiontalk_words", "cped", "brighter_chn")

_MOST_STEPS = 200


@dataclass(frozen=True)
class EverydayHead:
    """Evidence of a text: ``weights`` (v, 8) and ``bias`` (8,) of its TF-IDF; ``idf`` (v,).

    Columns are those of `EKMAN`, and last the log-odds that the text is a review.
    """

    idf: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def evidence(self, X: sparse.csr_matrix) -> np.ndarray:
        """Evidence (n, 8) of TF-IDF X (n, v)."""
        return np.asarray(X @ self.weights + self.bias)


def read_everyday(data: Path) -> tuple[list[str], np.ndarray]:
    """Texts and targets over `EKMAN` (n,) of the train parts of all `CORPORA`."""
    texts: list[str] = []
    targets = []
    for name in CORPORA:
        rows = load(name, data, "train")
        texts += list(rows.inputs)
        targets.append(np.array([EKMAN.index(label) for label in rows.labels.labels])[rows.targets])
    return texts, np.concatenate(targets)


def fit_everyday(
    X: sparse.csr_matrix, idf: np.ndarray, emotions: np.ndarray, reviews: np.ndarray, strength: float
) -> EverydayHead:
    """Fit the head on TF-IDF X (n, v) of rows with an emotion (n,) over `EKMAN`, -100 for reviews, marked in (n,).

    Rows weigh so that every emotion counts the same, and reviews as much as all others.
    """
    told = emotions >= 0
    model = LogisticRegression(C=strength, max_iter=_MOST_STEPS)
    model.fit(X[told], emotions[told], sample_weight=_balanced(emotions[told]))
    judge = LogisticRegression(C=strength, max_iter=_MOST_STEPS)
    kind = reviews.astype(int)
    judge.fit(X, kind, sample_weight=_balanced(kind))
    weights, bias = np.zeros((X.shape[1], len(EKMAN) + 1)), np.full(len(EKMAN) + 1, 0.0)
    weights[:, model.classes_], bias[model.classes_] = _coefficients(model, len(model.classes_))
    weights[:, -1], bias[-1] = judge.coef_[0], judge.intercept_[0]
    return EverydayHead(idf, weights, bias)


def _balanced(y: np.ndarray) -> np.ndarray:
    values, place, counts = np.unique(y, return_inverse=True, return_counts=True)
    return np.asarray((len(y) / len(values) / counts)[place])


def _coefficients(model: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (v, k) and bias (k,); scikit-learn keeps the difference alone where there are two classes."""
    if k == 2:
        half = model.coef_.T / 2
        return np.concatenate([-half, half], axis=1), np.concatenate([-model.intercept_, model.intercept_]) / 2
    return model.coef_.T, model.intercept_
