"""Soft rules: conditions on evidence, words, persons and times, and the log-odds that they add where they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns, Mask
from affuse.fusion.priors.phrases import PhraseIndex, find_all, normalise

__all__ = ["Fired", "Rule", "RuleBook", "Windows"]


@dataclass(frozen=True)
class Rule:
    """Log-odds that are added to labels wherever all conditions hold; a condition that is empty or None always holds.

    Parameters
    ----------
    name : str
        What an explanation calls it.
    add : mapping of str to float
        Log-odds by label.
    label : tuple of str
        The evidence's most probable label is one of these.
    probability : mapping of str to float
        The evidence gives each of these labels at least this probability.
    any_words, all_words, no_words : tuple of str
        Words or phrases, of which at least one, every one or none was said, whether negated or not.
    person, context : tuple of str
        The window is about one of these persons, of one of these contexts.
    after, before : float, optional
        Seconds between which the window's middle lies.
    part : tuple of two float, optional
        The same in shares of the recording, 0 to 1.
    weight : float
        Factor of ``add``, which data may set: 0 switches the rule off.

    Examples
    --------
    >>> Rule("refund", {"anger": 0.7}, any_words=("refund",)).weight
    1.0
    """

    name: str
    add: Mapping[str, float]
    label: tuple[str, ...] = ()
    probability: Mapping[str, float] = field(default_factory=dict)
    any_words: tuple[str, ...] = ()
    all_words: tuple[str, ...] = ()
    no_words: tuple[str, ...] = ()
    person: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    after: float | None = None
    before: float | None = None
    part: tuple[float, float] | None = None
    weight: float = 1.0

    @property
    def words(self) -> tuple[str, ...]:
        """All words and phrases that it asks for."""
        return (*self.any_words, *self.all_words, *self.no_words)

    @property
    def needs(self) -> frozenset[str]:
        """What of `Windows` it looks at; with none of it the rule has no condition."""
        asked = {
            "words": self.words,
            "persons": self.person,
            "contexts": self.context,
            "evidence": self.label or self.probability,
            "times": self.after is not None or self.before is not None or self.part is not None,
            "durations": self.part is not None,
        }
        return frozenset(name for name, value in asked.items() if value)


@dataclass(frozen=True)
class Windows:
    """What is known of n windows of recordings; `Windows.of` makes it.

    Parameters
    ----------
    words : tuple of str
        What is said in each, "" for nothing.
    persons, contexts : tuple of str or None
        Whom each is about, and in which context.
    starts, ends, durations : array of shape (n_windows,)
        Seconds; NaN where unknown.
    evidence : array of shape (n_windows, n_classes), optional
        Class probabilities before rules.

    Examples
    --------
    >>> len(Windows.of(["I want a refund", ""], starts=[0.0, 5.0], ends=[5.0, 10.0]))
    2
    """

    words: tuple[str, ...]
    persons: tuple[str | None, ...]
    contexts: tuple[str | None, ...]
    starts: Array
    ends: Array
    durations: Array
    evidence: Array | None

    @classmethod
    def of(
        cls,
        words: Sequence[str | None],
        persons: Sequence[str | None] | str | None = None,
        starts: ArrayLike = np.nan,
        ends: ArrayLike = np.nan,
        contexts: Sequence[str | None] | str | None = None,
        evidence: ArrayLike | None = None,
        durations: ArrayLike = np.nan,
    ) -> Windows:
        """Windows from one value a window, or one for all.

        Parameters
        ----------
        words : sequence of str or None
            What is said in each.
        persons, contexts : sequence of str, str or None
            Whom each is about, and in which context.
        starts, ends : array of shape (n_windows,) or float
            Seconds.
        evidence : array of shape (n_windows, n_classes), optional
            Class probabilities before rules; rows of NaN where there are none.
        durations : array of shape (n_windows,) or float
            Length in seconds of the recording that each is from.

        Returns
        -------
        Windows

        Raises
        ------
        DataError
            If the numbers of windows differ.
        """
        n = len(words)
        P = None if evidence is None else np.asarray(evidence, dtype=float)
        if P is not None and (P.ndim != 2 or len(P) != n):
            raise DataError(f"the evidence must have {n} rows, one a window; got shape {P.shape}")
        return cls(
            tuple(text or "" for text in words),
            _names(persons, n, "persons"),
            _names(contexts, n, "contexts"),
            _numbers(starts, n, "starts"),
            _numbers(ends, n, "ends"),
            _numbers(durations, n, "durations"),
            P,
        )

    def __len__(self) -> int:
        return len(self.words)


def _names(given: Sequence[str | None] | str | None, n: int, what: str) -> tuple[str | None, ...]:
    if given is None or isinstance(given, str):
        return (given,) * n
    if len(given) != n:
        raise DataError(f"{what} must name {n} windows; got {len(given)}")
    return tuple(given)


def _numbers(given: ArrayLike, n: int, what: str) -> Array:
    values = np.asarray(given, dtype=float)
    if values.shape not in ((), (n,)):
        raise DataError(f"{what} must hold {n} numbers, one a window; got shape {values.shape}")
    return np.asarray(np.broadcast_to(values, n))


@dataclass(frozen=True)
class Fired:
    """Which entries of a prior hold in which windows, as pairs.

    Parameters
    ----------
    rows : array of int of shape (n_pairs,)
        Windows.
    entries : array of int of shape (n_pairs,)
        The entry that holds in each.
    shape : tuple of int
        Numbers of windows and entries.

    Examples
    --------
    >>> Fired.from_dense([[True, False], [True, True]]).rows
    array([0, 1, 1])
    """

    rows: Columns
    entries: Columns
    shape: tuple[int, int]

    @classmethod
    def from_dense(cls, features: ArrayLike) -> Fired:
        """From an array that is true where an entry holds.

        Parameters
        ----------
        features : array of shape (n_windows, n_entries)

        Returns
        -------
        Fired

        Raises
        ------
        DataError
            If it has not two dimensions.
        """
        dense = np.asarray(features, dtype=bool)
        if dense.ndim != 2:
            raise DataError(f"features must be of shape (n windows, r entries); got {dense.ndim} dimensions")
        rows, entries = np.nonzero(dense)
        return cls(rows, entries, (dense.shape[0], dense.shape[1]))

    def dense(self) -> Mask:
        """The same as an array.

        Returns
        -------
        array of bool of shape (n_windows, n_entries)
        """
        dense = np.zeros(self.shape, dtype=bool)
        dense[self.rows, self.entries] = True
        return dense


class RuleBook:
    """Finds out which of many rules hold in which of many windows.

    Parameters
    ----------
    rules : sequence of `Rule`
    labels : sequence of str
        In the order of the evidence's columns.
    """

    def __init__(self, rules: Sequence[Rule], labels: Sequence[str]) -> None:
        self.rules = tuple(rules)
        self.labels = tuple(labels)

    @cached_property
    def _phrases(self) -> dict[str, int]:
        """Phrases by how they are compared, each once however many rules ask for it."""
        phrases = (normalise(phrase) for rule in self.rules for phrase in rule.words)
        return {phrase: number for number, phrase in enumerate(dict.fromkeys(phrases))}

    @cached_property
    def _index(self) -> PhraseIndex:
        return PhraseIndex(tuple(self._phrases))

    def holding(self, windows: Windows) -> list[Columns]:
        """Rows of ``windows`` in which each rule holds, rising."""
        facts = _Facts(windows, self._said(windows.words), len(self.labels))
        return [self._rows(rule, facts) for rule in self.rules]

    def _said(self, texts: Sequence[str]) -> dict[str, Columns]:
        """Rows in which each phrase was said."""
        if not self._phrases:
            return {}
        rows, numbers = find_all(texts, self._index.held)
        order = np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], np.arange(1, len(self._phrases)))
        return dict(zip(self._phrases, np.split(rows[order], ends), strict=True))

    def _rows(self, rule: Rule, facts: _Facts) -> Columns:
        # Each condition looks only at the rows that those before left over; words, the rarest, come first.
        rows = facts.saying(rule)
        if rule.person:
            rows = rows[facts.persons.are(rule.person, rows)]
        if rule.context:
            rows = rows[facts.contexts.are(rule.context, rows)]
        if rule.label:
            rows = rows[np.isin(facts.winners[rows], [self.labels.index(label) for label in rule.label])]
        for label, least in rule.probability.items():
            rows = rows[facts.evidence[rows, self.labels.index(label)] >= least]
        return facts.within(rule, rows)


class _Facts:
    """What the conditions of rules ask of windows, worked out once for all rules."""

    def __init__(self, windows: Windows, said: Mapping[str, Columns], k: int) -> None:
        self._k = k
        self._windows = windows
        self._said = said
        self._all = np.arange(len(windows))
        self.persons = _Names(windows.persons)
        self.contexts = _Names(windows.contexts)

    @cached_property
    def evidence(self) -> Array:
        P = self._windows.evidence
        return np.full((len(self._windows), self._k), np.nan) if P is None else P

    @cached_property
    def winners(self) -> Columns:
        """Column of the most probable label, -1 without evidence."""
        return np.where(np.isnan(self.evidence).any(axis=1), -1, np.nan_to_num(self.evidence).argmax(axis=1))

    @cached_property
    def _middles(self) -> Array:
        return (self._windows.starts + self._windows.ends) / 2

    @cached_property
    def _shares(self) -> Array:
        durations = self._windows.durations
        return self._middles / np.where(durations > 0, durations, np.nan)

    def saying(self, rule: Rule) -> Columns:
        """Rows whose words the rule asks for."""
        rows = self._all
        if rule.any_words:
            rows = np.unique(np.concatenate([self._rows_with(phrase) for phrase in rule.any_words]))
        for phrase in rule.all_words:
            rows = np.intersect1d(rows, self._rows_with(phrase), assume_unique=True)
        for phrase in rule.no_words:
            rows = np.setdiff1d(rows, self._rows_with(phrase), assume_unique=True)
        return rows

    def _rows_with(self, phrase: str) -> Columns:
        return self._said[normalise(phrase)]

    def within(self, rule: Rule, rows: Columns) -> Columns:
        """Those of ``rows`` whose middle lies within the rule's times; none where times are unknown."""
        if rule.after is not None:
            rows = rows[self._middles[rows] >= rule.after]
        if rule.before is not None:
            rows = rows[self._middles[rows] < rule.before]
        if rule.part is not None:
            first, last = rule.part
            shares = self._shares[rows]
            rows = rows[(shares >= first) & ((shares < last) | (last == 1))]  # the end belongs to the last part
        return rows


class _Names:
    """A name or None for every window, kept as numbers, which compare faster than words."""

    def __init__(self, names: Sequence[str | None]) -> None:
        self._codes: dict[str, int] = {}
        code_of = {name: self._code(name) for name in dict.fromkeys(names)}
        self._column = np.array([code_of[name] for name in names], dtype=np.intp)

    def _code(self, name: str | None) -> int:
        return -1 if name is None else self._codes.setdefault(normalise(name), len(self._codes))

    def are(self, wanted: Sequence[str], rows: Columns) -> Mask:
        """Whether each of ``rows`` has one of the ``wanted`` names."""
        codes = [self._codes[key] for key in map(normalise, wanted) if key in self._codes]
        return np.isin(self._column[rows], codes)
