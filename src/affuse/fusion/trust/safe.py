"""Fusion with a fallback: held-out rows decide whether fusion answers, or the best single modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, Groups, Mask, patterns_of, present
from affuse.fusion.calibrated import CalibratedLogPool
from affuse.fusion.estimator import Fuser, check_fitted
from affuse.fusion.folds import clustered_error, clusters_of
from affuse.fusion.registry import name_of
from affuse.fusion.relabel import partial_answer
from affuse.fusion.schema import LEAST, Check, each, flags, fuser_over, numbers, optional
from affuse.fusion.temperature import fit_temperatures, temperature_scale
from affuse.fusion.weighting import hits, smoothed_accuracies

__all__ = ["SafeFusion", "better_by_more_than_chance"]

# With more modalities than this, not all sets of them are tried, only those that occur and those where one is missing.
ALL_SETS_UP_TO = 4


class SafeFusion(Fuser):
    """A fuser that falls back to the best single modality unless fusion is shown to be better on held-out rows.

    For every set of modalities a fuser of its own is learned and cross-validated by groups, on the rows in which all of
    the set are present. It answers rows in which exactly this set is present if a paired one-sided t-test, clustered by
    groups, says that it is right more often than the set's best modality. Otherwise that modality answers, calibrated
    by one temperature. The choice is made within `fit`, so it never sees the rows that it is judged by. Sets that were
    not tried fall back as well. Gaps: see above. Ties: those of the fuser.

    Parameters
    ----------
    fuser : Fuser, optional
        The fuser to be made safe; `CalibratedLogPool` where None.
    level : float
        One-sided level of the test, between 0 and 1; strict, since every set of modalities is a test of its own.
    folds : int
        Number of folds of the cross-validation, at least 2.

    Attributes
    ----------
    sets_ : array of bool of shape (n_sets, n_modalities)
        Modalities of each set that was tried.
    fusers_ : list of Fuser or None
        Fuser of each set; None where its best modality answers.
    margins_ : array of shape (n_sets,)
        How much more often fusion was right.
    accuracies_ : array of shape (n_modalities,)
        Accuracy of every modality by itself.

    References
    ----------
    Liang & Zeger (1986), Longitudinal data analysis using generalized linear models. doi:10.1093/biomet/73.1.13

    Examples
    --------
    Where one modality is noise, the other answers alone:

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=100)
    >>> P = rng.dirichlet([1, 1], size=(100, 2))
    >>> P[:, 0] = (P[:, 0] + np.eye(2)[y]) / 2
    >>> fuser = SafeFusion().fit(P, y)
    >>> fuser.falls_back, fuser.describe_choice(["face", "voice"])
    (True, 'only face')
    """

    def __init__(self, fuser: Any = None, level: float = 0.01, folds: int = 5) -> None:
        self.fuser = fuser
        self.level = level
        self.folds = folds

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        n = len(self.sets_)
        return {
            "temperatures_": numbers(m, low=LEAST),
            "sets_": flags(n, m),
            "fusers_": each(optional(fuser_over(m, k)), n),
            "margins_": numbers(n),
            "accuracies_": numbers(m, low=0.0, high=1.0),
        }

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn every modality's temperature and accuracy, then try every set of modalities
        if not (0 < self.level < 1 and self.folds >= 2):
            raise ConfigError(f"level must be between 0 and 1 and folds at least 2; got {self.level} and {self.folds}")
        here = present(P)
        self.temperatures_ = fit_temperatures(P, y)
        self.accuracies_ = smoothed_accuracies(P, y)
        clusters = clusters_of(groups, len(y))
        self.sets_ = _sets_to_try(here)
        tried = [self._try(members, P, y, clusters) for members in self.sets_]
        self.fusers_ = [fuser for fuser, _ in tried]
        self.margins_ = np.array([margin for _, margin in tried])

    def combine(self, P: Array, here: Mask) -> Array:
        # Answers (n, k) of the fuser or of the modality that each row's set of modalities calls for
        answers = np.full((len(P), P.shape[2]), np.nan)
        calibrated = temperature_scale(P, self.temperatures_)
        for members, rows in patterns_of(here):
            if members.any():
                fuser = self._fuser_for(members)
                answers[rows] = (
                    calibrated[rows, self._best_of(members)] if fuser is None else fuser.predict_proba(P[rows])
                )
        return answers

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        # By the fuser or modality that answers each whole row. Where a single modality does, the others change nothing:
        # without it there is no answer.
        check_fitted(self)
        P, kept = np.asarray(P, dtype=float), np.asarray(keep, dtype=bool)
        here = present(P)
        answers = np.full((len(P), P.shape[2]), np.nan)
        calibrated = temperature_scale(P, self.temperatures_)
        for members, rows in patterns_of(here):
            fuser = self._fuser_for(members)
            if fuser is not None:
                answers[rows] = partial_answer(fuser, P[rows], kept)
            elif members.any() and kept[self._best_of(members)]:
                answers[rows] = calibrated[rows, self._best_of(members)]
        return answers

    @property
    def falls_back(self) -> bool:
        """Whether a row in which all modalities are present is answered by the best of them alone."""
        return self._fuser_for(np.ones(self.n_modalities_, dtype=bool)) is None

    def describe_choice(self, modalities: Sequence[str]) -> str | None:
        if self.falls_back:
            return f"only {modalities[int(np.argmax(self.accuracies_))]}"
        return name_of(CalibratedLogPool if self.fuser is None else type(self.fuser))

    def _fuser_for(self, members: Mask) -> Any:
        found = np.flatnonzero((self.sets_ == members).all(axis=1))
        return self.fusers_[found[0]] if len(found) else None

    def _best_of(self, members: Mask) -> int:
        return int(np.where(members, self.accuracies_, -1.0).argmax())

    def _try(self, members: Mask, P: Array, y: Columns, clusters: Columns) -> tuple[Any, float]:
        """The fuser of one set where it is shown better, else None; and by how much it was right more often."""
        from sklearn.base import clone  # takes seconds, and only learning needs it

        P = np.where(members[:, None], P, np.nan)
        here = present(P)
        judged = (here == members).all(axis=1)
        model = CalibratedLogPool() if self.fuser is None else self.fuser
        if len(np.unique(clusters[judged])) < 2:
            return None, 0.0
        gain = np.zeros(len(y))
        single = hits(P, y)[:, self._best_of(members)]
        for learned, held_out in _folds(clusters, self.folds):
            asked = held_out & judged
            usable = learned & here.any(axis=1)
            if asked.any() and usable.any():
                answers = clone(model).fit(P[usable], y[usable], clusters[usable]).predict(P[asked])
                gain[asked] = (answers == y[asked]) * 1.0 - single[asked]
        shown = better_by_more_than_chance(gain[judged], clusters[judged], self.level)
        some = here.any(axis=1)
        fuser = clone(model).fit(P[some], y[some], clusters[some]) if shown else None
        return fuser, float(gain[judged].mean())


def better_by_more_than_chance(gain: Array, clusters: Columns, level: float) -> bool:
    """Whether the mean of paired differences is above 0: one-sided t-test, clustered.

    Rows of one cluster (speaker, video) may depend on each other; the variance is that of the sums of the clusters
    (Liang & Zeger 1986, doi:10.1093/biomet/73.1.13), with one degree of freedom less than there are clusters.

    Parameters
    ----------
    gain : array of shape (n_samples,)
        Paired differences.
    clusters : array of int of shape (n_samples,)
    level : float
        Level of the test.

    Returns
    -------
    bool
    """
    from scipy.stats import t as student_t

    count = len(np.unique(clusters))
    if count < 2:
        return False
    return bool(gain.mean() - student_t.ppf(1 - level, count - 1) * clustered_error(gain, clusters) > 0)


def _sets_to_try(here: Mask) -> Mask:
    """Sets (s, m) of at least two modalities that get a fuser of their own."""
    m = here.shape[1]
    sets: Mask
    if m <= ALL_SETS_UP_TO:
        sets = np.array(list(product([False, True], repeat=m)))
    else:
        sets = np.unique(np.vstack([here, np.ones((1, m), dtype=bool), ~np.eye(m, dtype=bool)]), axis=0)
    return sets[sets.sum(axis=1) >= 2]


def _folds(clusters: Columns, folds: int) -> Iterator[tuple[Mask, Mask]]:
    """Masks (n,) of the rows learned from and held out, fold by fold; clusters are never split."""
    from sklearn.model_selection import GroupKFold, KFold

    count = len(np.unique(clusters))
    rows = np.zeros((len(clusters), 1))
    if count == len(clusters):  # every row by itself: shuffled, since files are often sorted by label
        splits = KFold(min(folds, count), shuffle=True, random_state=0).split(rows)
    else:
        splits = GroupKFold(min(folds, count)).split(rows, groups=clusters)
    for _, held_out in splits:
        mask = np.zeros(len(clusters), dtype=bool)
        mask[held_out] = True
        yield ~mask, mask
