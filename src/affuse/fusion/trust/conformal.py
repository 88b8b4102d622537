"""Sets of labels that hold the right one as often as promised (split conformal prediction)."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.utils.validation import check_is_fitted

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Columns, Mask, check_probabilities
from affuse.fusion.calibrated import CalibratedLogPool
from affuse.fusion.estimator import columns_of

__all__ = ["ConformalSets"]


class ConformalSets(BaseEstimator):
    """Prediction sets around a fuser that hold the right label with probability ``coverage``.

    They do so whatever the fuser is worth. A part of the rows of `fit` is kept from the fuser; on it the scores of
    the right labels are ranked. ``"lac"`` scores a label by one minus its probability, which gives the smallest sets
    on average (Sadinle et al. 2019, doi:10.1080/01621459.2017.1395341); ``"aps"`` by the sum of the probabilities
    down to it, which grows where rows are hard (Romano et al. 2020, arXiv:2006.02544; without its random part, so
    sets cover a little more than promised). The promise holds on average over new rows that are exchangeable with
    those kept; with groups, over rows of new groups as far as groups are alike. Rows without any evidence get all
    labels.

    Parameters
    ----------
    fuser: the fuser; `CalibratedLogPool` where None.
    coverage: probability that the set holds the right label, between 0 and 1.
    method: "lac" or "aps".
    calibration_share: share of the rows (or groups) that ranks scores, between 0 and 1.
    random_state: seed of the split.

    Attributes
    ----------
    fuser_: fitted on the other rows. threshold_: greatest score that enters a set. classes_: labels of the columns.
    """

    def __init__(
        self,
        fuser: Any = None,
        coverage: float = 0.9,
        method: Literal["lac", "aps"] = "lac",
        calibration_share: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.fuser = fuser
        self.coverage = coverage
        self.method = method
        self.calibration_share = calibration_share
        self.random_state = random_state

    def fit(self, P: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Fit the fuser on one part of P (n, m, k) and y (n,), rank scores on the other; groups (n,) are not split."""
        if not (0 < self.coverage < 1 and 0 < self.calibration_share < 1):
            raise ConfigError(
                f"coverage and calibration_share must be between 0 and 1; got {self.coverage}, {self.calibration_share}"
            )
        if self.method not in ("lac", "aps"):
            raise ConfigError(f"unknown method {self.method!r}; known: aps, lac")
        P = check_probabilities(P)
        self.classes_, columns = columns_of(y, len(P), P.shape[2])
        learned, ranked = self._split(len(P), groups)
        model = CalibratedLogPool() if self.fuser is None else self.fuser
        held = None if groups is None else np.asarray(groups)[learned]
        self.fuser_ = clone(model).fit(P[learned], columns[learned], held)
        scores = self._scores(self.fuser_.predict_proba(P[ranked]))[np.arange(len(ranked)), columns[ranked]]
        self.threshold_ = _conformal_quantile(scores[~np.isnan(scores)], self.coverage)
        return self

    def predict_set(self, P: ArrayLike) -> Mask:
        """Which labels are in the set of each row of P (n, m, k): (n, k), at least one a row."""
        check_is_fitted(self)
        fused = self.fuser_.predict_proba(P)
        scores = self._scores(fused)
        inside = scores <= self.threshold_
        inside |= np.isnan(fused)
        inside[np.arange(len(fused)), np.nan_to_num(fused).argmax(axis=1)] = True
        return np.asarray(inside)

    def _split(self, n: int, groups: ArrayLike | None) -> tuple[Columns, Columns]:
        how = {"n_splits": 1, "test_size": self.calibration_share, "random_state": self.random_state}
        splitter = ShuffleSplit(**how) if groups is None else GroupShuffleSplit(**how)
        try:
            return next(splitter.split(np.zeros((n, 1)), groups=groups))
        except ValueError as error:
            raise DataError(f"{n} rows cannot be split into a part to learn from and one to rank: {error}") from error

    def _scores(self, P: Array) -> Array:
        """How badly each label fits (n, k): small is good, NaN where P is."""
        if self.method == "lac":
            return np.asarray(1 - P)
        order = np.argsort(-P, axis=1, kind="stable")
        sums = np.cumsum(np.take_along_axis(P, order, axis=1), axis=1)
        scores = np.empty_like(P)
        np.put_along_axis(scores, order, sums, axis=1)
        return scores


def _conformal_quantile(scores: Array, coverage: float) -> float:
    """The ``⌈(n + 1) coverage⌉``-th smallest of n scores; infinite where there are too few for the promise."""
    rank = int(np.ceil((len(scores) + 1) * coverage))
    return float(np.sort(scores)[rank - 1]) if 0 < rank <= len(scores) else float("inf")
