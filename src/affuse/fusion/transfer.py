"""A fitted fuser learns from a few labelled rows of a user, and stays as it was where they do not help."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import DataError
from affuse.fusion.adaptive import AdaptiveFuser, adapt_rows
from affuse.fusion.base import Array, Columns, Groups, Mask, check_probabilities, present
from affuse.fusion.estimator import Fuser
from affuse.fusion.named import NamedFuser
from affuse.fusion.relabel import partial_answer
from affuse.fusion.schema import Check, anything, fuser_over

__all__ = ["FEWEST", "ExtendedFuser", "Recalibrated", "Transfer", "transfer"]

FEWEST = 5
"""Labelled rows of each label below which what is learned of it is hardly more than chance."""

_FLOOR = 0.003  # least probability; larger than elsewhere, since labels correct experts that are certain and wrong
_FOLDS = 5
_KEPT_LOSS = 0.02  # nats by which the log loss must fall for the fuser to be changed at all


class ExtendedFuser(Fuser):
    """A fuser that reads the modalities and, as one more modality, the answer of a fitted fuser.

    What the fitted fuser knows is kept where own rows are few, and corrected class by class where they are many. Gaps:
    those of both fusers. Ties: those of ``head``.

    Parameters
    ----------
    base : Fuser
        Fitted; it does not learn.
    head : Fuser
        Not fitted; it learns from the modalities and the answer of ``base``.

    Attributes
    ----------
    head_ : Fuser
        The fitted head.

    Examples
    --------
    >>> from affuse.fusion import ProductRule, Stacking
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> P = rng.dirichlet([1, 1], size=(60, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> base = ProductRule().fit(P, y)
    >>> bool(ExtendedFuser(base, Stacking()).fit(P, y).score(P, y) > 0.9)
    True
    """

    def __init__(self, base: Any, head: Any) -> None:
        self.base = base
        self.head = head

    def __sklearn_clone__(self) -> ExtendedFuser:
        from sklearn.base import clone

        return ExtendedFuser(self.base, clone(self.head))

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"head_": fuser_over(m + 1, k)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Fit a clone of the head to the modalities and the answer of the base
        from sklearn.base import clone

        some = present(P).any(axis=1)
        own = None if groups is None else groups[some]
        self.head_ = clone(self.head).fit(self._extended(P[some]), y[some], own)
        self.prior_ = self.head_.prior_

    def combine(self, P: Array, here: Mask) -> Array:
        # The head's answer (n, k) to P (n, m, k) and the base's answer
        return np.asarray(self.head_.predict_proba(self._extended(P)))

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        # As `Fuser.partial_proba`; the base's answer is that to the modalities kept
        P, kept = np.asarray(P, dtype=float), np.asarray(keep, dtype=bool)
        answer = partial_answer(self.base, P, kept)
        masked = np.where(kept[:, None], P, np.nan)
        return np.asarray(self.head_.predict_proba(np.concatenate([masked, answer[:, None]], axis=1)))

    def _extended(self, P: Array) -> Array:
        return np.concatenate([P, np.asarray(self.base.predict_proba(P))[:, None]], axis=1)


class Recalibrated(Fuser):
    """A fitted fuser whose answers get one slope and one offset a label (vector scaling), for few labelled rows.

    Gaps and ties: those of the base.

    Parameters
    ----------
    base : Fuser
        Fitted; it does not learn.
    penalty : float
        Pull of the slopes towards 1 and of the offsets towards 0, in rows.

    Attributes
    ----------
    scaling_ : VectorScaling
        The fitted slopes and offsets.

    References
    ----------
    Guo et al. (2017), On calibration of modern neural networks. arXiv:1706.04599

    Examples
    --------
    >>> from affuse.fusion import ProductRule
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> P = rng.dirichlet([1, 1], size=(60, 2)) / 2 + np.eye(2)[y][:, None] / 2
    >>> bool(Recalibrated(ProductRule().fit(P, y)).fit(P, y).score(P, y) > 0.9)
    True
    """

    def __init__(self, base: Any, penalty: float = 5.0) -> None:
        self.base = base
        self.penalty = penalty

    def __sklearn_clone__(self) -> Recalibrated:
        return Recalibrated(self.base, self.penalty)

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"scaling_": anything}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Fit slopes and offsets to the base's answers
        from affuse.fusion.trust.calibration import VectorScaling

        some = present(P).any(axis=1)
        answers = np.asarray(self.base.predict_proba(P[some]))[:, None]
        self.scaling_ = VectorScaling(self.penalty).fit(answers, y[some])

    def combine(self, P: Array, here: Mask) -> Array:
        # The base's answer (n, k), scaled
        answers = np.asarray(self.base.predict_proba(P))
        return np.asarray(self.scaling_.transform(answers[:, None])[:, 0])

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        # The base's partial answer, scaled
        answers = partial_answer(self.base, np.asarray(P, dtype=float), np.asarray(keep, dtype=bool))
        return np.asarray(self.scaling_.transform(answers[:, None])[:, 0])


@dataclass(frozen=True)
class Transfer:
    """The result of `transfer`.

    Parameters
    ----------
    fuser : NamedFuser
        The fuser to use.
    chosen : str
        Its name among those tried; "unchanged" for the fuser as it was.
    facts : mapping
        What cross-validation found: by name, "accuracy" and "log_loss", with "adapted" for persons whose other rows are
        known; "chance", the log loss of an answer that is always the frequencies of the labels; "rows",
        "rows_by_label", "folds"; "gain" in accuracy; "per_doubling", the gain of twice as many rows.
    """

    fuser: NamedFuser
    chosen: str
    facts: Mapping[str, Any]


def transfer(
    base: NamedFuser,
    P: ArrayLike,
    y: ArrayLike,
    modalities: Sequence[str],
    persons: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Transfer:
    """Let a fitted fuser learn from labelled rows; unchanged unless cross-validation says that it becomes better.

    Tried are slopes and offsets of its answers (`Recalibrated`), and fusers that read the modalities beside its answer
    (`ExtendedFuser`): stacking, and the class-wise pool; with persons, made to adapt to them (`AdaptiveFuser`). Labels
    without a row are hardly ever answered by what is learned: their frequency is part of it.

    Parameters
    ----------
    base : NamedFuser
        The fuser to start from, over the labels of ``y``.
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; NaN where a modality is missing.
    y : array of int of shape (n_samples,)
        Columns of the right labels.
    modalities : sequence of str
        Names of the modalities of P.
    persons : array of shape (n_samples,), optional
        Who each row is about; what is learned must hold for other persons, so no person is on both sides of a fold.
    groups : array of shape (n_samples,), optional
        What else must not be split; the persons where None.

    Returns
    -------
    Transfer

    Raises
    ------
    DataError
        With fewer than two labels, or none of them `FEWEST` times; where no person can be left out without all labels
        but one; where shapes do not fit.

    Examples
    --------
    Two experts that take sadness for happiness and the other way round are corrected by 60 labelled rows:

    >>> from affuse.fusion import ProductRule
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=60)
    >>> P = (rng.dirichlet([1, 1], size=(60, 2)) + np.eye(2)[1 - y][:, None]) / 2
    >>> base = NamedFuser(ProductRule(np.ones(2)).fit(P, y), ("face", "voice"), ("happy", "sad"))
    >>> found = transfer(base, P, y, ("face", "voice"))
    >>> found.chosen != "unchanged", round(found.facts["gain"], 2)
    (True, 1.0)
    """
    P = check_probabilities(base.place(P, modalities))
    columns = _columns(y, *P.shape[::2])
    counts = np.bincount(columns, minlength=P.shape[2])
    _check(counts, base.labels)
    people, units = _names(persons, "persons", len(P)), _names(groups, "groups", len(P))
    units = people if units is None else units
    splits = _splits(columns, units)
    tried = _candidates(base.fuser, people)
    outcomes = {name: _cross_validated(make, P, columns, people, splits) for name, make in tried.items()}
    chance = _chance(columns)
    chosen = _choose(outcomes, chance)
    fitted = tried[chosen]().fit(P, columns, people)
    facts = {
        "rows": len(P),
        "rows_by_label": dict(zip(base.labels, counts.tolist(), strict=True)),
        "folds": len(splits),
        "chance": chance,
        "tried": {name: found.facts() for name, found in outcomes.items()},
        "gain": outcomes[chosen].accuracy - outcomes["unchanged"].accuracy,
        "per_doubling": _per_doubling(tried, outcomes, P, columns, people, splits),
    }
    if chosen == "unchanged":
        return Transfer(base, chosen, facts)
    notes = {key: value for key, value in base.notes.items() if key not in ("prior", "conflict_thresholds")}
    named = replace(base, fuser=fitted, method=chosen, notes=notes, sha256="")
    return Transfer(named, chosen, facts)


class _Unchanged(Fuser):
    """The base as it is, among fusers that are fitted."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        self.prior_ = np.asarray(self.base.prior_)

    def combine(self, P: Array, here: Mask) -> Array:
        return np.asarray(self.base.predict_proba(P))


@dataclass(frozen=True)
class _Outcome:
    P: Array
    y: Columns
    adapted: Array | None = None

    @property
    def accuracy(self) -> float:
        return float((self.P.argmax(axis=1) == self.y).mean())

    @property
    def log_loss(self) -> float:
        return _loss(self.P, self.y)

    @property
    def judged(self) -> float:
        """Log loss by which candidates are compared: that of the persons adapted to, where persons are known."""
        return self.log_loss if self.adapted is None else _loss(self.adapted, self.y)

    def facts(self) -> dict[str, float]:
        facts = {"accuracy": self.accuracy, "log_loss": self.log_loss}
        if self.adapted is not None:
            facts["adapted"] = float((self.adapted.argmax(axis=1) == self.y).mean())
        return facts


def _loss(P: Array, y: Columns) -> float:
    return float(-np.log(np.maximum(P[np.arange(len(y)), y], 1e-6)).mean())


Make = Callable[[], Any]


def _check(counts: Columns, labels: Sequence[str]) -> None:
    if (counts > 0).sum() < 2:
        raise DataError("adapting needs labelled rows of at least two emotions")
    if counts.max() < FEWEST:
        listed = ", ".join(f"{label} {n}" for label, n in zip(labels, counts.tolist(), strict=True) if n)
        raise DataError(f"adapting needs at least {FEWEST} rows of an emotion; got {listed}")


def _columns(y: ArrayLike, n: int, k: int) -> Columns:
    found = np.asarray(y)
    if found.shape != (n,):
        raise DataError(f"P has {n} rows, but y has the shape {found.shape}")
    if n and (found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= k):
        raise DataError(f"y must hold columns of P, from 0 to {k - 1}")
    return found.astype(np.intp)


def _names(names: ArrayLike | None, what: str, n: int) -> Groups:
    found = None if names is None else np.asarray(names)
    if found is not None and found.shape != (n,):
        raise DataError(f"P has {n} rows, but {what} has the shape {found.shape}")
    return found


def _candidates(base: Any, people: Groups) -> dict[str, Make]:
    from affuse.fusion.learned import Stacking
    from affuse.fusion.reliability import ClasswisePool

    def extended(head: Any) -> Any:
        fuser = ExtendedFuser(base, head)
        return fuser if people is None else AdaptiveFuser(fuser, _FLOOR)

    return {
        "unchanged": lambda: _Unchanged(base),
        "recalibrated": lambda: Recalibrated(base),
        "stacking": lambda: extended(Stacking()),
        "classwise": lambda: extended(ClasswisePool()),
    }


def _splits(y: Columns, units: Groups) -> list[tuple[Array, Array]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    count = 1 if units is None else len(np.unique(units))
    splitter: Any = StratifiedKFold(_FOLDS) if count == 1 else StratifiedGroupKFold(min(_FOLDS, count))
    with warnings.catch_warnings():  # a label of fewer rows than folds is left out of some folds, and that is all right
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splits = list(splitter.split(np.zeros(len(y)), y, None if count == 1 else units))
    splits = [(fit, test) for fit, test in splits if len(test) and len(np.unique(y[fit])) > 1]
    if not splits:
        raise DataError("whoever is left out, the others show one emotion only; label several emotions of every person")
    return splits


def _cross_validated(
    make: Make, P: Array, y: Columns, people: Groups, splits: Sequence[tuple[Array, Array]], share: float = 1.0
) -> _Outcome:
    answers, adapted, truth = [], [], []
    for fit, test in splits:
        kept = _thinned(fit, y, share)
        fuser = make().fit(P[kept], y[kept], None if people is None else people[kept])
        fallback = np.broadcast_to(fuser.prior_, (len(test), P.shape[2]))
        said = fuser.predict_proba(P[test])
        answers.append(np.where(np.isnan(said), fallback, said))
        truth.append(y[test])
        if people is not None and fuser.adapts:
            moved = adapt_rows(fuser, P[test], people[test], collection=True)
            adapted.append(np.where(np.isnan(moved), fallback, moved))
    return _Outcome(np.concatenate(answers), np.concatenate(truth), np.concatenate(adapted) if adapted else None)


def _thinned(rows: Array, y: Columns, share: float) -> Array:
    """A share of the rows of every label, spread evenly over them."""
    if share == 1:
        return rows
    parts = [rows[y[rows] == label] for label in np.unique(y[rows])]
    return np.sort(np.concatenate([part[:: round(1 / share)] for part in parts]))


def _chance(y: Columns) -> float:
    """Log loss in nats of answering every row by how frequent the labels are: the entropy of the labels."""
    shares = np.bincount(y)[np.unique(y)] / len(y)
    return float(-(shares * np.log(shares)).sum())


def _choose(outcomes: Mapping[str, _Outcome], chance: float) -> str:
    """The one of least log loss that is right at least as often as the fuser as it was; else that one.

    Those that can adapt to the persons of the rows are compared as they answer when they do. One that knows no more
    than how frequent the labels are has learned nothing but to be uncertain.
    """
    base = outcomes["unchanged"]
    bound = min(base.log_loss, chance) - _KEPT_LOSS
    better = {
        name: found.judged
        for name, found in outcomes.items()
        if found.accuracy >= base.accuracy and found.log_loss < bound
    }
    return min(better, key=lambda name: better[name]) if better else "unchanged"


def _per_doubling(
    tried: Mapping[str, Make],
    outcomes: Mapping[str, _Outcome],
    P: Array,
    y: Columns,
    people: Groups,
    splits: Sequence[tuple[Array, Array]],
) -> float:
    """What the best of the learners gained in accuracy when it got twice as many rows."""
    best = min((name for name in outcomes if name != "unchanged"), key=lambda name: outcomes[name].judged)
    half = _cross_validated(tried[best], P, y, people, splits, share=0.5)
    return outcomes[best].accuracy - half.accuracy
