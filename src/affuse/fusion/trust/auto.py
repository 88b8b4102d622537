"""The automatic choice: a contest of families of fusers on held-out rows, with the best single modality as the bar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import ConfigError
from affuse.fusion.base import Array, Columns, Groups, Mask, checked_blocks, patterns_of, present
from affuse.fusion.calibrated import CalibratedLogPool
from affuse.fusion.estimator import Fuser, check_fitted
from affuse.fusion.folds import clustered_error, clusters_of, group_folds
from affuse.fusion.learned import GatedFusion, Stacking
from affuse.fusion.reliability import ClasswisePool, sets_of
from affuse.fusion.schema import LEAST, Check, each, facts, flags, fuser_over, in_turn, number, numbers, text
from affuse.fusion.temperature import fit_temperatures, temperature_scale
from affuse.fusion.trust.safe import better_by_more_than_chance
from affuse.fusion.weighting import hits

__all__ = ["FAMILIES", "AutoFusion"]

FAMILIES = ("pool", "log_pool", "classwise", "gated", "stacking", "mix")
"""Families that compete where none are named, simplest first; "trees" (boosted trees of scikit-learn) may be added."""

_KNOWN = ("pool", "log_pool", "classwise", "gated", "stacking", "trees", "mix")
# They have a model for every set of modalities; the others learn one set at a time.
_EVERY_SET = ("pool", "classwise")
_LEAST = 1e-9  # probability, so that logarithms stay finite
# Families whose losses differ by less than this, in nats, do not differ noticeably.
_IMMATERIAL = 0.003
# A mix asks every member for every row; a member with less weight than this is not worth its time.
_LEAST_SHARE = 0.05


class AutoFusion(Fuser):
    """Automatic choice of a fuser by cross-validation, with the best single modality as the bar.

    Families compete by the log loss of held-out groups on the rows in which all modalities are present: pools with two
    numbers a modality (`ClasswisePool` without its classes, `CalibratedLogPool`), reliability by class
    (`ClasswisePool`), a gate (`GatedFusion`), stacked logistic regression (`Stacking`) and a weighted mix of them. The
    simplest family whose loss is within one standard error of the least is chosen (one-standard-error rule); the error
    is that of the paired difference, clustered by groups, and differences below 0.003 nats do not count. Smaller sets
    of modalities choose between the pool, reliability by class and the family that won, each learned for the set.

    For every set the choice answers only if a paired one-sided t-test, clustered by groups, says that it is right more
    often than the set's best modality. Otherwise that modality answers, calibrated by one temperature (as in
    `SafeFusion`). All of this happens within `fit`, on groups that the models asked have not seen. Every answer holds
    ``1 / (n + 2)`` of the uniform distribution, n being the rows of `fit` (rule of succession). Gaps: see above; sets
    that were not tried are answered by their best modality. Ties: those of the family.

    Parameters
    ----------
    families : sequence of str, optional
        Names of those that compete, simplest first: some of pool, log_pool, classwise, gated, stacking, trees and mix;
        all but trees where None.
    level : float
        One-sided level of the test, between 0 and 1; strict, since every set of modalities is a test of its own.
    folds : int
        Number of folds of the cross-validation, at least 2.

    Attributes
    ----------
    sets_ : array of bool of shape (n_sets, n_modalities)
        Modalities of each set that was tried.
    chosen_ : list of str
        Family of each set; "" where its best modality answers.
    fusers_, weights_ : list of list
        Fitted models of each set and their shares; several in a mix.
    margins_ : array of shape (n_sets,)
        How much more often the chosen family was right.
    losses_ : dict of str to float
        Held-out log loss of every family on the rows in which all modalities are present.
    accuracies_ : array of shape (n_modalities,)
        Accuracy of every modality by itself.

    References
    ----------
    Breiman et al. (1984), Classification and regression trees, section 3.4.3. doi:10.1201/9781315139470

    Liang & Zeger (1986), Longitudinal data analysis using generalized linear models. doi:10.1093/biomet/73.1.13

    Examples
    --------
    A face that recognises the first label well and a voice that recognises the second:

    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=900)
    >>> L = rng.normal(size=(900, 2, 3))
    >>> L[np.arange(900), 0, y] += np.array([3.0, 0.0, 1.0])[y]
    >>> L[np.arange(900), 1, y] += np.array([0.0, 3.0, 1.0])[y]
    >>> P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    >>> AutoFusion().fit(P, y).choice
    'classwise'
    """

    def __init__(self, families: Sequence[str] | None = None, level: float = 0.01, folds: int = 5) -> None:
        self.families = families
        self.level = level
        self.folds = folds

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        n = len(self.sets_)
        return {
            "doubt_": number(0.0, 1.0),
            "temperatures_": numbers(m, low=LEAST),
            "sets_": flags(n, m),
            "chosen_": each(text, n),
            "fusers_": in_turn([each(fuser_over(m, k), len(fusers)) for fusers in self.fusers_]),
            "weights_": in_turn([each(number(0.0, 1.0), len(fusers)) for fusers in self.fusers_]),
            "margins_": numbers(n),
            "accuracies_": numbers(m, low=0.0, high=1.0),
            "losses_": facts,
        }

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn every modality's temperature and accuracy, then hold the contest for every set of modalities
        if not (0 < self.level < 1 and self.folds >= 2):
            raise ConfigError(f"level must be between 0 and 1 and folds at least 2; got {self.level} and {self.folds}")
        names = self._families()
        here = present(P)
        self.doubt_ = 1 / (len(y) + 2)
        self.temperatures_ = fit_temperatures(P, y)
        contest = _Contest(P, y, clusters_of(groups, len(y)), self.folds, self.level)
        self._judge_singles(contest, here)
        self._judge_sets(contest, names)

    def _judge_singles(self, contest: _Contest, here: Mask) -> None:
        """Whether each modality by itself is read better class by class; both ways are the bar for sets with it."""
        self._reset()
        for members in np.eye(here.shape[1], dtype=bool):
            found = contest.hold(members, ("classwise",), contest.right[:, members.argmax()])
            self._keep(contest, members, found)
            if found.name:
                judged = here[:, members.argmax()]
                contest.right[judged, members.argmax()] = found.hits
        self.accuracies_ = (contest.right.sum(axis=0) + 1) / (here.sum(axis=0) + 2)

    def _judge_sets(self, contest: _Contest, names: Sequence[str]) -> None:
        """Hold the contest for sets of several modalities, the largest first: its winner competes in the others."""
        self.losses_: dict[str, float] = {}
        sets = sets_of(contest.here)
        for members in sets[np.argsort(-sets.sum(axis=1), kind="stable")]:
            if members.sum() < 2:
                break
            found = contest.hold(members, names, contest.right[:, self._best_of(members)])
            if not self.losses_ and found.losses:
                self.losses_ = dict(found.losses)
                names = [name for name in names if name in _EVERY_SET or name == found.best]
            self._keep(contest, members, found)

    def _reset(self) -> None:
        self.sets_ = np.empty((0, self.n_modalities_), dtype=bool)
        self.chosen_: list[str] = []
        self.fusers_: list[list[Any]] = []
        self.weights_: list[list[float]] = []
        self.margins_ = np.empty(0)

    def _keep(self, contest: _Contest, members: Mask, found: _Verdict) -> None:
        shares = contest.shares(members, found.name) if found.name else {}
        self.sets_ = np.vstack([self.sets_, members])
        self.chosen_.append(found.name)
        self.fusers_.append([contest.fitted(members, family) for family in shares])
        self.weights_.append(list(shares.values()))
        self.margins_ = np.append(self.margins_, found.margin)

    def combine(self, P: Array, here: Mask) -> Array:
        # Answers (n, k) of the fuser or of the modality that each row's set of modalities calls for
        return self._combine(P, here, here)

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        # By the model that answers each whole row. Where one modality answers for all, the others change nothing, and
        # without it there is no answer: rows of NaN.
        check_fitted(self)
        P = np.asarray(P)
        kept = np.asarray(keep, dtype=bool)
        found = np.empty((len(P), len(self.classes_)))
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            found[rows] = self._combine(block, here, here & kept)
        return found

    @property
    def falls_back(self) -> bool:
        """Whether a row in which all modalities are present is answered by the best of them alone."""
        return self.choice is None

    @property
    def choice(self) -> str | None:
        """Family that answers a row in which all modalities are present; None where the best of them does."""
        number = self._number_of(np.ones(self.n_modalities_, dtype=bool))
        return None if number is None else self.chosen_[number] or None

    def describe_choice(self, modalities: Sequence[str]) -> str | None:
        return self.choice or f"only {modalities[int(np.argmax(self.accuracies_))]}"

    def _families(self) -> Sequence[str]:
        names = FAMILIES if self.families is None else tuple(self.families)
        unknown = [name for name in names if name not in _KNOWN]
        if unknown or not names:
            raise ConfigError(f"families must be among {', '.join(_KNOWN)}; got {', '.join(unknown) or 'none'}")
        return names

    def _combine(self, P: Array, whole: Mask, kept: Mask) -> Array:
        """Answers (n, k) by what each row's ``whole`` set (n, m) calls for, from the modalities ``kept`` (n, m)."""
        answers = np.full((len(P), P.shape[2]), np.nan)
        for members, found in patterns_of(whole):
            if not members.any():
                continue
            rows = slice(None) if len(found) == len(P) else found  # views instead of copies
            number = self._number_of(members)
            if number is None or not self.fusers_[number]:
                answers[rows] = self._alone(P[rows], kept[rows], self._best_of(members))
            else:
                answers[rows] = self._fused(P[rows], kept[rows], number)
        answers[~kept.any(axis=1)] = np.nan
        return answers

    def _fused(self, P: Array, kept: Mask, number: int) -> Array:
        P = P if kept.all() else np.where(kept[:, :, None], P, np.nan)
        parts = zip(self.weights_[number], self.fusers_[number], strict=True)
        answers = np.asarray(sum(weight * fuser.combine(P, kept) for weight, fuser in parts))
        answers *= 1 - self.doubt_
        answers += self.doubt_ / P.shape[2]
        answers[~kept.any(axis=1)] = np.nan
        return answers

    def _alone(self, P: Array, kept: Mask, modality: int) -> Array:
        """Answer (n, k) of ``modality`` alone to P (n, m, k); NaN where it is not ``kept``."""
        single = np.arange(P.shape[1]) == modality
        number = self._number_of(single)
        if number is not None and self.fusers_[number]:
            return self._fused(P, kept & single, number)
        calibrated = temperature_scale(P[:, [modality]], self.temperatures_[[modality]])[:, 0]
        calibrated = (1 - self.doubt_) * calibrated + self.doubt_ / P.shape[2]
        return np.where(kept[:, [modality]], calibrated, np.nan)

    def _number_of(self, members: Mask) -> int | None:
        found = np.flatnonzero((self.sets_ == members).all(axis=1))
        return int(found[0]) if len(found) else None

    def _best_of(self, members: Mask) -> int:
        return int(np.where(members, self.accuracies_, -1.0).argmax())


