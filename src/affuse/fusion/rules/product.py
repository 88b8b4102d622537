"""Bayes' product rule for modalities that are independent given the label."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.estimator import Fuser, check_vector
from affuse.fusion.pooling import FLOOR

__all__ = ["ProductRule"]


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
        """Sum of logarithms over axis 1 of P (n, m, k) where ``here``, back to probabilities."""
        log_prior = np.log(self.prior_)
        # A gap counts as 1, whose logarithm is 0; fmin leaves numbers alone and turns NaN into 1.
        L = np.log(np.maximum(np.fmin(P, 1.0), FLOOR))
        total = np.einsum("nmk->nk", L)
        total += (1 - here @ np.ones(here.shape[1]))[:, None] * log_prior
        total -= total.max(axis=1, keepdims=True)
        np.exp(total, out=total)
        total /= (total @ np.ones(total.shape[1]))[:, None]
        return np.asarray(total)
