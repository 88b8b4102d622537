"""The training loop of every network of affuse, on Lightning: early stopping, checkpoints, averaged weights, loggers.

A run that is killed and started again with the same configuration ends with the same weights as an uninterrupted one:
every epoch has its own random seed, and a checkpoint file is either complete or not used.
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
    "BestWeights",
    "EpochCheckpoint",
    "LoopConfig",
    "Mode",
    "WeightAverage",
    "epoch_seed",
    "fit",
    "last_checkpoint",
    "make_logger",
    "read_weights",
]

_log = logging.getLogger(__name__)

Mode = Literal["min", "max"]

_LOGGERS = {"csv": CSVLogger, "tensorboard": TensorBoardLogger, "wandb": WandbLogger}
LOGGERS = tuple(_LOGGERS)
"""Names of the loggers."""

_CHECKPOINT_NAME = re.compile(r"epoch-(\d+)\.([0-9a-f]{16})\.ckpt")
_KEPT = 2  # checkpoints: the last one, and the one before it in case the last is damaged on disk


@dataclass(frozen=True)
class LoopConfig:
    """How long to train, on which device, and where checkpoints and logs go.

    What is learned, and how fast, is the business of the Lightning module.

    Parameters
    ----------
    max_epochs : int
        Passes over the data at most.
    patience : int, optional
        Epochs without a better monitored value after which training stops. None trains for all epochs.
    seed : int
        Seed of order, dropout and augmentation; every epoch derives its own seed from it.
    precision, accelerator, devices, num_nodes, strategy, deterministic
        As in ``lightning.pytorch.Trainer``.
    gradient_clip : float, optional
        Largest norm of the gradients. None does not clip.
    accumulate : int
        Batches a step of the optimiser.
    ema_decay : float, optional
        Decay of the exponential moving average of the weights, which is what is validated and kept. None keeps no
        average.
    checkpoints : Path, optional
        Folder of the checkpoints, one after every epoch, from which a run with the same configuration resumes.
    logger : str or Lightning logger, optional
        One of `LOGGERS`, a logger of Lightning, or None.
    log_folder : Path
        Where the loggers of `LOGGERS` write.
    progress : bool, optional
        Whether to show a progress bar. None shows one where the output is a terminal.
    trainer : mapping
        Further options of ``lightning.pytorch.Trainer``; its ``callbacks`` are added to those of the loop.

    Examples
    --------
    >>> LoopConfig(max_epochs=3, patience=1).seed
    0
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
    config: LoopConfig,
    monitor: str | None = "val_loss",
    mode: Mode = "min",
) -> BestWeights | None:
    """Train ``module`` in place and leave the best epoch's weights in it, on the CPU and in evaluation mode.

    The global random state is left as it was. A run resumes from ``config.checkpoints`` where that folder holds a
    complete checkpoint.

    Parameters
    ----------
    module : LightningModule
        What is trained.
    data : LightningDataModule
        Batches. It must draw the order of its rows from the seed and the epoch, not from torch's global state, which
        is another one in a resumed run.
    config : LoopConfig
        How long to train, and where.
    monitor : str, optional
        Name of a value that the module logs in validation. The epoch with the best value is kept, and early stopping
        looks at it. None trains for all epochs without validation.
    mode : {"min", "max"}
        Whether a smaller or a larger monitored value is better.

    Returns
    -------
    BestWeights or None
        The best epoch and its value; None without ``monitor``.

    Raises
    ------
    ConfigError
        For an unknown logger.
    AssetError
        Where there are checkpoints, but all are damaged.
    MissingExtraError
        Where the package of the logger is not installed.
    KeyboardInterrupt
        On Ctrl-C.

    Examples
    --------
    >>> import torch
    >>> from lightning.pytorch import LightningDataModule, LightningModule
    >>> class Mean(LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.w = torch.nn.Parameter(torch.zeros(()))
    ...
    ...     def training_step(self, batch, index):
    ...         return ((self.w - batch) ** 2).mean()
    ...
    ...     def configure_optimizers(self):
    ...         return torch.optim.SGD(self.parameters(), lr=0.5)
    >>> class Numbers(LightningDataModule):
    ...     def train_dataloader(self):
    ...         return torch.utils.data.DataLoader([1.0, 3.0], batch_size=2)
    >>> module = Mean()
    >>> fit(module, Numbers(), LoopConfig(max_epochs=1, accelerator="cpu", gradient_clip=None), monitor=None)
    >>> float(module.w.detach())
    2.0
    """
    keep = BestWeights(monitor, mode) if monitor is not None else None
    average = WeightAverage(config.ema_decay) if config.ema_decay is not None else None
    resumed = None if config.checkpoints is None else last_checkpoint(config.checkpoints)
    with torch.random.fork_rng(devices=[]), _quiet(), _determinism_restored():
        trainer = _trainer(config, keep, average)
        module.train()  # pretrained parts come in evaluation mode, and Lightning would leave them in it
        start = None if resumed is None else str(resumed)
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
        except SystemExit:
            if not trainer.interrupted:
                raise
            # Lightning turns Ctrl-C into an exit and ignores the next one; callers decide what to tell the user.
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
    if average is not None:
        average.restore(module)
    if keep is not None:
        keep.restore(module)
    module.to("cpu").eval()
    return keep


