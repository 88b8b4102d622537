"""The logarithmic opinion pool as plain functions of arrays; scikit-learn is needed to learn one, not to use one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from affuse.errors import DataError
from affuse.fusion.base import Array, present

__all__ = ["FLOOR", "LogPool", "log_pool", "soften"]

# No expert is ever surer than this: a single probability of zero would otherwise veto a label for good.
FLOOR = 1e-6


def soften(P: Array, temperatures: Array) -> Array:
    """Divide the log-probabilities P (n, m, k) of every modality by its temperature (m,) and renormalise."""
    L = np.log(np.maximum(P, FLOOR)) / np.asarray(temperatures)[:, None]
    L -= L.max(axis=2, keepdims=True)
    L = np.exp(L)
    return np.asarray(L / L.sum(axis=2, keepdims=True))


def log_pool(P: Array, weights: Array, priors: Array, prior: Array) -> Array:
    """Weighted logarithmic opinion pool with prior correction (Genest & Zidek 1986, doi:10.1214/ss/1177013825).

    ``log q = log prior + sum_m weights[m] (log P[m] - log priors[m])``, normalised. With weights of 1 this is Bayes'
    product rule for modalities that are independent given the label. P (n, m, k) may hold NaN for modalities without
    evidence, which are left out; weights (m,); priors (m, k) are the label frequencies that each expert was trained
    under; prior (k,) is that of the answer. Returns (n, k); rows without any evidence are NaN.
    """
    here = present(P)
    ratio = np.log(np.maximum(P, FLOOR)) - np.log(priors)
    L = np.log(prior) + np.einsum("m,nmk->nk", np.asarray(weights), np.where(here[:, :, None], ratio, 0.0))
    L -= L.max(axis=1, keepdims=True)
    q = np.exp(L)
    q /= q.sum(axis=1, keepdims=True)
    q[~here.any(axis=1)] = np.nan
    return np.asarray(q)


@dataclass(frozen=True)
class LogPool:
    """A learned pool for named modalities, as plain numbers: what the shipped fuser is.

    ``temperatures`` (m,), ``weights`` (m,), ``priors`` (m, k) and ``prior`` (k,) as in `soften` and `log_pool`.
    """

    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    temperatures: Array
    weights: Array
    priors: Array
    prior: Array

    def select(self, modalities: Sequence[str]) -> LogPool:
        """The same pool for some of its modalities, in the order given. Raises DataError for an unknown one."""
        unknown = [m for m in modalities if m not in self.modalities]
        if unknown:
            raise DataError(f"the fuser knows {', '.join(self.modalities)}; got {', '.join(unknown)}")
        rows = [self.modalities.index(m) for m in modalities]
        return LogPool(
            tuple(modalities), self.labels, self.temperatures[rows], self.weights[rows], self.priors[rows], self.prior
        )

    def calibrate(self, P: Array) -> Array:
        """Every modality's probabilities P (n, m, k) at its learned temperature."""
        return soften(P, self.temperatures)

    def __call__(self, P: Array) -> Array:
        """Fuse calibrated P (n, m, k) into (n, k)."""
        return log_pool(P, self.weights, self.priors, self.prior)

    def to_dict(self) -> dict[str, Any]:
        """The pool as lists and numbers."""
        return {
            "modalities": list(self.modalities),
            "labels": list(self.labels),
            "temperatures": self.temperatures.tolist(),
            "weights": self.weights.tolist(),
            "priors": self.priors.tolist(),
            "prior": self.prior.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LogPool:
        """Read what `to_dict` wrote. Raises DataError where a part is missing or shapes do not fit."""
        try:
            arrays = {
                name: np.asarray(values[name], dtype=float) for name in ("temperatures", "weights", "priors", "prior")
            }
            pool = cls(tuple(values["modalities"]), tuple(values["labels"]), **arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a fuser of affuse: {error}") from error
        m, k = len(pool.modalities), len(pool.labels)
        shapes = (pool.temperatures.shape, pool.weights.shape, pool.priors.shape, pool.prior.shape)
        if shapes != ((m,), (m,), (m, k), (k,)):
            raise DataError(f"a fuser of {m} modalities and {k} labels cannot have arrays of the shapes {shapes}")
        return pool
