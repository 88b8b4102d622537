"""``affuse tune``: which way to fuse, and with which settings? A search that can be stopped and taken up again."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from affuse.cli.methods import Inputs, refuse_inputs
from affuse.errors import ConfigError, DataError, MissingExtraError
from affuse.evaluation.fused_tables import make

if TYPE_CHECKING:
    from affuse.evaluation.protocol import Fold

__all__ = ["METRICS", "SPACES", "tune"]

_FLOOR = 1e-6  # of a probability under the logarithm
_SHOWN = 10


def tune(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Predictions, one CSV, TSV or Parquet file a modality.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Table of true labels by id.")] = None,
    train: Annotated[
        Path | None, typer.Option(help="Search trainings instead: a TOML file of affuse train with a table [search].")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="With --train: any option of the file, as training.epochs=5.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column of --labels that must not be split, such as the speaker.")
    ] = None,
    study: Annotated[Path, typer.Option(help="SQLite file of the study; one that is there is continued.")] = Path(
        "affuse-tune.db"
    ),
    trials: Annotated[int, typer.Option(help="Number of trials to add.", min=1)] = 50,
    folds: Annotated[int, typer.Option(help="Folds of the group-wise cross-validation.", min=2)] = 5,
    metric: Annotated[str, typer.Option(help="What is searched for: accuracy or log_loss.")] = "accuracy",
    methods: Annotated[str | None, typer.Option(help="Methods to search, with commas (default: all).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search and of what methods draw at random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Report as JSON; with --train the best TOML file (default: best.toml).")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Folder to keep the best fuser in, fitted on all rows.")] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column that names the rows (default: the first named id, clip or name).")
    ] = None,
    logits: Annotated[bool, typer.Option("--logits", help="The files hold logits: take their softmax.")] = False,
    label_map: Annotated[Path | None, typer.Option("--map", help="TOML with new names of labels, as in fuse.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Search methods and their settings, or trainings, with Optuna; poor trials stop early.

    Methods are compared by group-wise cross-validation, trainings on what each sets aside to choose by.
    """
    optuna = _optuna()
    if train is not None:
        if files or labels is not None or save is not None:
            raise ConfigError("--train searches trainings; leave out files of predictions, --labels and --save")
        _tune_training(optuna, train, changes or [], study, trials, seed, out or Path("best.toml"))
        return
    if not files or labels is None:
        raise ConfigError("give files of predictions and --labels, or --train with a TOML file")
    names = _names(methods)
    if metric not in METRICS:
        raise ConfigError(f"unknown metric {metric!r}; known: {', '.join(METRICS)}")
    inputs = Inputs(files, labels, group, id_column, logits, label_map)
    for path in (study, out, save):
        refuse_inputs(path, inputs)
    predictions = inputs.read()
    search = _search(predictions, folds, metric, names, seed)
    found = run_study(optuna, search, study, trials)
    facts = report(optuna, search, found)
    if save is not None:
        _keep_best(search, found, predictions, save)
    if out is not None:
        _write_json(facts, out)
    _show(facts, study, as_json)


@dataclass(frozen=True)
class Search:
    """What is searched: folds, metric, methods and seed, and the number of modalities that weights are needed for."""

    folds: tuple[Fold, ...]
    metric: str
    methods: tuple[str, ...]
    seed: int
    n_modalities: int

    @property
    def rules(self) -> tuple[str, ...]:
        """Methods without settings: one trial says all about them."""
        return tuple(name for name in self.methods if name not in SPACES)

    @property
    def adjustable(self) -> tuple[str, ...]:
        """Methods with settings, among which trials are drawn."""
        return tuple(name for name in self.methods if name in SPACES)

    def suggest(self, trial: Any) -> Any:
        """The unfitted fuser that a trial of Optuna asks for."""
        method = trial.suggest_categorical("method", self.adjustable)
        return make(method, **SPACES[method](trial, self))

    def score(self, fuser: Any, fold: Fold) -> float:
        """The metric on one fold's rows, which the fuser did not learn from."""
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


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "tune") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _names(methods: str | None) -> tuple[str, ...]:
    from affuse.evaluation.fused_tables import AUTO, method_names

    if methods is None:
        # The automatic choice is no setting but a choice among settings.
        return tuple(name for name in method_names() if name != AUTO)
    names = tuple(dict.fromkeys(name.strip() for name in methods.split(",")))
    for name in names:
        make(name)
    return names