@dataclass(frozen=True)
class _Verdict:
    """Family that answers for a set ("" for its best modality), the ``best`` of the families, whether or not it is
    better than that modality, and how much more often it was right; log losses by name; whether the best was right.
    """

    name: str = ""
    best: str = ""
    margin: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)
    hits: Array = field(default_factory=lambda: np.empty(0))


class _Contest:
    """Held-out answers of families by set of modalities, and models fitted on all rows."""

    def __init__(self, P: Array, y: Columns, clusters: Columns, folds: int, level: float) -> None:
        self.P, self.y, self.clusters, self.level = P, y, clusters, level
        self.here = present(P)
        self.right = hits(P, y)  # what the families are held against: (n, m)
        self.folds = list(group_folds(clusters, folds)) if len(np.unique(clusters)) > 1 else []
        self._models: dict[tuple[Any, ...], Any] = {}
        self._shares: dict[bytes, dict[str, float]] = {}

    def hold(self, members: Mask, names: Sequence[str], single: Array) -> _Verdict:
        """The contest of families ``names`` for the set ``members`` (m,) against what is right by itself (n,)."""
        judged: Mask = np.asarray(self.here[:, members].all(axis=1))
        clusters = self.clusters[judged]
        if len(self.folds) < 2 or len(np.unique(clusters)) < 2:
            return _Verdict()
        tried = {name: self._held_out(members, judged, name) for name in names if name != "mix"}
        answers = {name: found for name, found in tried.items() if found is not None}
        if "mix" in names and len(answers) > 1:
            answers["mix"] = self._held_out_mix(members, judged, answers)
        if not answers:
            return _Verdict()
        y = self.y[judged]
        losses = {name: _losses(found, y) for name, found in answers.items()}
        best = _simplest(losses, names, clusters)
        hits = (answers[best].argmax(axis=1) == y) * 1.0
        gain = hits - single[judged]
        shown = better_by_more_than_chance(gain, clusters, self.level)
        means = {name: float(values.mean()) for name, values in losses.items()}
        return _Verdict(best if shown else "", best, float(gain.mean()), means, hits)

    def shares(self, members: Mask, name: str) -> dict[str, float]:
        """Weight of every family in the answer of ``name``: several in a mix, else itself alone."""
        if name != "mix":
            return {name: 1.0}
        kept = {family: share for family, share in self._shares[members.tobytes()].items() if share >= _LEAST_SHARE}
        total = sum(kept.values())
        return {family: share / total for family, share in kept.items()}

    def fitted(self, members: Mask, family: str) -> Any:
        """The family fitted on all rows of the set."""
        return self._fit(members, family, None)

    def _held_out(self, members: Mask, judged: Mask, name: str) -> Array | None:
        """Answers (judged, k) of models that have not seen a row's group; None where the family cannot be fitted."""
        found = np.empty((len(self.y), self.P.shape[2]))
        for fold, (_, held_out) in enumerate(self.folds):
            asked = held_out & judged
            if not asked.any():
                continue
            model = self._fit(members, name, fold)
            if model is None:
                return None
            found[asked] = model.predict_proba(np.where(members[:, None], self.P[asked], np.nan))
        return found[judged]

    def _fit(self, members: Mask, name: str, fold: int | None) -> Any:
        """A model of the family, learned on all folds but one; None where there is too little to learn from."""
        # One model of these serves every set.
        key = (name, fold) if name in _EVERY_SET else (name, fold, members.tobytes())
        if key not in self._models:
            P = self.P if name in _EVERY_SET else np.where(members[:, None], self.P, np.nan)
            usable = present(P).any(axis=1)
            if fold is not None:
                usable &= self.folds[fold][0]
            few = len(np.unique(self.y[usable])) < 2
            # What is only compared may choose its strengths from fewer folds.
            model = _make(name, 5 if fold is None else 3)
            made = None if few else model.fit(P[usable], self.y[usable], self.clusters[usable])
            self._models[key] = made
        return self._models[key]

    def _held_out_mix(self, members: Mask, judged: Mask, answers: Mapping[str, Array]) -> Array:
        """Answers (judged, k) of a mix whose weights, too, have not seen the row's group."""
        stacked = np.stack(list(answers.values()), axis=1)
        y = self.y[judged]
        found = np.empty((len(y), self.P.shape[2]))
        for learned, held_out in self.folds:
            weights = _mix_weights(stacked[learned[judged]], y[learned[judged]])
            found[held_out[judged]] = np.einsum("m,nmk->nk", weights, stacked[held_out[judged]])
        self._shares[members.tobytes()] = dict(zip(answers, _mix_weights(stacked, y), strict=True))
        return found


