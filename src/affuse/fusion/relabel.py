"""Fitted fusers over other labels, or with one more modality; they learn nothing themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from affuse.fusion.base import Array, Mask
from affuse.fusion.estimator import Fuser
from affuse.fusion.pooling import FLOOR
from affuse.fusion.schema import Check, flag, fuser_over, numbers

__all__ = ["Relabelled", "Widened", "partial_answer"]


def partial_answer(fuser: Any, P: Array, keep: Mask) -> Array:
    """`Fuser.partial_proba` of any fitted fuser, also of one that scikit-learn wrapped in a pipeline."""
    if isinstance(fuser, Fuser):
        return np.asarray(fuser.partial_proba(P, keep))
    masked = np.array(P, dtype=float)
    masked[:, ~keep] = np.nan
    return np.asarray(fuser.predict_proba(masked))


class Relabelled(Fuser):
    """A fitted fuser over other labels: finer, fewer or in another order than the columns of P.

    A modality that puts everything on labels which the fuser lacks is missing for it. Gaps and ties: those of the
    fuser.

    Parameters
    ----------
    fuser : Fuser
        Fitted over P of shape (n, m, q).
    m : int
        Number of its modalities.
    transfer : array of shape (q, k)
        Which of k columns each own label belongs to, as rows of zeros and a one.
    prior : array of shape (q,)
        Frequencies of the own labels; finer ones share the probability of their column accordingly.
    """

    def __init__(self, fuser: Any, m: int, transfer: ArrayLike, prior: ArrayLike) -> None:
        self.fuser = fuser
        self.m = m
        self.transfer = transfer
        self.prior = prior
        T = np.asarray(transfer, dtype=float)
        own = np.asarray(prior, dtype=float)
        self.classes_ = np.arange(T.shape[1])
        self.adapts = isinstance(fuser, Fuser) and fuser.adapts
        self.n_modalities_ = m
        self.prior_ = own @ T
        self.spread_ = T.T * own / np.maximum(self.prior_, np.finfo(float).tiny)[:, None]  # (k, q), rows of sum 1

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {
            "spread_": numbers(k, len(np.asarray(self.prior)), low=0.0),
            "adapts": flag,
            "fuser": fuser_over(m, len(np.asarray(self.prior))),
        }

    def combine(self, P: Array, here: Mask) -> Array:
        # The fuser's answer to P (n, m, k), in the k columns
        return np.asarray(self.fuser.predict_proba(self._own(P)) @ np.asarray(self.transfer))

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        # The fuser's own partial answer, in the k columns
        own = self._own(np.asarray(P, dtype=float))
        return np.asarray(partial_answer(self.fuser, own, np.asarray(keep, dtype=bool)) @ np.asarray(self.transfer))

    def adapt(self, P: ArrayLike, weights: ArrayLike | None = None, of: str = "person") -> Self:
        """The fuser adapted to the rows P (n, m, k), over the same labels."""
        own = self._own(np.asarray(P, dtype=float))
        adapted = self.fuser.adapt(own, weights, of)
        return type(self)(adapted, self.m, self.transfer, self.prior)

    @property
    def adapted_(self) -> dict[str, Any]:
        """What `adapt` found."""
        return getattr(self.fuser, "adapted_", {})

    def _own(self, P: Array) -> Array:
        own = P @ self.spread_
        total = own.sum(axis=2, keepdims=True)
        return np.divide(own, total, out=np.full(own.shape, np.nan), where=total > FLOOR)


class Widened(Fuser):
    """A fitted fuser and one more modality, independent of the others given the label: ``q ∝ fused · (p / prior)``.

    Gaps: where the fuser has no evidence, the further modality answers, and the other way round. Ties: the first
    column.

    Parameters
    ----------
    fuser : Fuser
        Fitted over P of shape (n, m, k).
    m : int
        Number of its modalities.
    prior : array of shape (k,)
        Label frequencies of its answer, under which the further modality is calibrated too.
    """

    def __init__(self, fuser: Any, m: int, prior: ArrayLike) -> None:
        self.fuser = fuser
        self.m = m
        self.prior = prior
        self.prior_ = np.asarray(prior, dtype=float)
        self.classes_ = np.arange(len(self.prior_))
        self.n_modalities_ = m + 1
        self.adapts = isinstance(fuser, Fuser) and fuser.adapts

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"adapts": flag, "fuser": fuser_over(m - 1, k)}

    def combine(self, P: Array, here: Mask) -> Array:
        # Product of the fuser's answer and the last modality of P (n, m + 1, k) over the prior
        return self._joined(self.fuser.predict_proba(P[:, : self.m]), P[:, self.m])

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        # The fuser's own partial answer, joined with the last modality where it is kept
        P, kept = np.asarray(P, dtype=float), np.asarray(keep, dtype=bool)
        further = P[:, self.m] if kept[self.m] else np.full_like(P[:, self.m], np.nan)
        return self._joined(partial_answer(self.fuser, P[:, : self.m], kept[: self.m]), further)

    def adapt(self, P: ArrayLike, weights: ArrayLike | None = None, of: str = "person") -> Self:
        """The fuser adapted to the rows P (n, m + 1, k); the further modality stays as it is."""
        adapted = self.fuser.adapt(np.asarray(P, dtype=float)[:, : self.m], weights, of)
        return type(self)(adapted, self.m, self.prior)

    @property
    def adapted_(self) -> dict[str, Any]:
        """What `adapt` found."""
        return getattr(self.fuser, "adapted_", {})

    def _joined(self, fused: Array, further: Array) -> Array:
        no_fused, no_further = np.isnan(fused[:, :1]), np.isnan(further[:, :1])
        prior = np.maximum(self.prior_, FLOOR)
        Q = np.where(no_fused, prior, fused) * np.where(no_further, 1.0, np.maximum(further, FLOOR) / prior)
        Q = Q / Q.sum(axis=1, keepdims=True)
        return np.asarray(np.where(no_fused & no_further, np.nan, Q))
