"""The calibrated logarithmic pool for modalities with different causes (Körding et al., 2007), as an estimator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Columns, Groups, Mask
from affuse.fusion.calibrated import CalibratedLogPool
from affuse.fusion.pooling import common_cause_pool
from affuse.fusion.schema import LEAST, Check, number
from affuse.fusion.temperature import temperature_scale

__all__ = ["CommonCausePool"]


class CommonCausePool(CalibratedLogPool):
    """Calibrated logarithmic pool for modalities with different causes (Körding et al., 2007).

    Temperatures, weights and prior are learned as in `CalibratedLogPool`. The answer is the mean of two answers,
    weighted by their posterior probability: that of the pool, which takes one emotion to be the common cause of all
    modalities, and the mean of the modalities' own opinions, as if each expressed an emotion of its own. Conflict thus
    costs confidence. One modality by itself answers as in the pool. Gaps: left out. Ties: the first column.

    Parameters
    ----------
    shrinkage : float
        Pull of the weights towards 1, in rows.
    prior : array of shape (n_classes,), optional
        Label frequencies of the answer; those of ``y`` where None.
    separate : float
        Prior probability that the modalities of a row express different emotions, at least 0 and below 1; with 0 this
        is `CalibratedLogPool`.

    Attributes
    ----------
    temperatures_, weights_ : array of shape (n_modalities,)
        Temperature and weight of every modality.
    priors_ : array of shape (n_modalities, n_classes)
        Label frequencies of the rows in which each modality was present.
    prior_ : array of shape (n_classes,)
        Label frequencies of the answer.

    References
    ----------
    Körding et al. (2007), Causal inference in multisensory perception. doi:10.1371/journal.pone.0000943

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> P = rng.dirichlet([1, 1], size=(200, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> clash = np.array([[[0.95, 0.05], [0.05, 0.95]], [[0.95, 0.05], [0.95, 0.05]]])
    >>> fuser = CommonCausePool(separate=0.2).fit(P, y)
    >>> against, agree = fuser.predict_proba(clash).max(axis=1)
    >>> bool(against < agree)
    True
    """

    def __init__(self, shrinkage: float = 50.0, prior: ArrayLike | None = None, separate: float = 0.1) -> None:
        super().__init__(shrinkage, prior)
        self.separate = separate

    @classmethod
    def of(
        cls, temperatures: ArrayLike, weights: ArrayLike, priors: ArrayLike, prior: ArrayLike, separate: float = 0.1
    ) -> Self:
        """A fitted pool from numbers that were learned elsewhere.

        Parameters
        ----------
        temperatures, weights : array of shape (n_modalities,)
        priors : array of shape (n_modalities, n_classes)
            Label frequencies that each modality is calibrated under.
        prior : array of shape (n_classes,)
            Label frequencies of the answer.
        separate : float
            As in the class.

        Returns
        -------
        CommonCausePool

        Raises
        ------
        DataError
            If shapes do not fit each other.
        """
        pool = cls(separate=separate)
        pool.temperatures_, pool.weights_, pool.priors_, pool.prior_ = (
            np.array(values, dtype=float) for values in (temperatures, weights, priors, prior)
        )
        m, k = pool.temperatures_.size, pool.prior_.size
        shapes = [a.shape for a in (pool.temperatures_, pool.weights_, pool.priors_, pool.prior_)]
        if shapes != [(m,), (m,), (m, k), (k,)]:
            raise DataError(f"temperatures, weights, priors and prior do not fit each other: {shapes}")
        pool.classes_, pool.n_modalities_ = np.arange(k), m
        return pool

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {**super().learned(m, k), "separate": number(0.0, 1.0 - LEAST)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn temperatures, then weights. Raises ConfigError where ``separate`` is out of range.
        if not 0 <= self.separate < 1:
            raise ConfigError(f"separate must be at least 0 and below 1; got {self.separate}")
        super().learn(P, y, groups)

    def combine(self, P: Array, here: Mask) -> Array:
        # Mean of the pool and of the opinions of P (n, m, k), weighted by how probable one cause is
        Q = temperature_scale(P, self.temperatures_) * (self.prior_ / self.priors_)
        Q /= Q.sum(axis=2, keepdims=True)
        shared = np.broadcast_to(self.prior_, self.priors_.shape)  # every modality is under the common prior by now
        return common_cause_pool(Q, self.weights_, shared, self.prior_, self.separate)
