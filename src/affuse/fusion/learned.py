"""Fusers that learn from held-out rows: stacking, gates that look at the row, and weights that were optimised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import log_softmax, softmax

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, present
from affuse.fusion.dynamic import centred_logits, confidence_features
from affuse.fusion.estimator import Fuser
from affuse.fusion.pooling import FLOOR
from affuse.fusion.schema import LEAST, Check, anything, numbers
from affuse.fusion.temperature import fit_temperatures, temperature_scale
from affuse.fusion.weighting import LEAST_WEIGHT, weighted_mean

__all__ = ["GatedFusion", "OptimizedWeights", "Stacking"]


class Stacking(Fuser):
    """Stacked generalisation: a scikit-learn classifier on top of the answers of all modalities.

    ``q = softmax(W x + b)`` for the default logistic regression. The features x are the centred log-probabilities of
    every modality, 0 in gaps, and one indicator a modality that is 1 in gaps. A classifier without probabilities (a
    support vector machine) is calibrated by cross-validation (Platt's sigmoid). Labels that do not occur in `fit` have
    probability 0. Gaps: as uniform probabilities, plus the indicator. Ties: the first column. Where modalities are
    missing that were present in `fit`, ``SafeFusion(Stacking())`` is much better: it learns a classifier for every set
    of them.

    Parameters
    ----------
    classifier : scikit-learn classifier, optional
        Multinomial logistic regression where None.

    Attributes
    ----------
    classifier_ : scikit-learn classifier or None
        The fitted classifier; None for the default, of which ``labels_``, ``slopes_`` and ``offsets_`` are kept.
    labels_ : array of int of shape (n_seen,)
        Columns of the labels that occurred in `fit`.
    slopes_ : array of shape (n_seen, n_features)
        Weights W.
    offsets_ : array of shape (n_seen,)
        Intercepts b.

    References
    ----------
    Wolpert (1992), Stacked generalization. doi:10.1016/S0893-6080(05)80023-1

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> P = rng.dirichlet([1, 1], size=(200, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> Stacking().fit(P, y).score(P, y)
    1.0
    """

    def __init__(self, classifier: Any = None) -> None:
        self.classifier = classifier

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        if vars(self).get("classifier_") is not None:
            return {"classifier_": anything}  # of scikit-learn, whose types are checked when it is read
        seen = len(self.labels_)
        return {
            "classifier_": anything,
            "labels_": numbers(seen, low=0, high=k - 1, whole=True),
            "slopes_": numbers(seen, m * k + m),
            "offsets_": numbers(seen),
        }

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Fit the classifier on the rows that have any evidence
        from sklearn.base import clone  # scikit-learn takes seconds to import, and only learning needs it
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.linear_model import LogisticRegression

        some = present(P).any(axis=1)
        if len(np.unique(y[some])) < 2:
            raise DataError("stacking needs rows with evidence of at least two labels; got one or none")
        model = LogisticRegression(C=0.1, max_iter=1000) if self.classifier is None else clone(self.classifier)
        if not hasattr(model, "predict_proba"):
            model = CalibratedClassifierCV(model, ensemble=False)
        self.classifier_ = model.fit(_stacked_features(P[some]), y[some])
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

    ``q = Σ_m g_m(x) p_m`` over temperature-scaled probabilities. The gate g is a softmax over the modalities that are
    present, linear in how certain each modality is: top logit, margin, energy and entropy, standardised, 0 in gaps. It
    is trained by maximum likelihood (L-BFGS from even weights, so nothing is random). Gaps: weight 0. Ties: the first
    column.

    Parameters
    ----------
    penalty : float
        Pull of the gate towards even weights, in rows; above 0.

    Attributes
    ----------
    temperatures_ : array of shape (n_modalities,)
        Temperature of every modality.
    gate_ : array of shape (n_modalities, n_features)
        Weights of the gate.
    centre_, scale_ : array of shape (n_modalities, 4)
        Mean and standard deviation of the features.

    References
    ----------
    Jacobs et al. (1991), Adaptive mixtures of local experts. doi:10.1162/neco.1991.3.1.79

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> P = rng.dirichlet([1, 1], size=(200, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> fuser = GatedFusion().fit(P, y)
    >>> fuser.weights(P).sum(axis=1)[:3].round(6)
    array([1., 1., 1.])
    """

    def __init__(self, penalty: float = 10.0) -> None:
        self.penalty = penalty

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {
            "temperatures_": numbers(m, low=LEAST),
            "centre_": numbers(m, 4),
            "scale_": numbers(m, 4, low=LEAST),
            "gate_": numbers(m, 4 * m + 1),
        }

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
        some = here.any(axis=1)
        X = self._gate_inputs(P[some], here[some])
        calibrated = temperature_scale(P[some], self.temperatures_)
        likelihood = np.where(here[some], calibrated[np.arange(len(X)), :, y[some]], 0.0)
        self.gate_ = _fit_gate(X, likelihood, here[some], self.penalty)

    def combine(self, P: Array, here: Mask) -> Array:
        # Mixture (n, k) of P (n, m, k) by the gate's weights
        weights = np.exp(_log_gate(self._gate_inputs(P, here), self.gate_, here))
        return weighted_mean(temperature_scale(P, self.temperatures_), weights)

    def weights(self, P: Array) -> Array:
        """Weights that the gate gives to the modalities of every row.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.

        Returns
        -------
        array of shape (n_samples, n_modalities)
            Rows sum to 1 where any modality is present; 0 for missing modalities.
        """
        here = present(P)
        return np.exp(_log_gate(self._gate_inputs(P, here), self.gate_, here)) * here

    def _gate_inputs(self, P: Array, here: Mask) -> Array:
        """Standardised features and a constant, (n, f)."""
        scaled = np.where(here[:, :, None], (confidence_features(P) - self.centre_) / self.scale_, 0.0)
        return np.concatenate([scaled.reshape(len(P), -1), np.ones((len(P), 1))], axis=1)


def _log_gate(X: Array, gate: Array, here: Mask) -> Array:
    """Logarithms of the weights (n, m); even in rows without any modality."""
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
    """Linear opinion pool whose weights maximise the likelihood of held-out labels.

    ``q = Σ_m w_m p_m`` with weights that sum to 1. Gaps: the weights of the modalities that are present are scaled to
    sum to 1, in `fit` as well. Ties: the first column.

    Parameters
    ----------
    penalty : float
        Pull towards equal weights, in rows; above 0.

    Attributes
    ----------
    weights_ : array of shape (n_modalities,)
        Weights that sum to 1.

    References
    ----------
    Stone (1961), The opinion pool. doi:10.1214/aoms/1177704873

    Examples
    --------
    The first modality is informative, the second is noise:

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> P = rng.dirichlet([1, 1], size=(200, 2))
    >>> P[:, 0] = (P[:, 0] + np.eye(2)[y]) / 2
    >>> OptimizedWeights().fit(P, y).weights_.round(1)
    array([1., 0.])
    """

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"weights_": numbers(m, low=0.0)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn the weights: a gate that sees nothing but a constant
        if not self.penalty > 0:
            raise ConfigError(f"penalty must be above 0; got {self.penalty}")
        here = present(P)
        some = here.any(axis=1)
        likelihood = np.where(here[some], P[some][np.arange(some.sum()), :, y[some]], 0.0)
        gate = _fit_gate(np.ones((len(likelihood), 1)), likelihood, here[some], self.penalty)
        self.weights_ = softmax(gate[:, 0])

    def combine(self, P: Array, here: Mask) -> Array:
        return weighted_mean(P, here * np.maximum(self.weights_, LEAST_WEIGHT))