class BestWeights(Callback):
    """Keeps the weights of the epoch with the best monitored value in memory, and restores them at the end.

    Parameters
    ----------
    monitor : str
        Name of the value that the module logs in validation.
    mode : {"min", "max"}
        Whether a smaller or a larger value is better.

    Attributes
    ----------
    best : float
        The best value so far.
    epoch : int
        Its epoch, counted from 0; -1 before the first one.
    weights : dict of Tensor, or None
        The state of the module after that epoch.

    Examples
    --------
    >>> BestWeights("val_loss").best
    inf
    """

    @property
    def state_key(self) -> str:
        """Name of its state in checkpoints, the same as in earlier versions."""
        return "KeepBest"

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


class WeightAverage(WeightAveraging):
    """Exponential moving average of the weights; validation uses the average, training does not.

    The decay grows with the number of steps t as min(decay, (1 + t) / (10 + t)), as in TensorFlow, so that a short run
    is not an average over its first steps.

    Parameters
    ----------
    decay : float
        Largest share of the average that stays in one step, from 0 to 1.

    References
    ----------
    Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging. doi:10.1137/0330046

    Examples
    --------
    >>> average = WeightAverage(decay=0.999)
    """

    @property
    def state_key(self) -> str:
        """Name of its state in checkpoints, the same as in earlier versions."""
        return "Average"

    def __init__(self, decay: float) -> None:
        def blend(average: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
            if not average.is_floating_point():
                return current
            share = min(decay, (1 + int(steps)) / (10 + int(steps)))
            return torch.lerp(current, average, share)

        super().__init__(avg_fn=blend)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the module until `BestWeights`, which comes later, has read it."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the weights that training goes on with."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average into the module where no best epoch was kept."""
        kept = [c for c in trainer.callbacks if isinstance(c, BestWeights)]
        if not kept:
            self.restore(pl_module)

    def restore(self, module: LightningModule) -> None:
        """Copy the average into ``module``, if there is one.

        Parameters
        ----------
        module : LightningModule
            The module that was trained.
        """
        if self._average_model is not None:
            self._copy_average_to_current(module)


class EpochCheckpoint(Checkpoint):
    """Writes a checkpoint after every epoch; it holds all that is needed to resume, the best weights among it.

    A file is written under another name and renamed. Its name holds the first 16 digits of its SHA-256, by which a
    damaged file is recognised. The last two are kept. Lightning's own ModelCheckpoint keeps the last one only beside
    others, or writes it when training ends.

    Parameters
    ----------
    folder : Path
        Where the files go.

    Examples
    --------
    >>> from pathlib import Path
    >>> callback = EpochCheckpoint(Path("checkpoints"))
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after validation and early stopping, whose callbacks come first."""
        part = self.folder / "checkpoint.part"
        trainer.save_checkpoint(part)  # with several devices every process takes part
        if not trainer.is_global_zero:
            return
        with part.open("rb") as stream:
            digest = _digest(stream)
            os.fsync(stream.fileno())
        os.replace(part, self.folder / f"epoch-{trainer.current_epoch:05d}.{digest}.ckpt")
        for _, old in _checkpoints(self.folder)[_KEPT:]:
            old.unlink(missing_ok=True)


class _ResumableEarlyStopping(EarlyStopping):
    """Early stopping that remembers in a resumed run that it had stopped it already."""

    @property
    def state_key(self) -> str:
        """Name of its state in checkpoints, the same as in earlier versions."""
        return "_StopAgain" + repr({"monitor": self.monitor, "mode": self.mode})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _EpochSeeds(Callback):
    """Gives every epoch its own seed, so that a resumed run draws what an uninterrupted one would have drawn."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.manual_seed(epoch_seed(self.seed, trainer.current_epoch, trainer.global_rank))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Lightning creates the iterator of the first epoch of a process before that epoch begins, and a DataLoader
        # draws when it is created: seeding again makes all epochs alike.
        if batch_idx == 0:
            self.on_train_epoch_start(trainer, pl_module)


def epoch_seed(*entropy: int) -> int:
    """A 32-bit seed derived from numbers such as a run's seed, the epoch and the rank.

    Parameters
    ----------
    *entropy : int
        Non-negative numbers; trailing zeros change nothing.

    Returns
    -------
    int
        The seed.

    Examples
    --------
    >>> epoch_seed(1, 2) == epoch_seed(1, 3)
    False
    """
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder; a damaged one is passed over with a warning.

    Parameters
    ----------
    folder : Path
        Folder of `LoopConfig.checkpoints`; it need not exist.

    Returns
    -------
    Path or None
        None where there is no checkpoint yet.

    Raises
    ------
    AssetError
        Where all checkpoints are damaged.

    Examples
    --------
    >>> from pathlib import Path
    >>> last_checkpoint(Path("new-run")) is None
    True
    """
    found = _checkpoints(folder)
    for number, (digest, path) in enumerate(found):
        with path.open("rb") as stream:
            if _digest(stream) == digest:
                return path
        if number < len(found) - 1:
            _log.warning("%s is damaged; resuming from the checkpoint before it", path)
    if found:
        names = ", ".join(path.name for _, path in found)
        raise AssetError(f"all checkpoints in {folder} are damaged ({names}); remove them to start again")
    return None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Weights of the module in the newest complete checkpoint of a folder; their average where one was kept.

    Parameters
    ----------
    folder : Path
        Folder of `LoopConfig.checkpoints`.

    Returns
    -------
    dict of Tensor
        The state of the trained module, by name.

    Raises
    ------
    AssetError
        Where there is no checkpoint, or all are damaged.

    Examples
    --------
    >>> from pathlib import Path
    >>> read_weights(Path("new-run"))
    Traceback (most recent call last):
    affuse.errors.AssetError: new-run holds no checkpoint
    """
    path = last_checkpoint(folder)
    if path is None:
        raise AssetError(f"{folder} holds no checkpoint")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return weights


def _checkpoints(folder: Path) -> list[tuple[str, Path]]:
    """Digests and paths of the checkpoints in ``folder``, the newest first."""
    matches = [
        (match, path) for path in folder.glob("epoch-*.ckpt") if (match := _CHECKPOINT_NAME.fullmatch(path.name))
    ]
    newest_first = sorted(matches, key=lambda pair: (int(pair[0][1]), pair[1].stat().st_mtime_ns), reverse=True)
    return [(match[2], path) for match, path in newest_first]


def _digest(stream: Any) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _trainer(config: LoopConfig, keep: BestWeights | None, average: WeightAverage | None) -> Trainer:
    callbacks: list[Callback] = [_EpochSeeds(config.seed)]
    if keep is not None:
        callbacks.append(keep)
        if config.patience is not None:
            callbacks.append(_ResumableEarlyStopping(keep.monitor, patience=config.patience, mode=keep.mode))
    if average is not None:
        callbacks.append(average)
    if config.checkpoints is not None:
        config.checkpoints.mkdir(parents=True, exist_ok=True)
        callbacks.append(EpochCheckpoint(config.checkpoints))
    own: dict[str, Any] = dict(config.trainer)
    callbacks += own.pop("callbacks", [])
    options: dict[str, Any] = {
        "max_epochs": config.max_epochs,
        "precision": config.precision,
        "accelerator": config.accelerator,
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "strategy": config.strategy,
        "accumulate_grad_batches": config.accumulate,
        "callbacks": callbacks,
        "logger": make_logger(config.logger, config.log_folder) or False,
        "enable_checkpointing": config.checkpoints is not None,
        "enable_progress_bar": sys.stderr.isatty() if config.progress is None else config.progress,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0 if keep is None else 1.0,
        "gradient_clip_val": config.gradient_clip,
        "deterministic": config.deterministic,
    }
    return Trainer(**{**options, **own})


def make_logger(kind: Any, folder: Path) -> Any:
    """A Lightning logger by name.

    Parameters
    ----------
    kind : str, logger or None
        One of `LOGGERS`; a logger of Lightning and None are returned as they are.
    folder : Path
        Where the logger writes.

    Returns
    -------
    logger or None
        The logger.

    Raises
    ------
    ConfigError
        For an unknown name.
    MissingExtraError
        Where the package of the logger is not installed.

    Examples
    --------
    >>> from pathlib import Path
    >>> type(make_logger("csv", Path("logs"))).__name__
    'CSVLogger'
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
