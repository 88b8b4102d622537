"""Prior knowledge: label frequencies, a lexicon, and soft rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array, Columns, softmax
from affuse.fusion.priors import files
from affuse.fusion.priors.frequencies import (
    DEFAULT_PRIOR,
    MELD_TRAIN,
    NAMES,
    check_frequencies,
    named_frequencies,
    reweight,
)
from affuse.fusion.priors.phrases import PhraseIndex, find_all
from affuse.fusion.priors.rules import Fired, Rule, RuleBook, Windows
from affuse.labels import EKMAN, recognise

__all__ = ["LEXICON_CAP", "Prior", "apply"]

LEXICON_CAP = 3.0
"""Log-odds that all words of one window together add to a label at most, either way."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Prior knowledge of an answer: label frequencies, and what words, persons and times add to log-probabilities.

    Parameters
    ----------
    labels : tuple of str
        In the order of the columns of P.
    frequencies : array of shape (n_classes,)
        Counts or shares; kept normalised.
    name : str
        What the answer calls it.
    contexts : mapping of str to array of shape (n_classes,)
        Frequencies that replace the others in a context.
    lexicon : mapping of str to mapping of str to float
        Log-odds by label, by word or phrase.
    rules : sequence of Rule
        Soft rules.
    weights : mapping of str to float
        Factors of words of the lexicon, 1 where there is none; `weigh` learns them from data.
    sha256 : str, optional
        Checksum of the file that it was read from.

    Raises
    ------
    ConfigError
        If something names another label, or is out of range.

    Examples
    --------
    >>> prior = Prior.named("dialogue")
    >>> prior.labels[prior.frequencies.argmax()]
    'neutral'
    >>> own = Prior(("sad", "glad"), [1, 3], "mine", lexicon={"hooray": {"glad": 1.5}})
    >>> own.frequencies, own.log_odds("Hooray, at last!")
    (array([0.25, 0.75]), array([0. , 1.5]))
    """

    labels: tuple[str, ...]
    frequencies: Array
    name: str
    contexts: Mapping[str, Array] = field(default_factory=dict)
    lexicon: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    sha256: str | None = None

    def __post_init__(self) -> None:
        k = len(self.labels)
        if k < 2 or len(set(self.labels)) < k:
            raise ConfigError(f"a prior needs at least 2 different labels; got {', '.join(self.labels) or 'none'}")
        frozen: dict[str, Any] = {"labels": tuple(self.labels), "rules": tuple(self.rules)}
        frozen["frequencies"] = _frozen(self.frequencies, k)
        frozen["contexts"] = {context: _frozen(values, k) for context, values in self.contexts.items()}
        for name, value in frozen.items():
            object.__setattr__(self, name, value)
        files.check_size(self.lexicon, self.rules)
        for word, adds in self.lexicon.items():
            _check_adds(f"lexicon.{word}", adds, self.labels)
        for rule in self.rules:
            _check_adds(f"the rule {rule.name!r}", rule.add, self.labels)
            _check_adds(f"the rule {rule.name!r}", dict.fromkeys((*rule.label, *rule.probability), 0.0), self.labels)

    @classmethod
    def named(cls, name: str, labels: Sequence[str] = EKMAN.labels) -> Prior:
        """The prior "uniform", "dialogue" (label frequencies of MELD) or "tempered", which lies between the two.

        Parameters
        ----------
        name : str
            One of `NAMES`.
        labels : sequence of str
            Labels of the answer.

        Returns
        -------
        Prior

        Raises
        ------
        ConfigError
            For another name, or labels that were not counted in dialogue.

        References
        ----------
        Poria et al. (2019), MELD. arXiv:1810.02508

        Examples
        --------
        >>> Prior.named("tempered").frequencies.round(2)
        array([0.15, 0.1 , 0.1 , 0.16, 0.13, 0.15, 0.21])
        """
        return cls(tuple(labels), named_frequencies(name, labels), name)

    @classmethod
    def read(cls, path: str | Path, labels: Sequence[str] = EKMAN.labels) -> Prior:
        """Read a TOML or JSON file; docs/priors.md describes it.

        Parameters
        ----------
        path : str or Path
        labels : sequence of str
            Labels of the answer.

        Returns
        -------
        Prior

        Raises
        ------
        ConfigError
            With the file and the key where something is unknown, missing or out of range.
        """
        values, sha256 = files.read(Path(path))
        try:
            return replace(cls.from_dict({"name": Path(path).stem, **values}, labels), sha256=sha256)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def find(cls, wanted: str | Path | Prior | None, labels: Sequence[str] = EKMAN.labels) -> Prior:
        """The prior that an option or argument ``prior`` means.

        Parameters
        ----------
        wanted : str, Path, Prior or None
            One of `NAMES`, a file, or a prior; None is the default.
        labels : sequence of str
            Labels of the answer.

        Returns
        -------
        Prior

        Raises
        ------
        ConfigError
            If it is none of these, or a prior over other labels.
        """
        if isinstance(wanted, Prior):
            if wanted.labels != tuple(labels):
                raise ConfigError(f"the prior is over {', '.join(wanted.labels)}; needed: {', '.join(labels)}")
            return wanted
        if wanted is None:
            return cls.named(_default(labels), labels)
        if str(wanted) in NAMES:
            return cls.named(str(wanted), labels)
        if not Path(wanted).is_file():
            raise ConfigError(f"the prior {str(wanted)!r} is neither a file nor one of {', '.join(NAMES)}")
        return cls.read(wanted, labels)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], labels: Sequence[str] = EKMAN.labels) -> Prior:
        """A prior from the values of a file, checked as by `read`.

        Parameters
        ----------
        values : mapping
        labels : sequence of str
            Labels of the answer.

        Returns
        -------
        Prior
        """
        fields = files.parse(values, labels)
        base = fields.pop("base", None) or _default(labels)
        if "frequencies" not in fields:
            fields["frequencies"] = named_frequencies(base, labels)
        return cls(tuple(labels), **{"name": base, **fields})

    def to_dict(self) -> dict[str, Any]:
        """The values of a file, as JSON can hold them; `from_dict` reads them.

        Returns
        -------
        dict
        """
        values: dict[str, Any] = {"name": self.name, "frequencies": self._by_label(self.frequencies)}
        if self.contexts:
            values["context"] = {c: {"frequencies": self._by_label(f)} for c, f in self.contexts.items()}
        if self.lexicon:
            values["lexicon"] = {word: dict(adds) for word, adds in self.lexicon.items()}
        if self.weights:
            values["weights"] = dict(self.weights)
        if self.rules:
            values["rules"] = [_rule_to_dict(rule) for rule in self.rules]
        return values

    def write(self, path: str | Path) -> None:
        """Write a JSON file that `read` reads, whole or not at all.

        Parameters
        ----------
        path : str or Path
            Its name ends in .json.

        Raises
        ------
        ConfigError
            If the name does not end in .json.
        OutputError
            If it cannot be written.
        """
        files.write(self.to_dict(), Path(path))

    def describe(self, context: str | None = None) -> dict[str, Any]:
        """Facts for the settings of an answer: name, frequencies, number of words and rules, checksum of the file.

        Parameters
        ----------
        context : str, optional
            Context of the recording.

        Returns
        -------
        dict
        """
        facts: dict[str, Any] = {
            "name": self.name,
            "frequencies": self._by_label(self.frequencies_in(context)),
            "lexicon": len(self.lexicon),
            "rules": len(self.rules),
        }
        if self.contexts:
            facts["context"] = context if context in self.contexts else None
        if self.sha256 is not None:
            facts["sha256"] = self.sha256
        return facts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prior):
            return NotImplemented
        return self.labels == other.labels and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.labels, self.name, len(self.lexicon), len(self.rules)))

    # --- frequencies --------------------------------------------------------------------------------------------------

    def frequencies_in(self, context: Sequence[str | None] | str | None) -> Array:
        """Label frequencies in a context.

        Parameters
        ----------
        context : str, None, or a sequence of them
            One context, or one a sample.

        Returns
        -------
        array of shape (n_classes,), or (n_samples, n_classes) for several contexts
            The general frequencies where the context is None or has none of its own.
        """
        if context is None or isinstance(context, str):
            return self.frequencies if context is None else self.contexts.get(context, self.frequencies)
        known = {one: self.frequencies_in(one) for one in set(context)}
        return np.array([known[one] for one in context]).reshape(len(context), len(self.labels))

    @property
    def known_contexts(self) -> tuple[str, ...]:
        """Contexts with frequencies of their own, and those that rules ask for."""
        return tuple(dict.fromkeys([*self.contexts, *(c for rule in self.rules for c in rule.context)]))

    def check_context(self, context: str | None) -> None:
        """Raise an error for a context that makes no difference, which is probably a typing error.

        Parameters
        ----------
        context : str or None

        Raises
        ------
        ConfigError
            If neither frequencies nor rules know the context.
        """
        known = self.known_contexts
        if context is not None and context not in known:
            choices = f"it knows {', '.join(known)}" if known else "it knows none"
            raise ConfigError(f"the prior {self.name!r} has no context {context!r}; {choices}")

    # --- lexicon and rules --------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[str, ...]:
        """Names of the r entries, in the order of `fires`: words of the lexicon, then rules."""
        return (*self.lexicon, *(rule.name for rule in self.rules))

    @property
    def needs(self) -> frozenset[str]:
        """Which of words, persons, contexts, evidence, times and durations its entries look at."""
        words = frozenset(["words"]) if self.lexicon else frozenset()
        return words.union(*(rule.needs for rule in self.rules))

    @cached_property
    def adds(self) -> Array:
        """Log-odds (r, k) of every entry at a weight of 1."""
        adds = np.zeros((len(self.lexicon) + len(self.rules), len(self.labels)))
        column = {label: k for k, label in enumerate(self.labels)}
        for row, entry in enumerate([*self.lexicon.values(), *(rule.add for rule in self.rules)]):
            for label, value in entry.items():
                adds[row, column[label]] = value
        return adds

    @cached_property
    def entry_weights(self) -> Array:
        """Weight (r,) of every entry."""
        words = [self.weights.get(word, 1.0) for word in self.lexicon]
        return np.array([*words, *(rule.weight for rule in self.rules)], dtype=float)

    @cached_property
    def _index(self) -> PhraseIndex:
        return PhraseIndex(tuple(self.lexicon))

    @cached_property
    def _book(self) -> RuleBook:
        return RuleBook(self.rules, self.labels)

    def fires(self, windows: Windows) -> Fired:
        """Which entries hold in which windows.

        Parameters
        ----------
        windows : Windows

        Returns
        -------
        Fired

        Raises
        ------
        DataError
            If the evidence has another number of classes.
        """
        if windows.evidence is not None and windows.evidence.shape[1] != len(self.labels):
            raise DataError(
                f"the prior has {len(self.labels)} labels; the evidence {windows.evidence.shape[1]} classes"
            )
        rows, entries = find_all(windows.words, self._index.meant) if self.lexicon else (_NONE, _NONE)
        holding = self._book.holding(windows) if self.rules else []
        rules = [np.full(len(held), len(self.lexicon) + i, dtype=np.intp) for i, held in enumerate(holding)]
        shape = (len(windows), len(self.lexicon) + len(self.rules))
        return Fired(np.concatenate([rows, *holding]), np.concatenate([entries, *rules]), shape)

    def log_odds_of(self, windows: Windows | Fired) -> Array:
        """What lexicon and rules add to the log-probabilities of many windows.

        Every word counts once a window, and all words together at most `LEXICON_CAP` a label.

        Parameters
        ----------
        windows : Windows or Fired

        Returns
        -------
        array of shape (n_windows, n_classes)
            Zeros where nothing holds.
        """
        fired = self.fires(windows) if isinstance(windows, Windows) else windows
        words = fired.entries < len(self.lexicon)
        said = np.clip(self._sum(fired, words), -LEXICON_CAP, LEXICON_CAP)
        return np.asarray(said + self._sum(fired, ~words))

    def _sum(self, fired: Fired, which: np.ndarray) -> Array:
        rows, entries = fired.rows[which], fired.entries[which]
        values = self.adds[entries] * self.entry_weights[entries, None]
        return np.stack([np.bincount(rows, column, fired.shape[0]) for column in values.T], axis=1)

    def log_odds(
        self,
        words: str = "",
        person: str | None = None,
        start: float = np.nan,
        end: float = np.nan,
        context: str | None = None,
        evidence: ArrayLike | None = None,
        duration: float = np.nan,
    ) -> Array:
        """What lexicon and rules add to the log-probabilities of one window; `log_odds_of` is for many.

        Parameters
        ----------
        words : str
            What is said in the window.
        person : str, optional
            Whom the window is about.
        start, end : float
            Seconds.
        context : str, optional
            Context of the recording.
        evidence : array of shape (n_classes,), optional
            Class probabilities before rules.
        duration : float
            Length of the recording in seconds.

        Returns
        -------
        array of shape (n_classes,)
        """
        return np.asarray(self.log_odds_of(_one(words, person, start, end, context, evidence, duration))[0])

    def explain(
        self,
        words: str = "",
        person: str | None = None,
        start: float = np.nan,
        end: float = np.nan,
        context: str | None = None,
        evidence: ArrayLike | None = None,
        duration: float = np.nan,
    ) -> list[str]:
        """The entries that hold in one window, as sentences; `explain_all` is for many.

        Parameters
        ----------
        words : str
            What is said in the window.
        person : str, optional
            Whom the window is about.
        start, end : float
            Seconds.
        context : str, optional
            Context of the recording.
        evidence : array of shape (n_classes,), optional
            Class probabilities before rules.
        duration : float
            Length of the recording in seconds.

        Returns
        -------
        list of str

        Examples
        --------
        >>> own = Prior(("sad", "glad"), [1, 3], "mine", lexicon={"hooray": {"glad": 1.5}})
        >>> own.explain("Hooray, at last!")
        ["'hooray' adds +1.5 to glad"]
        """
        return self.explain_all(_one(words, person, start, end, context, evidence, duration))[0]

    def explain_all(self, windows: Windows | Fired) -> list[list[str]]:
        """The entries that hold in every window, as sentences; those of weight 0 are left out.

        Parameters
        ----------
        windows : Windows or Fired

        Returns
        -------
        list of list of str
        """
        fired = self.fires(windows) if isinstance(windows, Windows) else windows
        notes: list[list[str]] = [[] for _ in range(fired.shape[0])]
        for row, entry in zip(fired.rows.tolist(), fired.entries.tolist(), strict=True):
            if sentence := self._sentence(entry):
                notes[row].append(sentence)
        for row, column in np.argwhere(np.abs(self._sum(fired, fired.entries < len(self.lexicon))) > LEXICON_CAP):
            notes[row].append(f"all words together count at most {LEXICON_CAP:g} for {self.labels[column]}")
        return notes

    def _sentence(self, entry: int) -> str:
        values = self.adds[entry] * self.entry_weights[entry]
        added = [f"{value:+.3g} to {label}" for label, value in zip(self.labels, values, strict=True) if value != 0]
        if not added:
            return ""
        words = tuple(self.lexicon)[entry : entry + 1]
        who = f"'{words[0]}'" if words else f"rule '{self.rules[entry - len(self.lexicon)].name}'"
        return f"{who} adds {' and '.join(added)}"

    def with_weights(self, weights: ArrayLike) -> Prior:
        """The same prior with new weights of its `entries`.

        Parameters
        ----------
        weights : array of shape (n_entries,)

        Returns
        -------
        Prior

        Raises
        ------
        ConfigError
            If their number differs, or one is negative or not finite.
        """
        w = np.asarray(weights, dtype=float)
        if w.shape != (len(self.entries),):
            raise ConfigError(f"expected {len(self.entries)} weights, one an entry; got shape {w.shape}")
        if not ((w >= 0) & (w <= files.MAX_WEIGHT)).all():  # not: refuses NaN as well
            raise ConfigError(f"weights must lie between 0 and {files.MAX_WEIGHT:g}; got {w.min():g} to {w.max():g}")
        words = {word: float(x) for word, x in zip(self.lexicon, w, strict=False) if x != 1}
        rules = [replace(r, weight=float(x)) for r, x in zip(self.rules, w[len(self.lexicon) :], strict=True)]
        return replace(self, weights=words, rules=tuple(rules), sha256=None)

    def _by_label(self, values: Array) -> dict[str, float]:
        return dict(zip(self.labels, values.tolist(), strict=True))


def apply(
    P: ArrayLike,
    old: ArrayLike,
    prior: Prior,
    log_odds: ArrayLike | None = None,
    contexts: Sequence[str | None] | str | None = None,
) -> Array:
    """Put class probabilities under a prior: its frequencies, then what its lexicon and rules add.

    ``q ∝ p · new / old · exp(log_odds)``

    Parameters
    ----------
    P : array of shape (n_samples, n_classes)
        Class probabilities under the frequencies ``old``; rows of NaN stay so.
    old : array of shape (n_classes,) or (n_samples, n_classes)
    prior : Prior
    log_odds : array of shape (n_samples, n_classes), optional
        From `Prior.log_odds_of`.
    contexts : sequence of str, or str, optional
        Where the prior has frequencies by context.

    Returns
    -------
    array of shape (n_samples, n_classes)

    Raises
    ------
    DataError
        If shapes differ.

    Examples
    --------
    >>> own = Prior(("sad", "glad"), [1, 3], "mine", lexicon={"alas": {"sad": 1.0986}})
    >>> apply([[0.5, 0.5]], [0.5, 0.5], own, own.log_odds_of(Windows.of(["alas"]))).round(3)
    array([[0.5, 0.5]])
    """
    Q = reweight(P, old, prior.frequencies_in(contexts))
    if log_odds is None:
        return Q
    added = np.asarray(log_odds, dtype=float)
    if added.shape != Q.shape:
        raise DataError(f"log-odds and probabilities need the same shape; got {added.shape} and {Q.shape}")
    with np.errstate(divide="ignore"):
        return softmax(np.log(Q) + added)


_NONE: Columns = np.zeros(0, dtype=np.intp)


def _one(
    words: str,
    person: str | None,
    start: float,
    end: float,
    context: str | None,
    evidence: ArrayLike | None,
    duration: float,
) -> Windows:
    P = None if evidence is None else np.asarray(evidence, dtype=float)[None]
    return Windows.of([words], person, start, end, context, P, duration)


def _default(labels: Sequence[str]) -> str:
    meant = [label if label in MELD_TRAIN else recognise(label) for label in labels]
    return DEFAULT_PRIOR if set(meant) <= set(MELD_TRAIN) and len(set(meant)) == len(meant) else "uniform"


def _frozen(values: ArrayLike, k: int) -> Array:
    f = check_frequencies(values, k)
    f.setflags(write=False)
    return f


def _check_adds(key: str, adds: Mapping[str, float], labels: Sequence[str]) -> None:
    for label, value in adds.items():
        if label not in labels:
            raise ConfigError(f"{key}: unknown label {label!r}; labels: {', '.join(labels)}")
        if not abs(value) <= files.MAX_LOG_ODDS:
            raise ConfigError(f"{key}.{label}: log-odds must lie within ±{files.MAX_LOG_ODDS:g}; got {value:g}")


def _rule_to_dict(rule: Rule) -> dict[str, Any]:
    words = {"any": rule.any_words, "all": rule.all_words, "none": rule.no_words}
    values: dict[str, Any] = {
        "name": rule.name,
        "label": list(rule.label),
        "probability": dict(rule.probability),
        "words": {how: list(phrases) for how, phrases in words.items() if phrases},
        "person": list(rule.person),
        "context": list(rule.context),
    }
    numbers = {"after": rule.after, "before": rule.before, "part": None if rule.part is None else list(rule.part)}
    values = {key: value for key, value in values.items() if value}
    values |= {key: value for key, value in numbers.items() if value is not None}
    values["add"] = dict(rule.add)
    return values if rule.weight == 1 else {**values, "weight": rule.weight}
