"""Dynamic fusion: weights that depend on the row.

How much a modality counts is decided row by row, from how certain it is and how well it agrees with the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import expit, log_softmax, logsumexp, softmax

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, Groups, Mask, checked_blocks, present
from affuse.fusion.estimator import Fuser, check_fitted
from affuse.fusion.pooling import FLOOR
from affuse.fusion.schema import LEAST, Check, number, numbers
from affuse.fusion.temperature import fit_pulled

__all__ = [
    "DiscountedBeliefFusion",
    "EnergyWeighted",
    "PredictiveDynamicFusion",
    "centred_logits",
    "confidence_features",
]


def centred_logits(P: Array) -> Array:
    """Log-probabilities of P (n, m, k) with a mean of 0 over the labels; 0 throughout where NaN.

    Probabilities determine logits up to a constant; a mean of 0 fixes it.
    """
    L = np.log(np.maximum(np.where(np.isnan(P), 1.0, P), FLOOR))
    return np.asarray(L - L.mean(axis=2, keepdims=True))


def confidence_features(P: Array) -> Array:
    """How certain each modality is, in four numbers that do not depend on which label: (n, m, 4) from P (n, m, k).

    Top logit, margin of the top logit over the second, energy (log-sum-exp of the centred logits) and entropy over log
    k; 0 in gaps.
    """
    L = centred_logits(P)
    k = P.shape[2]
    ordered = np.sort(L, axis=2)
    margin = ordered[:, :, -1] - ordered[:, :, -2] if k > 1 else np.zeros(L.shape[:2])
    log_p = log_softmax(L, axis=2)
    entropy = -(np.exp(log_p) * log_p).sum(axis=2) / np.log(max(k, 2))
    features = np.stack([ordered[:, :, -1], margin, logsumexp(L, axis=2), entropy], axis=2)
    return np.where(present(P)[:, :, None], features, 0.0)


class EnergyWeighted(Fuser):
    """Logits weighted by their negative free energy (quality-aware multimodal fusion).

    The fused logits are ``Σ_m w_m f_m`` with ``w_m = log Σ_c exp f_m[c]``: a modality that is certain has a low energy
    and weighs more. Logits f are centred log-probabilities, since probabilities do not tell the energy that their
    network had. One temperature, learned in `fit`, calibrates the answer; it does not change which label is first.
    Gaps: left out. Ties: the first column.

    Attributes
    ----------
    temperature_ : float
        Temperature of the answer.

    References
    ----------
    Zhang et al. (2023), Provable dynamic fusion for low-quality multimodal data, ICML. arXiv:2306.02050

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> P = rng.dirichlet([1, 1], size=(200, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> EnergyWeighted().fit(P, y).score(P, y)
    1.0
    """

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"temperature_": number(low=LEAST)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn the temperature of the answer
        some = present(P).any(axis=1)
        fused = softmax(_energy_weighted(P[some]), axis=1)
        self.temperature_ = fit_pulled(fused, y[some])

    def combine(self, P: Array, here: Mask) -> Array:
        # Softmax of the weighted sum of logits of P (n, m, k)
        return np.asarray(softmax(_energy_weighted(P) / self.temperature_, axis=1))


def _energy_weighted(P: Array) -> Array:
    L = centred_logits(P)
    weights = logsumexp(L, axis=2)  # in gaps the logits are 0, so their weight does not matter
    return np.asarray(np.einsum("nm,nmk->nk", weights, L))


class PredictiveDynamicFusion(Fuser):
    """Logits weighted by predicted confidence and by that of the other modalities.

    A ridge regression a modality, learned in `fit`, predicts the probability p that it gives to the right label
    (mono-confidence). The others' share of the predicted loss, ``Σ_{j≠m} log p_j / Σ_j log p_j``, is the
    holo-confidence; their sum is the co-belief. It is scaled down where a modality is nearer to uniform than the others
    (relative calibration: mean distance from 1/k over the mean of the others' distances, at most 1). A softmax over the
    modalities gives the weights of the logits. The paper learns the predictor from hidden features of its networks;
    here it sees the modality's own probabilities. With two modalities the weights are the paper's. Gaps: left out.
    Ties: the first column.

    Parameters
    ----------
    alpha : float
        Penalty of the ridge regression, at least 0.

    Attributes
    ----------
    slopes_ : array of shape (n_modalities, n_features)
        Slopes of the regressions.
    offsets_ : array of shape (n_modalities,)
        Intercepts of the regressions.

    References
    ----------
    Cao et al. (2024), Predictive dynamic fusion, ICML. arXiv:2406.04802

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> P = rng.dirichlet([1, 1], size=(200, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> PredictiveDynamicFusion().fit(P, y).score(P, y)
    1.0
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"slopes_": numbers(m, k + 4), "offsets_": numbers(m)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn to predict every modality's probability of the right label
        from sklearn.linear_model import Ridge  # takes seconds, and only learning needs it

        if not self.alpha >= 0:
            raise ConfigError(f"alpha must be at least 0; got {self.alpha}")
        here = present(P)
        features = self._features(P)
        self.slopes_ = np.zeros((P.shape[1], features.shape[2]))
        self.offsets_ = np.zeros(P.shape[1])
        for j in range(P.shape[1]):
            some = here[:, j]
            if not some.any():
                continue
            truth = np.clip(P[some, j, y[some]], 0.01, 0.99)
            found = Ridge(alpha=self.alpha).fit(features[some, j], np.log(truth / (1 - truth)))
            self.slopes_[j], self.offsets_[j] = found.coef_, found.intercept_

    def combine(self, P: Array, here: Mask) -> Array:
        # Softmax of the weighted sum of logits of P (n, m, k)
        weights = self._weights(P, here)
        return np.asarray(softmax(np.einsum("nm,nmk->nk", weights, centred_logits(P)), axis=1))

    @staticmethod
    def _features(P: Array) -> Array:
        return np.concatenate([centred_logits(P), confidence_features(P)], axis=2)

    def _weights(self, P: Array, here: Mask) -> Array:
        """Weights (n, m) that sum to 1 over the modalities that are present."""
        mono = expit(np.einsum("nmf,mf->nm", self._features(P), self.slopes_) + self.offsets_)
        mono = np.clip(mono, FLOOR, 1 - FLOOR)
        loss = np.where(here, -np.log(mono), 0.0)
        total = loss.sum(axis=1, keepdims=True)
        holo = (total - loss) / np.where(total > 0, total, 1.0)
        belief = (mono + holo) * relative_calibration(P, here)
        belief = np.where(here, belief, -np.inf)
        belief[~here.any(axis=1)] = 0.0
        return np.asarray(softmax(belief, axis=1))


def relative_calibration(P: Array, here: Mask) -> Array:
    """Mean distance from 1/k of each modality over the mean of the others' distances, at most 1: (n, m).

    It is 1 where no other modality is present (Cao et al., 2024).
    """
    k = P.shape[2]
    distance = np.where(here, np.abs(np.where(here[:, :, None], P, 1 / k) - 1 / k).mean(axis=2), 0.0)
    others = here.sum(axis=1, keepdims=True) - here
    average = (distance.sum(axis=1, keepdims=True) - distance) / np.maximum(others, 1)
    return np.asarray(
        np.where((others > 0) & (average > 0), np.minimum(distance / np.maximum(average, FLOOR), 1.0), 1.0)
    )


class DiscountedBeliefFusion(Fuser):
    """Mean of the evidence after each modality is discounted by its conflict with the others.

    Every modality's probabilities become a subjective opinion: belief ``b = p - min p`` and uncertainty ``u = k min
    p``, the opinion of greatest uncertainty that has these probabilities. The conflict of two opinions is half the sum
    of ``|p_i - p_j|`` times ``(1 - u_i)(1 - u_j)``. The discount of i is ``η_i = Π_j (1 - conflict_ij^λ)^(1/λ)``, which
    turns b into ``η b`` and u into ``1 - η (1 - u)``. Evidence ``k b / u`` is then averaged, so the order of modalities
    does not matter, and conflict ends as uncertainty (see `uncertainty`). Gaps: left out. Ties: the first column.

    Parameters
    ----------
    strength : float
        λ above 0; the smaller, the more a conflict discounts.

    References
    ----------
    Bezirganyan et al. (2025), Multimodal learning with uncertainty quantification based on discounted belief fusion,
    AISTATS. arXiv:2412.18024

    Jøsang (2016), Subjective logic. doi:10.1007/978-3-319-42337-1

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.1, 0.9]]])
    >>> DiscountedBeliefFusion().fit(P, [0, 1]).predict_proba(P).round(2)
    array([[0.9, 0.1],
           [0.5, 0.5]])
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"strength": number(low=LEAST)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Check the strength; there is nothing to learn
        if not self.strength > 0:
            raise ConfigError(f"strength must be above 0; got {self.strength}")

    def combine(self, P: Array, here: Mask) -> Array:
        # Expected probabilities (n, k) of the averaged evidence of P (n, m, k)
        alpha = self._evidence(P, here) + 1
        return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))

    def uncertainty(self, P: object) -> Array:
        """Mass that no label has after fusion.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.

        Returns
        -------
        array of shape (n_samples,)
            From 0 to 1; NaN for rows without any modality.

        Examples
        --------
        >>> P = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.1, 0.9]]])
        >>> DiscountedBeliefFusion().fit(P, [0, 1]).uncertainty(P).round(2)
        array([0.2 , 0.61])
        """
        check_fitted(self)
        P = np.asarray(P)
        found = np.empty(len(P))
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            k = block.shape[2]
            u = k / (self._evidence(block, here).sum(axis=1) + k)
            found[rows] = np.where(here.any(axis=1), u, np.nan)
        return found

    def _evidence(self, P: Array, here: Mask) -> Array:
        """Average evidence (n, k) after discounting; 0 without any modality."""
        k = P.shape[2]
        P = np.where(here[:, :, None], np.maximum(P, FLOOR), 1 / k)
        P = P / P.sum(axis=2, keepdims=True)
        least = P.min(axis=2)
        discount = self._discounts(P, 1 - k * least, here)
        belief = discount[:, :, None] * (P - least[:, :, None])
        uncertainty = 1 - discount * (1 - k * least)
        evidence = np.where(here[:, :, None], k * belief / uncertainty[:, :, None], 0.0)
        return np.asarray(evidence.sum(axis=1) / np.maximum(here.sum(axis=1), 1)[:, None])

    def _discounts(self, P: Array, certainty: Array, here: Mask) -> Array:
        """η (n, m) of every modality: 1 where nothing contradicts it."""
        discounts = np.ones(here.shape)
        for i in range(here.shape[1]):
            for j in range(here.shape[1]):
                if i != j:
                    distance = np.abs(P[:, i] - P[:, j]).sum(axis=1) / 2
                    clash = np.clip(distance * certainty[:, i] * certainty[:, j], 0.0, 1.0)
                    agreement = (1 - clash**self.strength) ** (1 / self.strength)
                    discounts[:, i] *= np.where(here[:, i] & here[:, j], agreement, 1.0)
        return discounts
