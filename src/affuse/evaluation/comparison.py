"""Every method on one protocol: accuracy with intervals and tests, missing and noisy modalities, confidence, time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError, DataError
from affuse.evaluation.formatting import measures_frame
from affuse.evaluation.intervals import cluster_bootstrap, fold_weights
from affuse.evaluation.metrics import confusion_matrix, expected_calibration_error, f1_of_true_labels, reliability
from affuse.evaluation.protocol import Fold, Protocol
from affuse.evaluation.significance import holm, mcnemar, paired_permutation
from affuse.fusion.base import present
from affuse.progress import Progress
from affuse.registry import one_or_more

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.predictions import Predictions

__all__ = [
    "ADAPTATIONS",
    "AUTO",
    "NOISE_LEVELS",
    "Comparison",
    "Outcome",
    "check_adaptation",
    "choice_of",
    "compare",
    "compare_fusers",
    "drop_at_random",
    "noisy",
]

AUTO = "auto"
"""Name of the fuser that chooses among the others."""

NOISE_LEVELS = (0.5, 1.0, 2.0, 4.0)
"""Standard deviations of the noise added to log-probabilities."""

HALF = 0.5
_FLOOR = 1e-6
_ALL_SUBSETS_UP_TO = 6

ADAPTATIONS = ("none", "person")
"""Ways to adapt fusers to persons, without their labels."""


@dataclass(frozen=True)
class Outcome:
    """What one method answered on all rows of a protocol, in the order of its folds.

    ``P`` (s, n, k) are the probabilities for each of s seeds, ``hits`` (s, n) whether the answer was right; under
    ``conditions`` lie the answers (n, k) of the first seed with modalities removed, missing at random or noisy.
    ``fit_seconds`` is the median of a fold, ``predict_seconds`` that of a thousand rows. ``chosen`` says what a method
    that chooses among others chose in each fold.
    """

    P: np.ndarray
    hits: np.ndarray
    conditions: Mapping[str, np.ndarray]
    fit_seconds: float
    predict_seconds: float
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Outcomes of single modalities and of fusers on the same rows; `compare` makes it.

    Parameters
    ----------
    protocol : Protocol
        What was learned on and tested on.
    single : mapping of str to Outcome
        Each modality by itself.
    methods : mapping of str to Outcome
        Fusers by name.
    auto : str
        Name of the automatic choice among the methods.

    Examples
    --------
    >>> from affuse.testing.tables import predictions
    >>> found = compare(predictions(), methods=["mean"], seeds=1)
    >>> found.best_single in found.single
    True
    """

    protocol: Protocol
    single: Mapping[str, Outcome]
    methods: Mapping[str, Outcome]
    auto: str

    def __repr__(self) -> str:
        told = {name: self._accuracy(outcome) for name, outcome in self.methods.items()}
        figures = ", ".join(f"{name} {told[name]:.4f}" for name in sorted(told, key=lambda name: -told[name]))
        only = f"only {self.best_single} {self._accuracy(self.single[self.best_single]):.4f}"
        return f"<Comparison of {self.protocol.name}, accuracy: {figures}; {only}>"

    @property
    def y(self) -> np.ndarray:
        """True columns (n,) of all test rows."""
        return np.concatenate([fold.test.y for fold in self.protocol.folds])

    @property
    def groups(self) -> np.ndarray:
        """Groups (n,) of all test rows."""
        return np.concatenate([fold.test.groups for fold in self.protocol.folds])

    @property
    def folds(self) -> np.ndarray:
        """Number of the part (n,), mostly a fold, of all test rows."""
        parts = [fold.part or fold.name for fold in self.protocol.folds]
        numbers = {part: i for i, part in enumerate(dict.fromkeys(parts))}
        sizes = [len(fold.test) for fold in self.protocol.folds]
        return np.repeat([numbers[part] for part in parts], sizes)

    @property
    def best_single(self) -> str:
        """The single modality with the highest accuracy on these very rows: known only after the fact."""
        return max(self.single, key=lambda name: self._accuracy(self.single[name]))

    def _accuracy(self, outcome: Outcome) -> float:
        """Mean over folds and seeds."""
        return float(outcome.hits.mean(axis=0) @ fold_weights(self.folds))

    def to_dict(self) -> dict[str, Any]:
        """All measures as JSON can hold them.

        Returns
        -------
        dict
            ``methods`` and ``single`` by name, and ``auto``. Accuracies are means over folds (and seeds), ``ci95`` is a
            bootstrap of whole groups; ``difference`` to the best single modality comes with a sign-flip test by group
            (``p``, and ``p_holm`` for the number of methods) and McNemar's (``p_mcnemar``).
        """
        single = {name: self._measures(outcome) for name, outcome in self.single.items()}
        best = self.best_single
        methods = {name: self._measures(o) | self._against(o, self.single[best]) for name, o in self.methods.items()}
        for name, p in zip(methods, holm([facts["p"] for facts in methods.values()]), strict=True):
            methods[name]["p_holm"] = p
        for facts in methods.values():
            facts |= {"best_single": best, "below_best_remaining": self._shortfalls(facts, single)}
        auto = methods[self.auto]
        chosen = sorted(set(self.methods[self.auto].chosen)) or [self.auto]
        return {
            "methods": methods,
            "single": single,
            "auto": {"method": " or ".join(chosen), "accuracy": auto["accuracy"], "ci95": auto["ci95"]},
        }

    def to_frame(self) -> pd.DataFrame:
        """The main measures as a table, best method first.

        Returns
        -------
        pandas.DataFrame
            One row a method and single modality ("only face"): accuracy with interval, difference to the best single
            modality, p-values, macro F1 and calibration error.
        """
        facts = self.to_dict()
        rows = {**facts["methods"], **{f"only {name}": own for name, own in facts["single"].items()}}
        return measures_frame(rows, ["accuracy", "low", "high", "difference", "p", "p_holm", "macro_f1", "ece"])

    def _measures(self, outcome: Outcome) -> dict[str, Any]:
        y, folds, groups = self.y, self.folds, self.groups
        weights = fold_weights(folds)
        hits = outcome.hits.mean(axis=0)
        confusion = confusion_matrix(y, outcome.P[0].argmax(axis=1), len(self.protocol.labels))
        conditions = {name: float((P.argmax(axis=1) == y) @ weights) for name, P in outcome.conditions.items()}
        return {
            "accuracy": float(hits @ weights),
            "ci95": list(cluster_bootstrap(hits, groups, weights)),
            "folds": [float(hits[folds == i].mean()) for i in range(folds.max() + 1)],
            "macro_f1": f1_of_true_labels(confusion),
            "ece": float(np.mean([expected_calibration_error(P, y) for P in outcome.P])),
            "fit_seconds": outcome.fit_seconds,
            "predict_seconds_per_1000": outcome.predict_seconds,
            "subsets": {k.removeprefix("only "): v for k, v in conditions.items() if k.startswith("only ")},
            "missing": self._by_number_missing(float(hits @ weights), conditions),
            "random_half": conditions.get("random half"),
            "noise": {k.removeprefix("noise "): v for k, v in conditions.items() if k.startswith("noise ")},
            "confidence_rise": self._confidence_rise(outcome),
            "confusion": confusion.tolist(),
            "reliability": reliability(outcome.P[0], y),
        }

    def _by_number_missing(self, whole: float, conditions: Mapping[str, float]) -> dict[str, float]:
        m = len(self.protocol.modalities)
        found = {"0": [whole]}
        for name, accuracy in conditions.items():
            if name.startswith("only "):
                found.setdefault(str(m - 1 - name.count("+")), []).append(accuracy)
        return {count: float(np.mean(values)) for count, values in sorted(found.items())}

    def _confidence_rise(self, outcome: Outcome) -> dict[str, float] | None:
        """Change of the top probability where one modality that spoke is removed and another still speaks."""
        P = np.concatenate([fold.test.P for fold in self.protocol.folds])
        here = present(P)
        changes = []
        for j, _ in enumerate(self.protocol.modalities):
            without = outcome.conditions.get(_name_of([m for i, m in enumerate(self.protocol.modalities) if i != j]))
            affected = here[:, j] & (here.sum(axis=1) > 1)
            if without is not None:
                changes.append(without[affected].max(axis=1) - outcome.P[0][affected].max(axis=1))
        change = np.concatenate(changes) if changes else np.empty(0)
        if len(change) == 0:
            return None
        return {"mean": float(change.mean()), "share": float((change > 1e-9).mean())}

    def _against(self, outcome: Outcome, reference: Outcome) -> dict[str, Any]:
        weights = fold_weights(self.folds)
        difference = outcome.hits.mean(axis=0) - reference.hits.mean(axis=0)
        return {
            "difference": float(difference @ weights),
            "difference_ci95": list(cluster_bootstrap(difference, self.groups, weights)),
            "p": paired_permutation(difference * weights, self.groups),
            "p_mcnemar": mcnemar(outcome.hits[0], reference.hits[0]),
        }

    def _shortfalls(self, facts: Mapping[str, Any], single: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """How far the method lies below the best modality that remains, by subset and with half of all missing."""
        bars = {subset: max(single[m]["accuracy"] for m in subset.split("+")) for subset in facts["subsets"]}
        gaps = {subset: bars[subset] - accuracy for subset, accuracy in facts["subsets"].items()}
        if facts["random_half"] is not None:
            gaps["random half"] = self._best_remaining_at_random(single) - facts["random_half"]
        return {name: gap for name, gap in gaps.items() if gap > 1e-12}

    def _best_remaining_at_random(self, single: Mapping[str, Mapping[str, Any]]) -> float:
        """Accuracy of each row's best modality that is left when half are missing; the ranking sees these very rows."""
        ranking = sorted(
            range(len(self.protocol.modalities)), key=lambda j: -single[self.protocol.modalities[j]]["accuracy"]
        )
        answers = []
        for fold in self.protocol.folds:
            P = drop_at_random(fold.test.P, HALF)
            answer = np.full(P[:, 0].shape, np.nan)
            for j in ranking:
                silent = np.isnan(answer).any(axis=1)
                answer[silent] = P[silent, j]
            answers.append(_filled(answer, _frequencies(fold)))
        hits = np.concatenate(answers).argmax(axis=1) == self.y
        return float(hits @ fold_weights(self.folds))


def compare(
    rows: Protocol | Predictions | str | Path,
    *,
    data: str | Path | None = None,
    split: str = "dev",
    folds: Sequence[int] | None = None,
    methods: str | Sequence[str] | None = None,
    group: str | None = None,
    id_column: str | None = None,
    seeds: int | Sequence[int] = 3,
    adapt: str = "none",
    progress: Progress | None = None,
) -> Comparison:
    """Compare ways to fuse on the same rows: no group on both sides, intervals, tests, missing modalities, noise.

    Parameters
    ----------
    rows : Protocol, Predictions, str or Path
        A protocol; predictions with true labels, which are cross-validated by group; the name of a known dataset of
        predictions (`affuse.evaluation.benchmarks.DATASETS`); or the path of a manifest, a CSV with the columns
        modality and path.
    data : str or Path, optional
        Folder that holds the known datasets; the variable AFFUSE_DATA by default.
    split : {"dev", "test"}
        What to report on, where a known dataset has splits.
    folds : sequence of int, optional
        Folds of a known dataset that has some; all by default.
    methods : str or sequence of str, optional
        Names of fusers (`affuse.fusion`); all by default. The automatic choice is always among them.
    group : str, optional
        Column of the true labels of a manifest that must not be split, such as the speaker.
    id_column : str, optional
        Column that names the rows of the files of a manifest.
    seeds : int or sequence of int
        Number of seeds, or seeds, of methods and folds that draw at random.
    adapt : {"none", "person"}
        With "person", groups are persons, and each one's shift is taken out without labels.
    progress : callable, optional
        Called with "methods" and the share that is done.

    Returns
    -------
    Comparison
        Its ``to_frame`` has a row a method, its ``to_dict`` all measures.

    Raises
    ------
    ConfigError
        If a dataset, split, method or adaptation is unknown.
    DataError
        If files are missing or do not fit.

    Examples
    --------
    >>> from affuse.testing.tables import predictions
    >>> found = compare(predictions(), methods=["mean", "product"], seeds=1)
    >>> sorted(found.methods)
    ['auto', 'mean', 'product']
    >>> round(found.to_dict()["methods"]["mean"]["accuracy"], 1) > 0.5
    True
    """
    from affuse.fusion import registry

    check_adaptation(adapt)
    names = registry.names() if methods is None else one_or_more(methods)
    fusers = {name: registry.make(name) for name in dict.fromkeys([*names, AUTO])}
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    protocol = _protocol(rows, data, split, folds, group, id_column, chosen)
    return compare_fusers(protocol, fusers, AUTO, chosen, progress, adapt == "person")


def check_adaptation(adapt: str) -> None:
    """Raise ConfigError for an adaptation that is none of `ADAPTATIONS`."""
    if adapt not in ADAPTATIONS:
        raise ConfigError(f"unknown adaptation {adapt!r}; known: {', '.join(ADAPTATIONS)}")


def _protocol(
    rows: Protocol | Predictions | str | Path,
    data: str | Path | None,
    split: str,
    folds: Sequence[int] | None,
    group: str | None,
    id_column: str | None,
    seeds: Sequence[int],
) -> Protocol:
    from affuse.evaluation import benchmarks

    if isinstance(rows, Protocol):
        return rows
    if isinstance(rows, str) and not Path(rows).suffix:
        return benchmarks.dataset_protocol(rows, data, folds, split, seeds)
    if isinstance(rows, str | Path):
        return benchmarks.manifest_protocol(Path(rows), id_column, group, seeds)
    return benchmarks.predictions_protocol(rows, seeds)


def compare_fusers(
    protocol: Protocol,
    methods: Mapping[str, Any],
    auto: str,
    seeds: Sequence[int] = (0,),
    progress: Progress | None = None,
    adapt: bool = False,
) -> Comparison:
    """Fit and test fusers on every fold of a protocol, and each modality by itself in the same way.

    Parameters
    ----------
    protocol : Protocol
        What is learned on and tested on.
    methods : mapping of str to estimator
        Unfitted fusers by name; one with a ``random_state`` runs once a seed.
    auto : str
        Name of the automatic choice, which must be among the methods.
    seeds : sequence of int
        Seeds of methods that draw at random.
    progress : callable, optional
        Called with "methods" and the share that is done.
    adapt : bool
        Whether groups are persons, and every method is wrapped in `AdaptiveFuser`, which answers each person's rows by
        a fuser for that person, without their labels.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError
        If ``auto`` is not among the methods, or a method cannot be fitted.

    Examples
    --------
    >>> from affuse.evaluation import PredictionData, Protocol, group_folds
    >>> from affuse.fusion import MeanRule
    >>> y = np.array([0, 1] * 6)
    >>> rows = PredictionData(np.stack([np.eye(2)[y], np.eye(2)[y]], axis=1), y, np.arange(12) // 2)
    >>> protocol = Protocol("toy", ("face", "voice"), ("sad", "glad"), group_folds(rows, 3))
    >>> compare_fusers(protocol, {"mean": MeanRule()}, "mean").to_dict()["auto"]["accuracy"]
    1.0
    """
    if auto not in methods:
        raise DataError(f"the automatic choice {auto!r} is not among the methods {', '.join(methods)}")
    if adapt:
        from affuse.fusion.adaptive import AdaptiveFuser

        methods = {name: AdaptiveFuser(method) for name, method in methods.items()}
    single = {name: _single(protocol, j) for j, name in enumerate(protocol.modalities)}
    outcomes = {}
    for number, (name, method) in enumerate(methods.items()):
        if progress is not None:
            progress("methods", number / len(methods))
        outcomes[name] = _outcome(protocol, name, method, seeds)
    return Comparison(protocol, single, outcomes, auto)


def _outcome(protocol: Protocol, name: str, method: Any, seeds: Sequence[int]) -> Outcome:
    runs = [_run(protocol, name, seeded, conditions=i == 0) for i, seeded in enumerate(_seeded(method, seeds))]
    P = np.stack([run.P[0] for run in runs])
    y = np.concatenate([fold.test.y for fold in protocol.folds])
    return Outcome(
        P=P,
        hits=P.argmax(axis=2) == y,
        conditions=runs[0].conditions,
        fit_seconds=float(np.mean([run.fit_seconds for run in runs])),
        predict_seconds=float(np.mean([run.predict_seconds for run in runs])),
        chosen=tuple(choice for run in runs for choice in run.chosen),
    )


def _seeded(method: Any, seeds: Sequence[int]) -> Iterator[Any]:
    """The method once a seed, or once altogether where no part of it draws at random."""
    from sklearn.base import clone

    random = [key for key in method.get_params(deep=True) if key.split("__")[-1] == "random_state"]
    for seed in seeds if random else [None]:
        yield clone(method).set_params(**dict.fromkeys(random, seed)) if random else clone(method)


def _run(protocol: Protocol, name: str, method: Any, conditions: bool) -> Outcome:
    from sklearn.base import clone

    answers: list[np.ndarray] = []
    disturbed: dict[str, list[np.ndarray]] = {}
    fit_seconds, predict_seconds, chosen = [], [], []
    for fold in protocol.folds:
        started = time.perf_counter()
        try:
            fuser = clone(method).fit(fold.train.P, fold.train.y, groups=fold.train.groups)
        except ValueError as error:
            raise DataError(f"{name} cannot be fitted on {protocol.name}, {fold.name}: {error}") from error
        fitted = time.perf_counter()
        prior = _frequencies(fold)
        answers.append(_filled(_answers_of(fuser, fold.test.P, fold.test.groups), prior))
        fit_seconds.append(fitted - started)
        predict_seconds.append((time.perf_counter() - fitted) / len(fold.test) * 1000)
        chosen.append(choice_of(fuser, protocol.modalities) or name)
        for key, P in _conditions(fold.test.P, protocol.modalities) if conditions else ():
            disturbed.setdefault(key, []).append(_filled(_answers_of(fuser, P, fold.test.groups), prior))
    P = np.concatenate(answers)
    y = np.concatenate([fold.test.y for fold in protocol.folds])
    return Outcome(
        P=P[None],
        hits=(P.argmax(axis=1) == y)[None],
        conditions={key: np.concatenate(parts) for key, parts in disturbed.items()},
        fit_seconds=float(np.median(fit_seconds)),  # a mean would be that of the first call, which loads libraries
        predict_seconds=float(np.median(predict_seconds)),
        chosen=tuple(chosen),
    )


def _answers_of(fuser: Any, P: np.ndarray, persons: np.ndarray) -> np.ndarray:
    from affuse.fusion.adaptive import AdaptiveFuser, adapt_rows

    return adapt_rows(fuser, P, persons) if isinstance(fuser, AdaptiveFuser) else fuser.predict_proba(P)


def choice_of(fuser: Any, modalities: Sequence[str]) -> str | None:
    """What a fitted fuser that chooses answers with where all modalities are present; None for other fusers."""
    from affuse.fusion.estimator import Fuser

    return fuser.describe_choice(modalities) if isinstance(fuser, Fuser) else None


def _single(protocol: Protocol, j: int) -> Outcome:
    """One modality by itself, with the most frequent label of the fitting rows where it has no evidence."""
    parts = [_filled(fold.test.P[:, j], _frequencies(fold)) for fold in protocol.folds]
    P = np.concatenate(parts)
    y = np.concatenate([fold.test.y for fold in protocol.folds])
    noise = {
        f"noise {level:g}": np.concatenate(
            [_filled(noisy(f.test.P, level)[:, j], _frequencies(f)) for f in protocol.folds]
        )
        for level in NOISE_LEVELS
    }
    return Outcome(P[None], (P.argmax(axis=1) == y)[None], noise, 0.0, 0.0)


def _conditions(P: np.ndarray, modalities: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    m = len(modalities)
    # All subsets double with every modality; of many, each alone and each left out say the most.
    sizes = range(1, m) if m <= _ALL_SUBSETS_UP_TO else (1, m - 1)
    for size in sizes:
        for kept in combinations(range(m), size):
            part = P.copy()
            part[:, [j for j in range(m) if j not in kept]] = np.nan
            yield _name_of([modalities[j] for j in kept]), part
    yield "random half", drop_at_random(P, HALF)
    for level in NOISE_LEVELS:
        yield f"noise {level:g}", noisy(P, level)


def _name_of(kept: Sequence[str]) -> str:
    return "only " + "+".join(kept)


def drop_at_random(P: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """P (n, m, k) with every modality of every row missing with probability ``share``; some rows lose all."""
    part = P.copy()
    part[np.random.default_rng(seed).random(P.shape[:2]) < share] = np.nan
    return part


def noisy(P: np.ndarray, level: float, seed: int = 0) -> np.ndarray:
    """P (n, m, k) with normal noise of standard deviation ``level`` on the log-probabilities, renormalised."""
    L = np.log(np.maximum(P, _FLOOR)) + level * np.random.default_rng(seed).normal(size=P.shape)
    E = np.exp(L - L.max(axis=2, keepdims=True))
    return np.asarray(E / E.sum(axis=2, keepdims=True))


def _frequencies(fold: Fold) -> np.ndarray:
    counts = np.bincount(fold.train.y, minlength=fold.train.P.shape[2]).astype(float)
    return np.asarray(counts / counts.sum())


def _filled(P: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Rows without evidence answered by the label frequencies, so that every method is judged on every row."""
    return np.where(np.isnan(P).any(axis=1, keepdims=True), prior, P)