def _search(predictions: Any, folds: int, metric: str, methods: tuple[str, ...], seed: int) -> Search:
    from affuse.evaluation.fused_tables import rows_of
    from affuse.evaluation.protocol import group_folds

    rows = rows_of(predictions)
    return Search(group_folds(rows, folds), metric, methods, seed, len(predictions.modalities))


def run_study(optuna: Any, search: Search, path: Path, trials: int) -> Any:
    """Add ``trials`` to the study at ``path``. Raises ConfigError where it was made for something else."""
    direction = "minimize" if search.metric == "log_loss" else "maximize"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=10, n_warmup_steps=1)
    study = open_study(optuna, path, direction, pruner, search.fingerprint, "other rows, folds, metric or methods")
    if not study.trials:
        # Each method has its turn before the sampler, which is quick to settle, has its say.
        for name in search.rules:
            study.enqueue_trial({}, user_attrs={"rule": name})
        for name in search.adjustable:
            study.enqueue_trial({"method": name})
    # A study that is continued must not draw again what it drew before.
    startup = max(10, len(search.rules) + 3 * len(search.adjustable))
    study.sampler = optuna.samplers.TPESampler(seed=search.seed + len(study.trials), n_startup_trials=startup)
    waiting = len(study.get_trials(states=[optuna.trial.TrialState.WAITING]))
    count = trials if search.adjustable else min(trials, waiting)
    if count:
        study.optimize(_objective(optuna, search), n_trials=count, catch=(DataError,))
    return study


def open_study(optuna: Any, path: Path, direction: str, pruner: Any, fingerprint: str, others: str) -> Any:
    """The study at ``path``, a new one where there is none.

    Raises ConfigError where it is no study, or one of ``others``: it has another ``fingerprint``.
    """
    from sqlalchemy.exc import SQLAlchemyError

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


def _tune_training(
    optuna: Any, path: Path, changes: Sequence[str], place: Path, trials: int, seed: int, out: Path
) -> None:
    """Search trainings, and write the configuration of the best one."""
    from affuse.cli.train import training_extra

    with training_extra():
        from affuse.training.config import read_config, write_config
        from affuse.training.search import Search as Trainings

        search = Trainings.of(read_config(path, changes))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
        study = open_study(optuna, place, search.direction, pruner, search.fingerprint, "other data or options")
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
        search.run(study, trials)
        if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials):
            raise DataError("no trial was completed; add more by the same command")
        write_config(search.best(study), out)
    found = ", ".join(f"{name} = {value}" for name, value in study.best_params.items())
    typer.echo(
        f"best of {len(study.trials)} trials: {search.config.training.monitor} {study.best_value:.4f} by {found}"
    )
    typer.echo(f"written: {out}; train it: affuse train {out}")


def _objective(optuna: Any, search: Search) -> Callable[[Any], float]:
    def objective(trial: Any) -> float:
        rule = trial.user_attrs.get("rule")
        fuser = make(rule) if rule else search.suggest(trial)
        scores: list[float] = []
        for number, fold in enumerate(search.folds):
            scores.append(search.score(fuser, fold))
            trial.report(float(np.mean(scores)), number)
            if number < len(search.folds) - 1 and trial.should_prune():
                raise optuna.TrialPruned
        trial.set_user_attr("folds", scores)
        return float(np.mean(scores))

    return objective


def report(optuna: Any, search: Search, study: Any) -> dict[str, Any]:
    """The best trials, how many there were, and what every method reaches untuned on the same folds."""
    states = [trial.state.name.lower() for trial in study.trials]
    done = sorted((t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE), key=lambda t: t.value)
    if search.metric == "accuracy":
        done.reverse()
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


def _facts(trial: Any) -> dict[str, Any]:
    parameters = {key: value for key, value in trial.params.items() if key != "method"}
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
    return float(np.mean([search.score(make(name), fold) for fold in search.folds]))


