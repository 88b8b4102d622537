"""The one loop that trains every joint network, on Lightning: early stopping, checkpoints that resume, loggers."""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from affuse.errors import ConfigError
from affuse.fusion.networks.inputs import Table
from affuse.fusion.networks.parts import FusionNetwork, Presence

__all__ = [
    "UNLABELLED",
    "Batches",
    "KeepBest",
    "Plan",
    "SaveEveryEpoch",
    "Training",
    "drop_modalities",
    "make_logger",
    "predict",
    "train",
]

UNLABELLED = -1
"""Target of rows without a label, and of padding."""

_LOGGERS = {"csv": CSVLogger, "tensorboard": TensorBoardLogger, "wandb": WandbLogger}
_CHECKPOINT = "last.ckpt"


@dataclass(frozen=True)
class Plan:
    """How to train: optimiser, length, and where progress goes. Fields as the parameters of `NetworkFuser`."""

    learning_rate: float
    weight_decay: float
    modality_dropout: float
    batch_size: int
    max_epochs: int
    patience: int
    seed: int
    precision: str = "32-true"
    progress: bool | None = None
    checkpoints: Path | None = None
    logger: Any = None
    trainer: Mapping[str, Any] = field(default_factory=dict)


class Batches:
    """Batches of a table, drawn anew every epoch from a seed: rows, or whole contexts padded to the longest.

    A batch is ``{"inputs": {"features", "present"[, "lengths"]}, "targets"}`` of tensors. A plain iterable, because
    cutting whole batches out of arrays is ten times quicker than a DataLoader that collates rows.

    Parameters
    ----------
    table: the rows. targets: columns (n,), or UNLABELLED. size: rows or contexts a batch. contexts: rows of every
    context, or None. seed: of the order; None keeps it. epoch: asked at the start of every pass.
    rank, world: with several devices each takes every world-th batch.
    """

    def __init__(
        self,
        table: Table,
        targets: NDArray[np.intp],
        size: int,
        contexts: Sequence[NDArray[np.intp]] | None = None,
        seed: int | None = None,
        epoch: Callable[[], int] = lambda: 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.table, self.targets, self.size, self.contexts = table, targets, size, contexts
        self.seed, self.epoch, self.rank, self.world = seed, epoch, rank, world

    def __len__(self) -> int:
        count = len(self.table) if self.contexts is None else len(self.contexts)
        return max(1, -(-count // self.size) // self.world)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        order = np.arange(len(self.table) if self.contexts is None else len(self.contexts))
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch()]).shuffle(order)
        starts = range(0, len(order), self.size)
        for number in range(self.rank, len(self) * self.world, self.world):
            start = starts[number % len(starts)]
            yield self._batch(order[start : start + self.size])

    def _batch(self, chosen: NDArray[np.intp]) -> dict[str, Any]:
        if self.contexts is None:
            return _tensors(self.table.select(chosen), self.targets[chosen])
        contexts = [self.contexts[i] for i in chosen]
        lengths = np.array([len(rows) for rows in contexts])
        shape = (len(contexts), int(lengths.max()))
        places = np.zeros(shape, dtype=np.intp)
        real = np.arange(shape[1]) < lengths[:, None]
        places[real] = np.concatenate(contexts)
        part = self.table.select(places.ravel())
        features = {m: v.reshape(*shape, -1) for m, v in part.features.items()}
        present = {m: v.reshape(shape) & real for m, v in part.present.items()}
        batch = _tensors(Table(features, present), np.where(real, self.targets[places], UNLABELLED))
        batch["inputs"]["lengths"] = torch.from_numpy(lengths)
        return batch


def _tensors(table: Table, targets: NDArray[np.intp]) -> dict[str, Any]:
    features = {m: torch.from_numpy(v) for m, v in table.features.items()}
    present = {m: torch.from_numpy(v) for m, v in table.present.items()}
    return {"inputs": {"features": features, "present": present}, "targets": torch.from_numpy(targets)}


def drop_modalities(present: Presence, share: float, per_step: bool) -> dict[str, Tensor]:
    """What is left when every modality of a row is dropped with probability ``share``, but never its last one.

    ``per_step`` drops at every step (utterance of a context) by itself. Source: ModDrop (Neverova et al. 2015,
    arXiv:1501.00102).
    """
    names = list(present)
    available = torch.stack([p if per_step or p.ndim == 1 else p.any(dim=1) for p in present.values()])
    kept = available & (torch.rand(available.shape, device=available.device) >= share)
    kept = torch.where(kept.any(dim=0), kept, available)
    return {
        m: present[m] & (kept[j] if present[m].ndim == kept[j].ndim else kept[j].unsqueeze(1))
        for j, m in enumerate(names)
    }


class Training(LightningModule):
    """Cross-entropy over labelled rows plus the network's penalty, with modality dropout and AdamW.

    Parameters
    ----------
    network: the module to train. plan: how. per_step: whether modality dropout acts on every step by itself.
    """

    def __init__(self, network: FusionNetwork, plan: Plan, per_step: bool) -> None:
        super().__init__()
        self.network, self.plan, self.per_step = network, plan, per_step

    def on_train_epoch_start(self) -> None:
        """Seed every epoch by itself, so that a run resumed after an epoch repeats what it would have done."""
        torch.manual_seed(int(np.random.SeedSequence([self.plan.seed, self.current_epoch]).generate_state(1)[0]))

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """Loss of a batch with modalities dropped."""
        kept = drop_modalities(batch["inputs"]["present"], self.plan.modality_dropout, self.per_step)
        loss = self._loss(batch, kept)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["targets"]), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        """Loss of a batch with everything that is there."""
        weight = int((batch["targets"] != UNLABELLED).sum())
        loss = self._loss(batch, batch["inputs"]["present"])
        self.log("val_loss", loss, on_epoch=True, batch_size=max(1, weight), sync_dist=True)

    def _loss(self, batch: dict[str, Any], kept: Presence) -> Tensor:
        inputs = batch["inputs"]
        logits = self.network(**{**inputs, "present": kept}).flatten(0, -2)
        targets = batch["targets"].flatten()
        entropy = F.cross_entropy(logits, targets, ignore_index=UNLABELLED, reduction="sum")
        labelled = (targets != UNLABELLED).sum().clamp(min=1)
        return entropy / labelled + self.network.penalty(inputs["features"], inputs["present"], kept)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW (arXiv:1711.05101)."""
        return torch.optim.AdamW(
            self.network.parameters(), lr=self.plan.learning_rate, weight_decay=self.plan.weight_decay
        )


class KeepBest(Callback):
    """Keeps the weights of the epoch with the least validation loss in memory, and puts them back at the end."""

    def __init__(self) -> None:
        self.least = float("inf")
        self.epoch = -1
        self.weights: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the weights if they are the best so far."""
        loss = float(trainer.callback_metrics["val_loss"])
        if not trainer.sanity_checking and loss < self.least:
            self.least, self.epoch = loss, trainer.current_epoch
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
        return {"least": self.least, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.least, self.epoch, self.weights = state_dict["least"], state_dict["epoch"], state_dict["weights"]


class SaveEveryEpoch(Checkpoint):
    """Writes one checkpoint over the last after every epoch, in one step; the best weights travel in it (`KeepBest`).

    Lightning's own ModelCheckpoint keeps the last one only beside others, or writes it when training ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after validation and early stopping, whose callbacks come first."""
        trainer.save_checkpoint(self.path)


class _Data(LightningDataModule):
    """Training and validation batches of this process among all."""

    def __init__(self, table: Table, targets: NDArray[np.intp], plan: Plan, parts: Parts) -> None:
        super().__init__()
        self.table, self.targets, self.plan, self.parts = table, targets, plan, parts

    def train_dataloader(self) -> Batches:
        """Batches of this process in an order drawn from the seed."""
        trainer = self.trainer
        assert trainer is not None
        place = {"rank": trainer.global_rank, "world": trainer.world_size}
        return self.parts.fit.batches(self, seed=self.plan.seed, epoch=lambda: trainer.current_epoch, **place)

    def val_dataloader(self) -> Batches:
        """All validation batches, in order; not asked for where there are none."""
        assert self.parts.validation is not None
        return self.parts.validation.batches(self)


@dataclass(frozen=True)
class Part:
    """Rows (n,) that are learned from or validated on, and, where a network reads contexts, those contexts."""

    rows: NDArray[np.intp]
    contexts: Sequence[NDArray[np.intp]] | None = None

    def batches(self, data: _Data, **options: Any) -> Batches:
        """Batches of these rows."""
        if self.contexts is not None:
            return Batches(data.table, data.targets, data.plan.batch_size, self.contexts, **options)
        return Batches(data.table.select(self.rows), data.targets[self.rows], data.plan.batch_size, **options)


@dataclass(frozen=True)
class Parts:
    """Rows to learn from, and rows that say when to stop (None trains for all epochs)."""

    fit: Part
    validation: Part | None


def train(network: FusionNetwork, table: Table, targets: NDArray[np.intp], plan: Plan, parts: Parts) -> KeepBest | None:
    """Train ``network`` in place and return what early stopping kept; the global random state is left as it was.

    Resumes from ``plan.checkpoints`` where it holds a checkpoint, which is read as plain tensors.
    """
    keep = KeepBest() if parts.validation is not None else None
    module = Training(network, plan, per_step=parts.fit.contexts is not None)
    last = None if plan.checkpoints is None else plan.checkpoints / _CHECKPOINT
    resumed = str(last) if last is not None and last.is_file() else None
    with torch.random.fork_rng(devices=[]), _quiet():
        trainer = _trainer(plan, keep)
        trainer.fit(module, datamodule=_Data(table, targets, plan, parts), ckpt_path=resumed, weights_only=True)
    if keep is not None:
        keep.restore(module)
    network.to("cpu").eval()
    return keep


def _trainer(plan: Plan, keep: KeepBest | None) -> Trainer:
    callbacks: list[Callback] = []
    if keep is not None:
        callbacks += [keep, EarlyStopping("val_loss", patience=plan.patience)]
    if plan.checkpoints is not None:
        callbacks.append(SaveEveryEpoch(plan.checkpoints / _CHECKPOINT))
    own: dict[str, Any] = dict(plan.trainer)
    callbacks += own.pop("callbacks", [])
    options: dict[str, Any] = {
        "max_epochs": plan.max_epochs,
        "precision": plan.precision,
        "devices": 1,
        "callbacks": callbacks,
        "logger": plan.logger or False,
        "enable_checkpointing": plan.checkpoints is not None,
        "enable_progress_bar": sys.stderr.isatty() if plan.progress is None else plan.progress,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0 if keep is None else 1.0,
        "gradient_clip_val": 1.0,
    }
    return Trainer(**{**options, **own})


def make_logger(kind: Any, folder: Path) -> Any:
    """A Lightning logger from "csv", "tensorboard" or "wandb"; None and loggers pass. Raises ConfigError for others."""
    if not isinstance(kind, str):
        return kind
    if kind not in _LOGGERS:
        raise ConfigError(f"unknown logger {kind!r}; known: {', '.join(_LOGGERS)}, or a logger of Lightning")
    try:
        return _LOGGERS[kind](save_dir=folder)
    except ModuleNotFoundError as error:
        raise ConfigError(f"the logger {kind!r} needs a package that is not installed: {error}") from error


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


@torch.no_grad()
def predict(
    network: FusionNetwork, table: Table, size: int, contexts: Sequence[NDArray[np.intp]] | None = None
) -> NDArray[np.float64]:
    """Logits (n, k) of all rows, in batches of ``size`` rows or contexts."""
    network.eval()
    answers = []
    for batch in Batches(table, np.zeros(len(table), dtype=np.intp), size, contexts):
        logits = network(**batch["inputs"])
        answers.append(logits if contexts is None else logits[batch["targets"] != UNLABELLED])
    logits = torch.cat(answers).double().numpy()
    if contexts is None:
        return np.asarray(logits)
    ordered = np.empty_like(logits)
    ordered[np.concatenate(contexts)] = logits
    return ordered


def copies(modules: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Modules to train, so that those a user handed over stay as they were."""
    return None if modules is None else {name: copy.deepcopy(module) for name, module in modules.items()}
