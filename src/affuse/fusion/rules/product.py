"""Bayes' product rule for modalities that are independent given the label."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax

from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.estimator import Fuser, check_vector
from affuse.fusion.pooling import FLOOR

__all__ = ["ProductRule"]

# A product of so many factors of at least a millionth is still a number; logarithms cost several times as much.
MOST_FACTORS = 40


class ProductRule(Fuser):
    """Product of the probabilities with the prior counted once (logarithmic pool with weights of 1).

    ``q ∝ prior · Π_m (p_m / prior)`` over the modalities that speak (Genest & Zidek 1986, doi:10.1214/ss/1177013825;
    Kittler et al. 1998, doi:10.1109/34.667881); with a uniform prior this is the plain product. Gaps: left out.
    Probabilities below a millionth count as one, so that no expert vetoes a label. Ties: the first column.

    Parameters
    ----------
    prior: label frequencies (k,) that the experts were trained under; those of ``y`` in `fit` where None.
    """

    def __init__(self, prior: ArrayLike | None = None) -> None:
        self.prior = prior

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        """Take the prior from the labels, or check the one that was given."""
        if self.prior is not None:
            prior = np.maximum(check_vector(self.prior, P.shape[2], "prior", "classes"), FLOOR)
            self.prior_ = prior / prior.sum()

    def combine(self, P: Array, here: Mask) -> Array:
        """Product over axis 1 of P (n, m, k) where ``here``, normalised."""
        m = P.shape[1]
        if m > MOST_FACTORS:
            return _by_logarithms(P, here, self.prior_)
        # The prior stands in every factor, so it is taken out again as often as modalities speak, but for once.
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