def _keep_best(search: Search, study: Any, predictions: Any, folder: Path) -> None:
    from affuse.cli.fuse import save_fuser
    from affuse.evaluation.fused_tables import Fused

    labelled = predictions.labelled
    method = _method_of(study.best_trial)
    fuser = make(method) if method in search.rules else search.suggest(_optuna().trial.FixedTrial(study.best_params))
    fitted = fuser.fit(labelled.P, labelled.targets, groups=labelled.groups)
    save_fuser(Fused(fitted, method, predictions, fitted.predict_proba(predictions.P)), folder)


def _write_json(facts: dict[str, Any], path: Path) -> None:
    from affuse.files import replacing

    with replacing(path) as (part,):
        part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _show(facts: dict[str, Any], study: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts))
        return
    from rich.console import Console
    from rich.table import Table

    counts = ", ".join(f"{n} {state}" for state, n in facts["trials"].items())
    table = Table("trial", "method", "settings", facts["metric"], "untuned")
    for trial in _best_of_each(facts["best_trials"])[:_SHOWN]:
        settings = ", ".join(
            f"{key.rpartition('.')[2]} {value:.4g}" if isinstance(value, float) else f"{key.rpartition('.')[2]} {value}"
            for key, value in trial["parameters"].items()
        )
        untuned = f"{facts['untuned'].get(trial['method'], float('nan')):.4f}"
        table.add_row(str(trial["number"]), trial["method"], settings, f"{trial['score']:.4f}", untuned)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"{facts['metric']} on {facts['rows']} rows, mean of {facts['folds']} folds by group; trials: {counts}"
    )
    console.print(table)
    console.print("The best of many trials looks better than it is: confirm it on rows that no trial saw.")
    console.print(f"study: {study}")
    sys.stdout.flush()


def _best_of_each(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first trial of every method; trials come best first."""
    best: dict[str, dict[str, Any]] = {}
    for trial in trials:
        best.setdefault(trial["method"], trial)
    return list(best.values())


# --- what can be set ---


def _log_pool(trial: Any, search: Search) -> dict[str, Any]:
    return {"shrinkage": trial.suggest_float("log_pool.shrinkage", 1.0, 1000.0, log=True)}


def _gated(trial: Any, search: Search) -> dict[str, Any]:
    return {"penalty": trial.suggest_float("gated.penalty", 0.1, 1000.0, log=True)}


def _optimized(trial: Any, search: Search) -> dict[str, Any]:
    return {"penalty": trial.suggest_float("optimized.penalty", 0.01, 100.0, log=True)}


def _discounted(trial: Any, search: Search) -> dict[str, Any]:
    return {"strength": trial.suggest_float("discounted.strength", 0.1, 10.0, log=True)}


def _weighted(trial: Any, search: Search) -> dict[str, Any]:
    count = search.n_modalities
    return {"weights": [trial.suggest_float(f"weighted.weight_{j}", 0.01, 1.0) for j in range(count)]}


def _stacking(trial: Any, search: Search) -> dict[str, Any]:
    kind = trial.suggest_categorical("stacking.classifier", tuple(_CLASSIFIERS))
    return {"classifier": _CLASSIFIERS[kind](trial, search.seed)}


def _logistic(trial: Any, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=trial.suggest_float("stacking.logistic.C", 1e-3, 10.0, log=True), max_iter=2000)


def _forest(trial: Any, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    leaf = trial.suggest_int("stacking.forest.min_samples_leaf", 1, 50, log=True)
    return RandomForestClassifier(100, min_samples_leaf=leaf, random_state=seed)


def _svm(trial: Any, seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=trial.suggest_float("stacking.svm.C", 1e-2, 100.0, log=True)))


_CLASSIFIERS: dict[str, Callable[[Any, int], Any]] = {"logistic": _logistic, "forest": _forest, "svm": _svm}

SPACES: dict[str, Callable[[Any, Search], dict[str, Any]]] = {
    "log_pool": _log_pool,
    "gated": _gated,
    "optimized": _optimized,
    "discounted": _discounted,
    "weighted": _weighted,
    "stacking": _stacking,
}
"""Settings of each method that has any, asked of a trial of Optuna."""


def _accuracy(P: np.ndarray, y: np.ndarray) -> float:
    return float((P.argmax(axis=1) == y).mean())


def _log_loss(P: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(np.maximum(P[np.arange(len(y)), y], _FLOOR)).mean())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"accuracy": _accuracy, "log_loss": _log_loss}
"""Measures of held-out rows that a search can be for."""
