"""Linear models over n-grams of characters, one a language and mark.

They know words of languages of which the base has seen little: there n-grams alone beat it. Both answers are weighed
for every language on held-out rows (stacking: Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from affuse.data.corpora.brighter import LANGUAGES, MARKS
from affuse.experts.text.multilingual import N_BUCKETS, gram_buckets
from recipes.text_multi_data import DOMAINS, MultiRows

__all__ = ["GramModels", "Mixture", "fit_grams", "fit_mixture"]

_STRENGTH = 10.0  # inverse of the penalty of the linear models
_PULL = 5.0  # by how much the weights of a language are held near those of all languages, in units of the loss
_RARE = -3.0  # logit of a mark that annotators of a language were not asked for


@dataclass(frozen=True)
class GramModels:
    """Weights (28, 6, buckets) in whole numbers from -127 to 127, their steps (28, 6), and intercepts (28, 6)."""

    weights: np.ndarray
    steps: np.ndarray
    intercepts: np.ndarray

    def logits(self, texts: list[str], languages: np.ndarray) -> np.ndarray:
        """Logits of marks (n, 6) of texts in known languages."""
        X = _matrix(texts)
        found = np.zeros((len(texts), len(MARKS)))
        for place in np.unique(languages):
            mine = np.flatnonzero(languages == place)
            found[mine] = X[mine] @ (self.weights[place] * self.steps[place][:, None]).T + self.intercepts[place]
        return found


def _matrix(texts: list[str]) -> csr_matrix:
    """Which buckets every text falls into (n, buckets); rows have length 1."""
    buckets = [gram_buckets(text) for text in texts]
    sizes = np.array(list(map(len, buckets)))
    values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    places = np.concatenate(buckets) if buckets else np.zeros(0, dtype=np.int64)
    return csr_matrix((values, places, np.concatenate([[0], np.cumsum(sizes)])), shape=(len(texts), N_BUCKETS))


def fit_grams(rows: MultiRows) -> GramModels:
    """Learn from all posts that are not held out."""
    chosen = np.flatnonzero((rows.domains == DOMAINS.index("posts")) & ~rows.held_out)
    X, marks, languages = _matrix([rows.texts[i] for i in chosen]), rows.marks[chosen], rows.languages[chosen]
    weights = np.zeros((len(LANGUAGES), len(MARKS), N_BUCKETS))
    intercepts = np.full((len(LANGUAGES), len(MARKS)), _RARE)
    for place in range(len(LANGUAGES)):
        mine = languages == place
        for mark in range(len(MARKS)):
            y = marks[mine, mark]
            if (y < 0).any() or len(np.unique(y)) < 2:
                continue
            model = LogisticRegression(C=_STRENGTH, solver="liblinear").fit(X[mine], y)
            weights[place, mark], intercepts[place, mark] = model.coef_[0], model.intercept_[0]
    steps = np.maximum(np.abs(weights).max(axis=2), 1e-9) / 127
    return GramModels(np.round(weights / steps[:, :, None]).astype(np.int8), steps, intercepts)


@dataclass(frozen=True)
class Mixture:
    """What the logits of network and n-grams are multiplied by (28, 2), and what is added (28,)."""

    weights: np.ndarray
    offsets: np.ndarray

    def mixed(self, network: np.ndarray, grams: np.ndarray, languages: np.ndarray) -> np.ndarray:
        """Logits of marks (n, 6) from those of both, for texts in known languages."""
        a, b = self.weights[languages].T
        return np.asarray(a[:, None] * network + b[:, None] * grams + self.offsets[languages][:, None])


def fit_mixture(network: np.ndarray, grams: np.ndarray, marks: np.ndarray, languages: np.ndarray) -> Mixture:
    """Weigh both logits (n, 6) on held-out rows: the weights of a language are pulled towards those of all."""
    pooled = _weights(network, grams, marks, np.array([0.5, 0.5, 0.0]), 0.0)
    found = np.tile(pooled, (len(LANGUAGES), 1))
    for place in np.unique(languages):
        mine = languages == place
        found[place] = _weights(network[mine], grams[mine], marks[mine], pooled, _PULL)
    return Mixture(found[:, :2], found[:, 2])


def _weights(network: np.ndarray, grams: np.ndarray, marks: np.ndarray, near: np.ndarray, pull: float) -> np.ndarray:
    """Two weights and an offset (3,) of the least loss; the penalty of this regression is the distance to ``near``."""
    asked = marks >= 0
    X = np.stack([network[asked], grams[asked], np.ones(asked.sum())], axis=1)
    sign = np.where(marks[asked] == 1, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (X @ w)
        slope = -(sign * expit(-margin)) @ X + 2 * pull * (w - near)
        return float(np.logaddexp(0, -margin).sum() + pull * ((w - near) ** 2).sum()), slope

    return np.asarray(minimize(loss, near, jac=True, method="L-BFGS-B").x)
