"""Linear models of the Chinese text recipe: over n-grams, words and clusters of words, and what weighs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from affuse.labels import SMP2020
from recipes.text_zh_data import ZhConfig, ZhRows

__all__ = [
    "KINDS",
    "LinearModel",
    "Stack",
    "bayes_ratio",
    "cross_stacked",
    "fit_emotions",
    "fit_polarity",
    "fit_stack",
    "inverse_document_frequency",
    "linear_models",
    "presence",
    "tfidf",
]

KINDS = ("tfidf", "bayes")
"""Both linear models of a head."""


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
        return {kind: inputs[kind] @ self.weights[kind] + self.bias[kind] for kind in KINDS}


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


def linear_models(rows: ZhRows, matrices: dict[str, Any], fold: int, config: ZhConfig) -> dict[str, LinearModel]:
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
