"""The product rule: Bayes' rule for modalities that are independent given the label."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.estimator import Fuser, check_vector
from affuse.fusion.pooling import FLOOR

__all__ = ["ProductRule"]

# A product of so many factors of at least 1e-6 does not underflow; logarithms take several times as long.
MOST_FACTORS = 40


class ProductRule(Fuser):
    """Product of the probabilities in which the prior counts once (Bayes' rule for conditionally independent experts).

    ``q ∝ prior · Π_m (p_m / prior)`` over the modalities that are present. With a uniform prior this is the plain
    product of Kittler et al.; it is the logarithmic opinion pool with weights of 1. Gaps: left out. Probabilities below
    1e-6 count as 1e-6, so that no expert vetoes a label. Ties: the first column.

    Parameters
    ----------
    prior : array of shape (n_classes,), optional
        Label frequencies that the experts were trained under; those of ``y`` in `fit` where None.

    Attributes
    ----------
    prior_ : array of shape (n_classes,)
        The prior in use.

    References
    ----------
    Kittler et al. (1998), On combining classifiers, eq. 7. doi:10.1109/34.667881

    Genest & Zidek (1986), Combining probability distributions. doi:10.1214/ss/1177013825

    Examples
    --------
    Two experts at 80 % support each other:

    >>> P = np.array([[[0.8, 0.2], [0.8, 0.2]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> ProductRule().fit(P, ["happy", "sad"]).predict_proba(P).round(3)
    array([[0.941, 0.059],
           [0.2  , 0.8  ]])
    """

    def __init__(self, prior: ArrayLike | None = None) -> None:
        self.prior = prior

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        if self.prior is not None:
            prior = np.maximum(check_vector(self.prior, P.shape[2], "prior", "classes"), FLOOR)
            self.prior_ = prior / prior.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        m = P.shape[1]
        if m > MOST_FACTORS:
            return _by_logarithms(P, here, self.prior_)
        # The prior stands in every factor, so it is taken out again as often as there are modalities present, less one.
        powers = self.prior_ ** (1.0 - np.arange(m + 1))[:, None]
        factors = P if here.all() else np.fmin(P, 1.0)  # a gap is a factor of 1
        total = powers[here @ np.ones(m, dtype=np.intp)]
        for j in range(m):
            total *= np.maximum(factors[:, j], FLOOR)
        total /= (total @ np.ones(total.shape[1]))[:, None]
        return np.asarray(total)


def _by_logarithms(P: Array, here: Mask, prior: Array) -> Array:
    """The same for so many modalities that products would fall below the least number."""
    total = np.einsum("nmk->nk", np.log(np.maximum(np.fmin(P, 1.0), FLOOR)))
    total += (1 - here.sum(axis=1))[:, None] * np.log(prior)
    return np.asarray(softmax(total, axis=1))
