"""Adaptation of any fuser to persons: their shift in log-probability is removed before it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, check_probabilities, present
from affuse.fusion.effects import RandomEffectsFusion, check_unit, counts_of, trust
from affuse.fusion.estimator import Fuser, check_fitted
from affuse.fusion.schema import Check, facts, fuser_over, number, numbers

__all__ = ["AdaptiveFuser", "adapt_rows"]


class AdaptiveFuser(Fuser):
    """Any fuser, with an adaptation to persons: their shift in log-probability is removed before it answers.

    `fit` learns the fuser twice: from the rows as they are, and from rows whose persons' shifts (known from the labels,
    see `RandomEffectsFusion`) are removed from the log-probabilities. By itself it answers like the first. `adapt`
    estimates the shift of a new person from rows without labels. The answer then is the mean of both fusers, ``(1 - t)
    · plain + t · freed``, with t from 0 to 1: how far the rows determine the shift. Gaps and ties: those of the fuser.

    Parameters
    ----------
    fuser : Fuser, optional
        The fuser to adapt, not fitted; `AutoFusion` where None.
    floor : float
        Least probability; smaller ones count as this.

    Attributes
    ----------
    effects_ : RandomEffectsFusion
        The distribution of persons' shifts.
    plain_, freed_ : Fuser
        The two fitted fusers: on rows as they are, and on rows freed of the shifts.
    shift_ : array of shape (n_modalities * (n_classes - 1),)
        Shift of the person, 0 before `adapt`.
    trust_ : float
        Weight t of the second fuser, 0 before `adapt`.
    adapted_ : dict
        Facts about what `adapt` found, empty before.

    References
    ----------
    Laird & Ware (1982), Random-effects models for longitudinal data. doi:10.2307/2529876

    Examples
    --------
    >>> from affuse.fusion import MeanRule
    >>> rng = np.random.default_rng(0)
    >>> y, person = rng.integers(2, size=300), np.repeat(np.arange(10), 30)
    >>> L = rng.normal(size=(300, 1, 2)) + 2 * np.eye(2)[y][:, None] + rng.normal(size=(10, 1, 2))[person]
    >>> P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    >>> fuser = AdaptiveFuser(MeanRule()).fit(P, y, groups=person)
    >>> adapted = adapt_rows(fuser, P, person).argmax(axis=1)
    >>> bool((adapted == y).mean() > (fuser.predict(P) == y).mean())
    True
    """

    adapts = True

    def __init__(self, fuser: Any = None, floor: float = 0.01) -> None:
        self.fuser = fuser
        self.floor = floor

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {
            **dict.fromkeys(("effects_", "plain_", "freed_"), fuser_over(m, k)),
            "shift_": numbers(m * (k - 1)),
            "trust_": number(0.0, 1.0),
            "adapted_": facts,
        }

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Learn the random effects of persons (``groups``), and the fuser with and without them
        if groups is None:
            raise DataError("adapting to persons is learned from persons; give groups, the person of every row")
        self.effects_ = RandomEffectsFusion(floor=min(self.floor, 0.5 / P.shape[2])).fit(P, y, groups)
        freed = P.copy()
        for person in np.unique(groups):
            rows = (groups == person) & present(P).any(axis=1)
            if rows.any():
                freed[rows] = self.effects_.move(P[rows], self.effects_.labelled_shift(P[rows], y[rows]))
        self.plain_ = self._model().fit(P, y, groups)
        self.freed_ = self._model().fit(freed, y, groups)
        self.shift_, self.trust_ = np.zeros(len(self.effects_.shift_)), 0.0
        self.adapted_: dict[str, Any] = {}

    def combine(self, P: Array, here: Mask) -> Array:
        # Mean (n, k) of both fusers' answers, by trust
        plain = self.plain_.combine(P, here)
        if self.trust_ == 0:
            return np.asarray(plain)
        freed = self.freed_.combine(self.effects_.move(P, self.shift_), here)
        return np.asarray((1 - self.trust_) * plain + self.trust_ * freed)

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        # As `Fuser.partial_proba`: both fusers keep the models that answer the whole rows
        plain = self.plain_.partial_proba(P, keep)
        if self.trust_ == 0:
            return np.asarray(plain)
        moved = self.effects_.move(np.asarray(P, dtype=float), self.shift_)
        return np.asarray((1 - self.trust_) * plain + self.trust_ * self.freed_.partial_proba(moved, keep))

    def describe_choice(self, modalities: Sequence[str]) -> str | None:
        return self.plain_.describe_choice(modalities) if isinstance(self.plain_, Fuser) else None

    def adapt(self, P: ArrayLike, weights: ArrayLike | None = None, of: str = "person") -> Self:
        """The fuser for one person, from rows without labels; see `RandomEffectsFusion.adapt`.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            The person's rows.
        weights : array of shape (n_samples,), optional
            How many independent rows each counts for; 1 where None.
        of : {"person", "member", "collection"}
            What the rows are of. With "collection" nothing changes: what persons share is in the fuser already.

        Returns
        -------
        AdaptiveFuser
            A copy, for these rows.

        Raises
        ------
        DataError
            If shapes do not fit.
        ConfigError
            If ``of`` is unknown.
        """
        check_fitted(self)
        P = check_probabilities(P, self.n_modalities_, len(self.classes_))
        some, counts = present(P).any(axis=1), counts_of(weights, len(P))
        check_unit(of)
        other = copy(self)
        if of == "collection":  # what persons share is in the fuser already: it was learned from this source
            other.adapted_ = {"n": int(some.sum()), "trust": 0.0, "known": 0.0}
            return other
        answers = self.plain_.predict_proba(P[some])
        other.trust_ = trust(answers, counts[some], self.prior_, of)
        other.adapted_ = {"n": int(some.sum()), "trust": other.trust_, "known": 0.0}
        if other.trust_ > 0:
            found = self.effects_.shifted(P[some], counts[some], 1.0)
            other.shift_ = found.shift_
            other.adapted_["known"] = other.trust_ * found.adapted_["known"]
        return other

    def _model(self) -> Any:
        from sklearn.base import clone

        from affuse.fusion.trust.auto import AutoFusion

        return AutoFusion() if self.fuser is None else clone(self.fuser)


def adapt_rows(
    fuser: Any, P: ArrayLike, persons: ArrayLike, weights: ArrayLike | None = None, collection: bool = False
) -> Array:
    """Answers of a fuser that adapts, each person's rows by the fuser for that person.

    Parameters
    ----------
    fuser : Fuser
        Fitted; its attribute ``adapts`` is True.
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; NaN where a modality is missing.
    persons : array of shape (n_samples,)
        Whom each row is about.
    weights : array of shape (n_samples,), optional
        How many independent rows each counts for; 1 where None.
    collection : bool
        Whether to adapt first to what all rows share, whose labels are known to be mixed.

    Returns
    -------
    array of shape (n_samples, n_classes)

    Raises
    ------
    DataError
        If the fuser does not adapt, or shapes do not fit.

    Examples
    --------
    >>> from affuse.fusion import RandomEffectsFusion
    >>> rng = np.random.default_rng(0)
    >>> y, person = rng.integers(2, size=300), np.repeat(np.arange(10), 30)
    >>> L = rng.normal(size=(300, 1, 2)) + 2 * np.eye(2)[y][:, None] + rng.normal(size=(10, 1, 2))[person]
    >>> P = np.exp(L) / np.exp(L).sum(axis=2, keepdims=True)
    >>> fuser = RandomEffectsFusion().fit(P, y, groups=person)
    >>> adapt_rows(fuser, P, person).shape
    (300, 2)
    """
    if not getattr(fuser, "adapts", False):
        raise DataError(f"{type(fuser).__name__} does not adapt to persons; wrap it: AdaptiveFuser({fuser!r})")
    P, persons = np.asarray(P, dtype=float), np.asarray(persons)
    if persons.shape != (len(P),):
        raise DataError(f"P has {len(P)} rows, but persons has the shape {persons.shape}")
    counts = counts_of(weights, len(P))
    shared = fuser.adapt(P, counts * design_effect(persons), of="collection") if collection else fuser
    member = "member" if collection else "person"
    answers = np.full((len(P), P.shape[2]), np.nan)
    for person in np.unique(persons):
        rows = persons == person
        answers[rows] = shared.adapt(P[rows], counts[rows], of=member).predict_proba(P[rows])
    return answers


def design_effect(persons: Array, correlation: float = 0.2) -> Array:
    """How many independent rows each row stands for, where rows of one person are alike.

    Parameters
    ----------
    persons : array of shape (n_samples,)
    correlation : float
        Correlation of two rows of one person.

    Returns
    -------
    array of shape (n_samples,)

    References
    ----------
    Kish (1965), Survey sampling. Wiley

    Examples
    --------
    >>> design_effect(np.array(["a", "a", "b"])).round(2)
    array([0.83, 0.83, 1.  ])
    """
    _, index, counts = np.unique(persons, return_inverse=True, return_counts=True)
    return np.asarray(1 / (1 + (counts[index] - 1) * correlation))
