"""Training of joint networks by `affuse.loop`: batches of a table, modality dropout, the loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from affuse import loop
from affuse.fusion.networks.inputs import Table
from affuse.fusion.networks.parts import FusionNetwork, Presence
from affuse.loop import BestWeights, LoopConfig

__all__ = [
    "UNLABELLED",
    "Batches",
    "LoopConfig",
    "Recipe",
    "Split",
    "Splits",
    "Training",
    "copies",
    "drop_modalities",
    "predict",
    "train",
]

UNLABELLED = -1
"""Target of rows without a label, and of padding."""


@dataclass(frozen=True)
class Recipe:
    """How a joint network learns. ``loop`` says for how long and where; the rest are parameters of `NetworkFuser`."""

    learning_rate: float
    weight_decay: float
    modality_dropout: float
    batch_size: int
    loop: LoopConfig


class Batches:
    """Batches of a table, drawn anew every epoch from a seed: rows, or whole contexts padded to the longest.

    A batch is ``{"inputs": {"features", "present"[, "lengths"]}, "targets"}`` of tensors. A plain iterable, because
    cutting whole batches out of arrays is ten times quicker than a DataLoader that collates rows.

    Parameters
    ----------
    table : Table
        The rows.
    targets : array of int of shape (n,)
        Columns of the labels, or UNLABELLED.
    size : int
        Rows or contexts a batch.
    contexts : sequence of arrays of int, optional
        Rows of every context.
    seed : int, optional
        Seed of the order; None keeps the order.
    epoch : callable
        Gives the number of the epoch, at the start of every pass.
    rank, world : int
        With several devices each takes every world-th batch.
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
    network : FusionNetwork
        The module to train.
    recipe : Recipe
        How it learns.
    per_step : bool
        Whether modality dropout acts on every step by itself.
    """

    def __init__(self, network: FusionNetwork, recipe: Recipe, per_step: bool) -> None:
        super().__init__()
        self.network, self.recipe, self.per_step = network, recipe, per_step

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        # Loss of a batch with modalities dropped
        kept = drop_modalities(batch["inputs"]["present"], self.recipe.modality_dropout, self.per_step)
        loss = self._loss(batch, kept)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["targets"]), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        # Loss of a batch with everything that is there
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
        # AdamW (arXiv:1711.05101)
        return torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay
        )


class _Data(LightningDataModule):
    """Batches of the train and dev splits, those of this process among all."""

    def __init__(self, table: Table, targets: NDArray[np.intp], recipe: Recipe, splits: Splits) -> None:
        super().__init__()
        self.table, self.targets, self.recipe, self.splits = table, targets, recipe, splits

    def train_dataloader(self) -> Batches:
        """Batches of this process in an order drawn from the seed."""
        trainer = self.trainer
        assert trainer is not None
        place = {"rank": trainer.global_rank, "world": trainer.world_size}
        return self.splits.train.batches(self, seed=self.recipe.loop.seed, epoch=lambda: trainer.current_epoch, **place)

    def val_dataloader(self) -> Batches:
        """All batches of the dev split, in order; not called without one."""
        assert self.splits.dev is not None
        return self.splits.dev.batches(self)


@dataclass(frozen=True)
class Split:
    """Rows (n,) of one split and, where a network reads contexts, those contexts."""

    rows: NDArray[np.intp]
    contexts: Sequence[NDArray[np.intp]] | None = None

    def batches(self, data: _Data, **options: Any) -> Batches:
        """Batches of these rows."""
        if self.contexts is not None:
            return Batches(data.table, data.targets, data.recipe.batch_size, self.contexts, **options)
        return Batches(data.table.select(self.rows), data.targets[self.rows], data.recipe.batch_size, **options)


@dataclass(frozen=True)
class Splits:
    """The train split, and the dev split that early stopping uses (None trains for all epochs)."""

    train: Split
    dev: Split | None


def train(
    network: FusionNetwork, table: Table, targets: NDArray[np.intp], recipe: Recipe, splits: Splits
) -> BestWeights | None:
    """Train ``network`` in place and return what early stopping kept; the global random state is left as it was.

    Resumes from the folder of checkpoints where it holds one, which is read as plain tensors.
    """
    module = Training(network, recipe, per_step=splits.train.contexts is not None)
    data = _Data(table, targets, recipe, splits)
    return loop.fit(module, data, recipe.loop, monitor=None if splits.dev is None else "val_loss")


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
