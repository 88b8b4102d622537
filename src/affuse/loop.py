"""The one loop that trains every network of affuse, on Lightning: early stopping, checkpoints that resume, loggers.

A run killed at any moment and started again with the same plan ends as an undisturbed one: every epoch draws from a
seed of its own, and a checkpoint is whole or is none.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import Tensor

from affuse.errors import AssetError, ConfigError, MissingExtraError

__all__ = [
    "LOGGERS",
    "Average",
    "KeepBest",
    "Mode",
    "Plan",
    "SaveEveryEpoch",
    "epoch_seed",
    "fit",
    "last_checkpoint",
    "make_logger",
]

_log = logging.getLogger(__name__)

Mode = Literal["min", "max"]

_LOGGERS = {"csv": CSVLogger, "tensorboard": TensorBoardLogger, "wandb": WandbLogger}
LOGGERS = tuple(_LOGGERS)
"""Loggers by name."""

_WHOLE = re.compile(r"epoch-(\d+)\.([0-9a-f]{16})\.ckpt")
_KEPT = 2  # checkpoints: the last, and the one before in case a disk spoils the last


@dataclass(frozen=True)
class Plan:
    """How long to train, on what, and where progress goes; what is learned and how fast is the module's business.

    Parameters
    ----------
    max_epochs: passes over the data at most. patience: epochs without a better monitored value after which training
    stops; None trains for all. seed: of order, dropout and augmentation, drawn anew for every epoch.
    precision, accelerator, devices, num_nodes, strategy, deterministic, trainer (any further option): of Lightning's
    Trainer. gradient_clip: largest norm of the gradients, or None. accumulate: batches a step of the optimiser.
    ema_decay: of the exponential moving average of the weights, which is what is validated and kept; None keeps none.
    checkpoints: folder of checkpoints, one after every epoch, from which the same plan goes on.
    logger: None, one of `LOGGERS` or a logger of Lightning. log_folder: where the named ones write.
    progress: whether to show a bar; None does where the output is a terminal.
    """

    max_epochs: int
    patience: int | None = None
    seed: int = 0
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    strategy: str = "auto"
    gradient_clip: float | None = 1.0
    accumulate: int = 1
    ema_decay: float | None = None
    checkpoints: Path | None = None
    logger: Any = None
    log_folder: Path = Path("runs")
    progress: bool | None = None
    deterministic: bool = False
    trainer: Mapping[str, Any] = field(default_factory=dict)


def fit(
    module: LightningModule,
    data: LightningDataModule,
    plan: Plan,
    monitor: str | None = "val_loss",
    mode: Mode = "min",
) -> KeepBest | None:
    """Train ``module`` in place and leave the best epoch's weights in it, on the CPU and in evaluation mode.

    ``data`` draws the order of its rows from the seed and the epoch, not from torch's global state, which a resumed
    run does not find as it was. ``monitor`` is what the module logs in validation and early stopping looks at; None
    trains for all epochs without validation, and returns None. Resumes from ``plan.checkpoints`` where it holds a whole
    checkpoint. The global random state is left as it was. Raises ConfigError for an unknown logger, AssetError where
    every checkpoint is broken, MissingExtraError without the logger's package, KeyboardInterrupt on Ctrl-C.
    """
    keep = KeepBest(monitor, mode) if monitor is not None else None
    average = Average(plan.ema_decay) if plan.ema_decay is not None else None
    resumed = None if plan.checkpoints is None else last_checkpoint(plan.checkpoints)
    with torch.random.fork_rng(devices=[]), _quiet(), _determinism_restored():
        trainer = _trainer(plan, keep, average)
        module.train()  # pretrained parts come in evaluation mode, and Lightning would leave them in it
        start = None if resumed is None else str(resumed)
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        except SystemExit:
            if not trainer.interrupted:
                raise
            # Lightning turns Ctrl-C into an exit and stops listening for it; what to say is the caller's choice.
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
    if average is not None:
        average.restore(module)
    if keep is not None:
        keep.restore(module)
    module.to("cpu").eval()
    return keep


class KeepBest(Callback):
    """Keeps the weights of the epoch with the best monitored value in memory, and puts them back at the end.

    Attributes
    ----------
    best: that value. epoch: counted from 0; -1 before the first. weights: the module's state, or None.
    """

    def __init__(self, monitor: str = "val_loss", mode: Mode = "min") -> None:
        self.monitor, self.mode = monitor, mode
        self.best = float("inf") if mode == "min" else float("-inf")
        self.epoch = -1
        self.weights: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the weights if they are the best so far."""
        value = float(trainer.callback_metrics[self.monitor])
        better = value < self.best if self.mode == "min" else value > self.best
        if not trainer.sanity_checking and better:
            self.best, self.epoch = value, trainer.current_epoch
            self.weights = {k: v.detach().cpu().clone() for k, v in pl_module.state_dict().items()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the best weights back."""
        self.restore(pl_module)

    def restore(self, module: LightningModule) -> None:
        """Put the best weights into ``module``, if any were kept."""
        if self.weights is not None:
            module.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"best": self.best, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.best, self.epoch, self.weights = state_dict["best"], state_dict["epoch"], state_dict["weights"]


class Average(WeightAveraging):
    """Exponential moving average of the weights, which validation sees and training does not.

    The decay grows with the number of steps t as min(decay, (1 + t) / (10 + t)), so that a short run is not an average
    over its first steps. Source: Polyak & Juditsky 1992 (doi:10.1137/0330046); the growth is TensorFlow's.
    """

    def __init__(self, decay: float) -> None:
        def blend(average: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
            if not average.is_floating_point():
                return current
            share = min(decay, (1 + int(steps)) / (10 + int(steps)))
            return torch.lerp(current, average, share)

        super().__init__(avg_fn=blend)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module until `KeepBest`, which comes before, has seen it."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give training its own weights back."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module where no best epoch was kept."""
        kept = [c for c in trainer.callbacks if isinstance(c, KeepBest)]
        if not kept:
            self.restore(pl_module)

    def restore(self, module: LightningModule) -> None:
        """Put the average into ``module``, if there is one in this process."""
        if self._average_model is not None:
            self._copy_average_to_current(module)


class SaveEveryEpoch(Checkpoint):
    """Writes a checkpoint after every epoch in one step; the best weights travel in it (`KeepBest`).

    Its name holds the first 16 digits of its SHA-256, so that a file that was cut short is told from a whole one.
    Lightning's own ModelCheckpoint keeps the last one only beside others, or writes it when training ends.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after validation and early stopping, whose callbacks come first."""
        part = self.folder / "checkpoint.part"
        trainer.save_checkpoint(part)
        if not trainer.is_global_zero:
            return
        with part.open("rb") as stream:
            digest = _digest(stream)
            os.fsync(stream.fileno())
        os.replace(part, self.folder / f"epoch-{trainer.current_epoch:05d}.{digest}.ckpt")
        for _, old in _checkpoints(self.folder)[_KEPT:]:
            old.unlink(missing_ok=True)


class _StopAgain(EarlyStopping):
    """Early stopping that knows, when a run is resumed, that it had already said stop."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _SeedEpochs(Callback):
    """Seeds every epoch by itself, so that a run resumed after an epoch repeats what it would have done."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Lightning makes the iterator over the first epoch of a process before that epoch begins, and a DataLoader
        # draws as it is made: from here on all epochs are alike again.
        if batch_idx == 0:
            self.on_train_epoch_start(trainer, pl_module)


def epoch_seed(*entropy: int) -> int:
    """A 32-bit seed from numbers such as a run's seed, the epoch and the rank; trailing zeros change nothing."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in ``folder``; None where there is none yet.

    A broken one is passed over with a remark. Raises AssetError where all are broken.
    """
    found = _checkpoints(folder)
    for number, (digest, path) in enumerate(found):
        with path.open("rb") as stream:
            if _digest(stream) == digest:
                return path
        if number < len(found) - 1:
            _log.warning("%s is not whole; going on from the checkpoint before it", path)
    if found:
        names = ", ".join(path.name for _, path in found)
        raise AssetError(f"no checkpoint in {folder} is whole ({names}); remove them to start afresh")
    return None


def _checkpoints(folder: Path) -> list[tuple[str, Path]]:
    """Digests and paths of the checkpoints in ``folder``, the newest first."""
    matches = [(match, path) for path in folder.glob("epoch-*.ckpt") if (match := _WHOLE.fullmatch(path.name))]
    newest_first = sorted(matches, key=lambda pair: (int(pair[0][1]), pair[1].stat().st_mtime_ns), reverse=True)
    return [(match[2], path) for match, path in newest_first]


def _digest(stream: Any) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _trainer(plan: Plan, keep: KeepBest | None, average: Average | None) -> Trainer:
    callbacks: list[Callback] = [_SeedEpochs(plan.seed)]
    if keep is not None:
        callbacks.append(keep)
        if plan.patience is not None:
            callbacks.append(_StopAgain(keep.monitor, patience=plan.patience, mode=keep.mode))
    if average is not None:
        callbacks.append(average)
    if plan.checkpoints is not None:
        plan.checkpoints.mkdir(parents=True, exist_ok=True)
        callbacks.append(SaveEveryEpoch(plan.checkpoints))
    own: dict[str, Any] = dict(plan.trainer)
    callbacks += own.pop("callbacks", [])
    options: dict[str, Any] = {
        "max_epochs": plan.max_epochs,
        "precision": plan.precision,
        "accelerator": plan.accelerator,
        "devices": plan.devices,
        "num_nodes": plan.num_nodes,
        "strategy": plan.strategy,
        "accumulate_grad_batches": plan.accumulate,
        "callbacks": callbacks,
        "logger": make_logger(plan.logger, plan.log_folder) or False,
        "enable_checkpointing": plan.checkpoints is not None,
        "enable_progress_bar": sys.stderr.isatty() if plan.progress is None else plan.progress,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0 if keep is None else 1.0,
        "gradient_clip_val": plan.gradient_clip,
        "deterministic": plan.deterministic,
    }
    return Trainer(**{**options, **own})


def make_logger(kind: Any, folder: Path) -> Any:
    """A Lightning logger from "csv", "tensorboard" or "wandb"; None and loggers pass.

    Raises ConfigError for others, MissingExtraError where the logger's package is not installed.
    """
    if not isinstance(kind, str):
        return kind
    if kind not in _LOGGERS:
        raise ConfigError(f"unknown logger {kind!r}; known: {', '.join(_LOGGERS)}, or a logger of Lightning")
    try:
        return _LOGGERS[kind](save_dir=folder)
    except ModuleNotFoundError as error:
        raise MissingExtraError(kind, kind) from error


@contextmanager
def _determinism_restored() -> Iterator[None]:
    """Undo what ``Trainer(deterministic=True)`` switches on for the whole process."""
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's remarks about hardware, its own products and its dependencies off the terminal."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 asks torch for a class of trees that torch 2.13 calls by another name; nothing of ours does.
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
