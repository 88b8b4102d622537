"""Which way to fuse, and with which settings? A search by Optuna that can be stopped and taken up again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError, DataError, MissingExtraError
from affuse.evaluation.comparison import AUTO
from affuse.evaluation.prediction_files import read_tables
from affuse.evaluation.protocol import group_folds, rows_of
from affuse.evaluation.search_spaces import METRICS, SPACES
from affuse.fusion import registry
from affuse.progress import Progress
from affuse.registry import one_or_more

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.predictions import Predictions
    from affuse.evaluation.protocol import Fold
    from affuse.fusion.named import NamedFuser

__all__ = ["Search", "TuningResult", "open_study", "optuna_library", "tune"]


@dataclass(frozen=True)
class Search:
    """What is searched: folds, metric, methods and seed, and the number of modalities that weights are needed for."""

    folds: tuple[Fold, ...]
    metric: str
    methods: tuple[str, ...]
    seed: int
    n_modalities: int

    @property
    def fixed(self) -> tuple[str, ...]:
        """Methods without settings: one trial says all about them."""
        return tuple(name for name in self.methods if name not in SPACES)

    @property
    def adjustable(self) -> tuple[str, ...]:
        """Methods with settings, among which trials are drawn."""
        return tuple(name for name in self.methods if name in SPACES)

    def suggest(self, trial: Any) -> Any:
        """The unfitted fuser that a trial of Optuna asks for."""
        method = trial.suggest_categorical("method", self.adjustable)
        return registry.make(method, **SPACES[method](trial, self.n_modalities, self.seed))

    def score(self, fuser: Any, fold: Fold) -> float:
        """The metric on one fold's test rows."""
        from sklearn.base import clone

        fitted = clone(fuser).fit(fold.train.P, fold.train.y, groups=fold.train.groups)
        P = fitted.predict_proba(fold.test.P)
        frequencies = np.bincount(fold.train.y, minlength=P.shape[1]) / len(fold.train)
        return METRICS[self.metric](np.where(np.isnan(P), frequencies, P), fold.test.y)

    @property
    def fingerprint(self) -> str:
        """Changes with rows, folds, metric and methods, whose scores must not meet in one study."""
        digest = hashlib.sha256(" ".join([self.metric, *self.methods]).encode())
        for fold in self.folds:
            for array in (fold.test.P, fold.test.y):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class TuningResult:
    """Trials of a search over ways to fuse; `tune` makes it.

    Parameters
    ----------
    search : Search
        What was searched.
    study : optuna.Study
        All trials.
    predictions : Predictions
        The rows, on which `fit` learns.

    Examples
    --------
    >>> from affuse.testing.tables import predictions
    >>> found = tune(predictions(), methods=["mean", "product"], trials=2)
    >>> sorted(found.to_frame()["method"])
    ['mean', 'product']
    """

    search: Search
    study: Any
    predictions: Predictions

    def __repr__(self) -> str:
        best = "".join(f"; best: {_method_of(trial)} {trial.value:.4f}" for trial in self._completed()[:1])
        return f"<TuningResult of {len(self.study.trials)} trials by {self.search.metric}{best}>"

    def to_dict(self) -> dict[str, Any]:
        """The best trials, how many there were, and what every method reaches untuned on the same folds.

        Returns
        -------
        dict
            ``metric``, ``folds``, ``rows``, ``trials`` by state, ``best``, ``best_trials`` (best first) and
            ``untuned``.

        Raises
        ------
        DataError
            If no trial was completed.
        """
        search = self.search
        states = [trial.state.name.lower() for trial in self.study.trials]
        done = self._completed()
        if not done:
            raise DataError("no trial was completed; every method failed on these rows")
        return {
            "metric": search.metric,
            "folds": len(search.folds),
            "rows": sum(len(fold.test) for fold in search.folds),
            "trials": {state: states.count(state) for state in sorted(set(states))},
            "best": _facts(done[0]),
            "best_trials": [_facts(trial) for trial in done],
            "untuned": {name: _untuned(search, name) for name in search.methods},
        }

    def to_frame(self) -> pd.DataFrame:
        """The completed trials, best first.

        Returns
        -------
        pandas.DataFrame
            One row a trial: number, method, score and its settings.
        """
        import pandas as pd

        rows = [_facts(trial) for trial in self._completed()]
        return pd.DataFrame(
            [{"number": r["number"], "method": r["method"], "score": r["score"], **r["parameters"]} for r in rows]
        )

    def fit(self) -> NamedFuser:
        """The best fuser, fitted on all rows, with the names of its modalities and labels.

        Returns
        -------
        NamedFuser
        """
        from affuse.fusion.named import NamedFuser

        best, labelled = self.study.best_trial, self.predictions.labelled
        method = _method_of(best)
        fixed = optuna_library().trial.FixedTrial(best.params)
        fuser = registry.make(method) if method in self.search.fixed else self.search.suggest(fixed)
        fitted = fuser.fit(labelled.P, labelled.targets, groups=labelled.groups)
        return NamedFuser(fitted, self.predictions.modalities, self.predictions.labels, method)

    def _completed(self) -> list[Any]:
        done = [t for t in self.study.trials if t.state.name == "COMPLETE"]
        sign = -1 if self.search.metric == "accuracy" else 1
        return sorted(done, key=lambda trial: sign * trial.value)  # of equal ones the first, as Optuna has it