def _make(name: str, folds: int) -> Fuser:
    """An unfitted fuser of a family; ``folds`` are those by which it chooses its own strengths."""
    if name == "trees":
        from sklearn.ensemble import HistGradientBoostingClassifier

        trees = HistGradientBoostingClassifier(
            learning_rate=0.1, max_iter=60, max_leaf_nodes=8, l2_regularization=5.0, random_state=0
        )
        return Stacking(trees)
    makers: dict[str, Any] = {
        "pool": lambda: ClasswisePool(shrinkage=np.inf, folds=folds),
        "log_pool": CalibratedLogPool,
        "classwise": lambda: ClasswisePool(folds=folds),
        "gated": GatedFusion,
        "stacking": Stacking,
    }
    made: Fuser = makers[name]()
    return made


def _losses(P: Array, y: Columns) -> Array:
    return np.asarray(-np.log(np.maximum(P[np.arange(len(y)), y], _LEAST)))


def _simplest(losses: Mapping[str, Array], names: Sequence[str], clusters: Columns) -> str:
    """First of ``names`` whose loss is not above the least by more than a standard error."""
    best = min(losses.values(), key=lambda values: values.mean())
    for name in names:
        if name in losses:
            worse = losses[name] - best
            if worse.mean() <= max(clustered_error(worse, clusters), _IMMATERIAL) or not worse.any():
                return name
    raise AssertionError("the best family is not worse than itself")


def _mix_weights(P: Array, y: Columns, rounds: int = 200) -> Array:
    """Weights (f,) of answers P (n, f, k) that maximise the likelihood of their mean (EM, from even weights)."""
    likelihood = np.maximum(P[np.arange(len(y)), :, y], _LEAST)
    weights = np.full(P.shape[1], 1 / P.shape[1])
    for _ in range(rounds if len(y) else 0):
        joint = weights * likelihood
        weights = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
    return weights
