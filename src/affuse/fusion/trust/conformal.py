"""Prediction sets with guaranteed coverage (split conformal prediction)."""

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
    """Prediction sets that hold the right label with probability ``coverage`` (split conformal prediction).

    They do so whatever the fuser is worth. Some of the rows of `fit` are kept from the fuser; on them the scores of the
    right labels are ranked. ``"lac"`` scores a label by one minus its probability, which gives the smallest sets on
    average. ``"aps"`` scores it by the sum of the probabilities down to it, which gives larger sets in difficult rows
    (without the random part of the paper, so sets cover a little more than guaranteed). The guarantee holds on average
    over new rows that are exchangeable with those kept; with groups, over rows of new groups as far as groups are
    alike. Rows without any evidence get all labels.

    Parameters
    ----------
    fuser : Fuser, optional
        `CalibratedLogPool` where None.
    coverage : float
        Probability that the set holds the right label, between 0 and 1.
    method : {"lac", "aps"}
        How labels are scored.
    calibration_share : float
        Share of the rows (or groups) that is kept to rank scores, between 0 and 1.
    random_state : int
        Seed of the split.

    Attributes
    ----------
    fuser_ : Fuser
        Fitted on the other rows.
    threshold_ : float
        Greatest score that enters a set.
    classes_ : array of shape (n_classes,)
        Labels of the columns.

    References
    ----------
    Sadinle, Lei & Wasserman (2019), Least ambiguous set-valued classifiers. doi:10.1080/01621459.2017.1395341

    Romano, Sesia & Candès (2020), Classification with valid and adaptive coverage. arXiv:2006.02544

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=600)
    >>> P = (rng.dirichlet([1, 1, 1], size=(600, 2)) + np.eye(3)[y][:, None]) / 2
    >>> sets = ConformalSets(coverage=0.9).fit(P[:400], y[:400]).predict_set(P[400:])
    >>> bool(sets[np.arange(200), y[400:]].mean() > 0.85)
    True
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
        """Fit the fuser on one part of the rows, and rank scores on the other.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.
        y : array of shape (n_samples,)
            The right labels, as in `Fuser.fit`.
        groups : array of shape (n_samples,), optional
            What must not be split.

        Returns
        -------
        ConformalSets
            The estimator itself.

        Raises
        ------
        ConfigError
            If a parameter is out of range.
        DataError
            If shapes do not fit, or there are too few rows.
        """
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
        """Which labels are in the set of each row.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.

        Returns
        -------
        array of bool of shape (n_samples, n_classes)
            At least one label a row.
        """
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
    """The ``⌈(n + 1) coverage⌉``-th smallest of n scores; infinite where n is too small for the guarantee."""
    rank = int(np.ceil((len(scores) + 1) * coverage))
    return float(np.sort(scores)[rank - 1]) if 0 < rank <= len(scores) else float("inf")
