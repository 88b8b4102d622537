"""Fusers that learn from held-out rows: stacking, gates that look at the row, and weights that were optimised."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, present
from affuse.fusion.dynamic import centred_logits, confidence_features
from affuse.fusion.estimator import Fuser
from affuse.fusion.pooling import FLOOR
from affuse.fusion.temperature import fit_temperatures, temperature_scale
from affuse.fusion.weighting import LEAST_WEIGHT, weighted_mean

__all__ = ["GatedFusion", "OptimizedWeights", "Stacking"]


class Stacking(Fuser):
    """Any scikit-learn classifier on top of what the modalities say (stacked generalisation).

    Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1. The classifier sees the centred log-probabilities of every
    modality, 0 in gaps, and one indicator a modality that is 1 in gaps. One that gives no probabilities (a support
    vector machine) is calibrated by cross-validation (Platt's sigmoid). Labels that do not occur in `fit` have no
    probability. Gaps: as uniform probabilities, plus the indicator. Ties: the first column. Where modalities go
    missing that were there in `fit`, ``SafeFusion(Stacking())`` is much better: it learns a classifier for every set
    of them.

    Parameters
    ----------
    classifier: a scikit-learn classifier; multinomial logistic regression where None.
    """

    def __init__(self, classifier: Any = None) -> None:
        self.classifier = classifier

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Fit the classifier on the rows that have any evidence
        from sklearn.base import clone  # scikit-learn takes seconds to import, and only learning needs it
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.linear_model import LogisticRegression

        spoken = present(P).any(axis=1)
        if len(np.unique(y[spoken])) < 2:
            raise DataError("stacking needs rows with evidence of at least two labels; got one or none")
        model = LogisticRegression(C=0.1, max_iter=1000) if self.classifier is None else clone(self.classifier)
        if not hasattr(model, "predict_proba"):
            model = CalibratedClassifierCV(model, ensemble=False)
        self.classifier_ = model.fit(_stacked_features(P[spoken]), y[spoken])
        if type(model) is LogisticRegression:
            # Two arrays say all; with them, nothing of scikit-learn is needed to predict or to be written to disk.
            self.classifier_ = None
            self.labels_, self.slopes_, self.offsets_ = model.classes_, model.coef_, model.intercept_
            if len(model.classes_) == 2:  # one row of logits, against 0
                self.slopes_, self.offsets_ = (np.concatenate([-a, a]) / 2 for a in (model.coef_, model.intercept_))

    def combine(self, P: Array, here: Mask) -> Array:
        # Probabilities (n, k) that the classifier gives to the features of P (n, m, k)
        answers = np.zeros((len(P), P.shape[2]))
        if self.classifier_ is not None:
            answers[:, self.classifier_.classes_] = self.classifier_.predict_proba(_stacked_features(P))
            return answers
        found = self._logits(P, here)
        found -= found.max(axis=1, keepdims=True)
        np.exp(found, out=found)
        found /= (found @ np.ones(found.shape[1]))[:, None]
        if len(self.labels_) == P.shape[2]:
            return found
        answers[:, self.labels_] = found
        return answers

    def _logits(self, P: Array, here: Mask) -> Array:
        if not here.all():
            return np.asarray(_stacked_features(P) @ self.slopes_.T + self.offsets_)
        n, m, k = P.shape
        slopes = self.slopes_[:, : m * k].reshape(-1, m, k)
        slopes = (slopes - slopes.mean(axis=2, keepdims=True)).reshape(-1, m * k)  # instead of centring every row
        return np.asarray(np.log(np.maximum(P, FLOOR)).reshape(n, m * k) @ slopes.T + self.offsets_)


def _stacked_features(P: Array) -> Array:
    """Centred log-probabilities and indicators of gaps, (n, m k + m) from P (n, m, k)."""
    return np.concatenate([centred_logits(P).reshape(len(P), -1), ~present(P)], axis=1)


class GatedFusion(Fuser):
    """Mixture of experts: the weight of every modality depends on the row.

    Jacobs et al. 1991, doi:10.1162/neco.1991.3.1.79. The answer is ``Σ_m g_m(x) p_m`` over temperature-scaled
    probabilities. The gate g is a softmax over the modalities that speak, linear in how sure each modality is
    (`confidence_features`, standardised, 0 in gaps). It is trained by maximum likelihood (L-BFGS, convergence from an
    even gate, so nothing is random). Gaps: weight 0. Ties: the first column.

    Parameters
    ----------
    penalty: pull of the gate towards even weights, in rows.
    """

    def __init__(self, penalty: float = 10.0) -> None:
        self.penalty = penalty

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn temperatures, the scale of the features and the gate
        if not self.penalty > 0:
            raise ConfigError(f"penalty must be above 0; got {self.penalty}")
        here = present(P)
        self.temperatures_ = fit_temperatures(P, y)
        features = confidence_features(P)
        count = np.maximum(here.sum(axis=0), 1)[:, None]
        self.centre_ = features.sum(axis=0) / count
        spread = np.sqrt((np.where(here[:, :, None], features - self.centre_, 0.0) ** 2).sum(axis=0) / count)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        spoken = here.any(axis=1)
        X = self._gate_inputs(P[spoken], here[spoken])
        calibrated = temperature_scale(P[spoken], self.temperatures_)
        likelihood = np.where(here[spoken], calibrated[np.arange(len(X)), :, y[spoken]], 0.0)
        self.gate_ = _fit_gate(X, likelihood, here[spoken], self.penalty)

    def combine(self, P: Array, here: Mask) -> Array:
        # Mixture (n, k) of P (n, m, k) by the gate's weights
        weights = np.exp(_log_gate(self._gate_inputs(P, here), self.gate_, here))
        return weighted_mean(temperature_scale(P, self.temperatures_), weights)

    def weights(self, P: Array) -> Array:
        """What the gate gives to every modality in every row: (n, m) from P (n, m, k).

        A row's weights sum to 1 where any modality speaks, and are 0 elsewhere.
        """
        here = present(P)
        return np.exp(_log_gate(self._gate_inputs(P, here), self.gate_, here)) * here

    def _gate_inputs(self, P: Array, here: Mask) -> Array:
        """Standardised features and a constant, (n, f)."""
        scaled = np.where(here[:, :, None], (confidence_features(P) - self.centre_) / self.scale_, 0.0)
        return np.concatenate([scaled.reshape(len(P), -1), np.ones((len(P), 1))], axis=1)


def _log_gate(X: Array, gate: Array, here: Mask) -> Array:
    """Logarithms of the weights (n, m); rows where nobody speaks are even."""
    scores = np.where(here | ~here.any(axis=1, keepdims=True), X @ gate.T, -np.inf)
    return np.asarray(log_softmax(scores, axis=1))


def _fit_gate(X: Array, likelihood: Array, here: Mask, penalty: float) -> Array:
    """Gate (m, f) that maximises ``Σ log Σ_m g_m likelihood_m`` less half the penalty times its squared norm."""
    from scipy.optimize import minimize  # slow to import, and only learning needs it

    n, m = likelihood.shape
    if n == 0:
        return np.zeros((m, X.shape[1]))

    def loss(flat: Array) -> tuple[float, Array]:
        gate = flat.reshape(m, -1)
        weights = np.exp(_log_gate(X, gate, here))
        mixed = np.maximum((weights * likelihood).sum(axis=1), FLOOR)
        responsible = weights * likelihood / mixed[:, None]
        slope = (weights * responsible.sum(axis=1, keepdims=True) - responsible).T @ X
        value = -np.log(mixed).sum() + penalty * (gate**2).sum() / 2
        return value / n, ((slope + penalty * gate) / n).ravel()

    found = minimize(loss, np.zeros(m * X.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x.reshape(m, -1))


class OptimizedWeights(Fuser):
    """Weighted mean of the probabilities whose weights maximise the likelihood of held-out labels.

    Linear opinion pool. Gaps: the weights of the modalities that speak are scaled to sum to 1, in `fit` as well.
    Ties: the first column.

    Parameters
    ----------
    penalty: pull towards equal weights, in rows.
    """

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn the weights: a gate that sees nothing but a constant
        if not self.penalty > 0:
            raise ConfigError(f"penalty must be above 0; got {self.penalty}")
        here = present(P)
        spoken = here.any(axis=1)
        likelihood = np.where(here[spoken], P[spoken][np.arange(spoken.sum()), :, y[spoken]], 0.0)
        gate = _fit_gate(np.ones((len(likelihood), 1)), likelihood, here[spoken], self.penalty)
        self.weights_ = softmax(gate[:, 0])

    def combine(self, P: Array, here: Mask) -> Array:
        return weighted_mean(P, here * np.maximum(self.weights_, LEAST_WEIGHT))