def tune(
    predictions: Predictions | str | Path | Sequence[str | Path],
    labels: str | Path | None = None,
    *,
    study: str | Path | None = None,
    trials: int = 50,
    folds: int = 5,
    metric: str = "accuracy",
    methods: str | Sequence[str] | None = None,
    seed: int = 0,
    group: str | None = None,
    id_column: str | None = None,
    logits: bool = False,
    label_map: str | Path | None = None,
    progress: Progress | None = None,
) -> TuningResult:
    """Search ways to fuse and their settings by group-wise cross-validation; poor trials stop early.

    Parameters
    ----------
    predictions : Predictions, or sequence of str or Path
        Predictions with true labels, or their files: one CSV, TSV or Parquet table a modality.
    labels : str or Path, optional
        Table of true labels by id, with files.
    study : str or Path, optional
        SQLite file of the study; one that is there is continued. In memory by default.
    trials : int
        Number of trials to add.
    folds : int
        Number of folds.
    metric : {"accuracy", "log_loss"}
        What is searched for.
    methods : str or sequence of str, optional
        Names of fusers; by default all but the automatic choice.
    seed : int
        Seed of the search and of what methods draw at random.
    group, id_column, logits, label_map
        How files are read, as in `affuse.fuse_tables`.
    progress : callable, optional
        Called with "trials" and the share that is done.

    Returns
    -------
    TuningResult
        Its ``to_frame`` has a row a trial; its ``fit`` learns the best one from all rows.

    Raises
    ------
    ConfigError
        If a method or metric is unknown, or the study was made for something else.
    DataError
        If files do not fit, or no row has a true label.

    Examples
    --------
    >>> from affuse.testing.tables import predictions
    >>> found = tune(predictions(), methods=["mean", "log_pool"], trials=3, folds=3)
    >>> sorted(found.to_dict()["untuned"])
    ['log_pool', 'mean']
    >>> found.fit().modalities
    ('face', 'voice')
    """
    optuna = optuna_library()
    every = (name for name in registry.names() if name != AUTO)
    names = tuple(dict.fromkeys(every if methods is None else one_or_more(methods)))
    for name in names:
        registry.make(name)
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    if isinstance(predictions, Sequence | Path):
        how: dict[str, Any] = {"group": group, "id_column": id_column, "logits": logits, "label_map": label_map}
        predictions = read_tables(one_or_more(predictions), labels, **how)
    parts = group_folds(rows_of(predictions), folds)
    search = Search(parts, metric, names, seed, len(predictions.modalities))
    found = _run(optuna, search, None if study is None else Path(study), trials, progress)
    return TuningResult(search, found, predictions)


def _run(optuna: Any, search: Search, path: Path | None, trials: int, progress: Progress | None) -> Any:
    """Add ``trials`` to the study at ``path``. Raises ConfigError where it was made for something else."""
    direction = "minimize" if search.metric == "log_loss" else "maximize"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=10, n_warmup_steps=1)
    study = open_study(optuna, path, direction, pruner, search.fingerprint, "other rows, folds, metric or methods")
    if not study.trials:
        # Each method has its turn before the sampler, which is quick to settle, has its say.
        for name in search.fixed:
            study.enqueue_trial({}, user_attrs={"rule": name})
        for name in search.adjustable:
            study.enqueue_trial({"method": name})
    # A study that is continued must not draw again what it drew before.
    startup = max(10, len(search.fixed) + 3 * len(search.adjustable))
    study.sampler = optuna.samplers.TPESampler(seed=search.seed + len(study.trials), n_startup_trials=startup)
    waiting = len(study.get_trials(states=[optuna.trial.TrialState.WAITING]))
    count = trials if search.adjustable else min(trials, waiting)
    before = len(study.trials) - waiting

    def report(study: Any, trial: Any) -> None:
        if progress is not None:
            progress("trials", min(1.0, (trial.number + 1 - before) / count))

    if count:
        study.optimize(_objective(optuna, search), n_trials=count, catch=(DataError,), callbacks=[report])
    return study


def _objective(optuna: Any, search: Search) -> Callable[[Any], float]:
    def objective(trial: Any) -> float:
        rule = trial.user_attrs.get("rule")
        fuser = registry.make(rule) if rule else search.suggest(trial)
        scores: list[float] = []
        for number, fold in enumerate(search.folds):
            scores.append(search.score(fuser, fold))
            trial.report(float(np.mean(scores)), number)
            if number < len(search.folds) - 1 and trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr("folds", scores)
        return float(np.mean(scores))

    return objective


def _facts(trial: Any) -> dict[str, Any]:
    parameters: Mapping[str, Any] = {key: value for key, value in trial.params.items() if key != "method"}
    return {
        "number": trial.number,
        "method": _method_of(trial),
        "parameters": parameters,
        "score": trial.value,
        "folds": trial.user_attrs["folds"],
    }


def _method_of(trial: Any) -> str:
    return str(trial.user_attrs.get("rule") or trial.params["method"])


def _untuned(search: Search, name: str) -> float:
    return float(np.mean([search.score(registry.make(name), fold) for fold in search.folds]))


def optuna_library() -> Any:
    """Optuna, without its messages. Raises MissingExtraError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_study(optuna: Any, path: Path | None, direction: str, pruner: Any, fingerprint: str, others: str) -> Any:
    """The study at ``path``, a new one where there is none; in memory without a path.

    Raises ConfigError where it is no study, or one of ``others``: it has another ``fingerprint``.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if path is None:
        return optuna.create_study(direction=direction, pruner=pruner)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path.resolve()}",
            study_name="affuse",
            direction=direction,
            load_if_exists=True,
            pruner=pruner,
        )
    except (SQLAlchemyError, ValueError) as error:
        raise ConfigError(f"{path} is no study of affuse tune: {str(error).splitlines()[0]}") from error
    if study.user_attrs.setdefault("fingerprint", fingerprint) != fingerprint:
        raise ConfigError(f"{path} is a study of {others}; give another file with --study")
    study.set_user_attr("fingerprint", fingerprint)
    return study
