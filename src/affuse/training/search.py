"""A search over trainings, for ``affuse tune --train``: values are drawn, trained, compared on what was set aside.

The rows that report (dev, test) are not looked at, so that they can still say how good the best one is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from affuse.data import own as training_data
from affuse.errors import ConfigError, DataError
from affuse.evaluation.search import open_study, optuna_library
from affuse.training.config import TrainConfig, resolve
from affuse.training.inputs import Store
from affuse.training.progress import TrainingProgress
from affuse.training.run import learn, plan_of
from affuse.training.seeds import threads
from affuse.training.settings import as_overrides, as_table, build, with_values
from affuse.training.task import fingerprint, prepare

__all__ = ["Search", "Span", "TunedTraining", "tune_training", "with_drawn"]


@dataclass(frozen=True)
class Span:
    """What one option is drawn from."""

    low: Any = None
    """Smallest number; with a whole ``low`` and ``high`` whole numbers are drawn."""
    high: Any = None
    """Largest number."""
    log: bool = False
    """Whether orders of magnitude are equally likely."""
    choices: tuple[Any, ...] = ()
    """Values of any kind, instead of ``low`` and ``high``."""

    def __post_init__(self) -> None:
        numbers = [value for value in (self.low, self.high) if value is not None]
        if len(numbers) != (0 if self.choices else 2):
            raise ConfigError("a searched option has either low and high, or choices")
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise ConfigError(f"low and high must be numbers; got {self.low!r} and {self.high!r}")
        if numbers and not self.low < self.high:
            raise ConfigError(f"low must be below high; got {self.low:g} and {self.high:g}")
        if self.log and not (numbers and self.low > 0):
            raise ConfigError("a logarithmic search needs a low above 0")

    def suggest(self, trial: Any, name: str) -> Any:
        """The value that a trial of Optuna asks for."""
        if self.choices:
            return self.meant(trial.suggest_categorical(name, list(self._named)))
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        draw = trial.suggest_int if whole else trial.suggest_float
        return draw(name, self.low, self.high, log=self.log)

    def meant(self, stored: Any) -> Any:
        """The value that a study holds as ``stored``."""
        return self._named[stored] if self.choices else stored

    @property
    def _named(self) -> dict[Any, Any]:
        """Choices by what a study can hold: numbers and texts as they are, lists and tables as JSON."""
        return {c if isinstance(c, str | int | float) else json.dumps(c): c for c in self.choices}


@dataclass(frozen=True)
class Search:
    """Trainings of one configuration on one set of data.

    Parameters
    ----------
    config: with a table ``[search]``. data: read once. spans: what is searched, by dotted name.
    """

    config: TrainConfig
    data: training_data.TrainingData
    spans: Mapping[str, Span]

    @classmethod
    def of(cls, config: TrainConfig) -> Search:
        """Read the data, and the spans of the table ``[search]``. Raises ConfigError where it is empty or wrong."""
        spans = dict(_spans(config.search))
        if not spans:
            raise ConfigError(
                "nothing is searched; the configuration needs a table [search] such as "
                '"training.learning_rate" = { low = 1e-4, high = 1e-2, log = true }'
            )
        config = resolve(dataclasses.replace(config, search={}))
        with_drawn(config, {name: span.choices[0] if span.choices else span.low for name, span in spans.items()})
        return cls(config, training_data.read(config.data.source, config.data.modality, config.data.reading), spans)

    @property
    def direction(self) -> str:
        """Of what is monitored, in Optuna's words."""
        return "minimize" if self.config.training.monitor == "val_loss" else "maximize"

    @property
    def fingerprint(self) -> str:
        """Changes with data and configuration, whose results must not meet in one study."""
        told = json.dumps(as_table(dataclasses.replace(self.config, name=None)), sort_keys=True)
        return hashlib.sha256(f"{told} {fingerprint(self.data)}".encode()).hexdigest()

    def run(self, study: Any, trials: int) -> None:
        """Add ``trials`` to a study of Optuna; those that a kill interrupted come again first."""
        from optuna.trial import TrialState

        for trial in study.get_trials(states=[TrialState.RUNNING]):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
        with TemporaryDirectory() as place, threads(self.config.device.threads):
            store = Store(Path(place))
            study.optimize(lambda trial: self._train(trial, store, Path(place)), n_trials=trials)

    def best(self, study: Any) -> TrainConfig:
        """The configuration of the best trial, ready for ``affuse train``."""
        drawn = {name: self.spans[name].meant(stored) for name, stored in study.best_params.items()}
        return with_drawn(self.config, drawn)

    def _train(self, trial: Any, store: Store, place: Path) -> float:
        config = with_drawn(self.config, {name: span.suggest(trial, name) for name, span in self.spans.items()})
        task = prepare(config, self.data, store)
        plan = dataclasses.replace(plan_of(config), log_folder=place / "logs", logger=None)
        watch = [_Prune(trial, config.training.monitor), TrainingProgress(f"trial {trial.number}")]
        return learn(task, plan, place / "curves.csv", watch).best


def with_drawn(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """``config`` with values by dotted name. Raises ConfigError where a name or value does not fit."""
    return build(TrainConfig, with_values(as_table(config), as_overrides(values)))


class _Prune(Callback):
    """Ends a trial that falls behind the others at the same epoch."""

    def __init__(self, trial: Any, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        from optuna import TrialPruned

        self.trial.report(float(trainer.callback_metrics[self.monitor]), trainer.current_epoch)
        if self.trial.should_prune():
            raise TrialPruned


def _spans(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Span]]:
    """Spans by dotted name; a dotted key without quotes is a table within a table to TOML."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            raise ConfigError(f"search.{name} must be a table with low and high, or with choices; got {value!r}")
        if any(isinstance(inner, Mapping) for inner in value.values()):
            yield from _spans(value, f"{name}.")
        else:
            try:
                yield name, build(Span, value, f"search.{name}")
            except ConfigError as error:
                raise ConfigError(f"search.{name}: {error}") from error


@dataclass(frozen=True)
class TunedTraining:
    """What a search over trainings found: the best configuration, its drawn values, and what was monitored."""

    best: TrainConfig
    parameters: Mapping[str, Any]
    monitor: str
    value: float
    trials: int


def tune_training(config: TrainConfig, study: Path, trials: int = 50, seed: int = 0) -> TunedTraining:
    """Search trainings of one configuration with Optuna; poor trials stop early.

    Parameters
    ----------
    config : TrainConfig
        With a table ``[search]``, which says what is drawn from where.
    study : Path
        SQLite file of the study; one that is there is continued.
    trials : int
        Number of trials to add.
    seed : int
        Seed of the search.

    Returns
    -------
    TunedTraining

    Raises
    ------
    ConfigError
        If nothing is searched, or the study was made for other data or options.
    DataError
        If no trial was completed.
    """
    optuna = optuna_library()
    search = Search.of(config)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    found = open_study(optuna, study, search.direction, pruner, search.fingerprint, "other data or options")
    found.sampler = optuna.samplers.TPESampler(seed=seed + len(found.trials))
    search.run(found, trials)
    if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in found.trials):
        raise DataError("no trial was completed; add more by the same command")
    monitor = search.config.training.monitor
    return TunedTraining(search.best(found), found.best_params, monitor, found.best_value, len(found.trials))
