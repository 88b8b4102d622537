"""What the loop of affuse trains where experts learn: batches of samples, the loss, rates by layer and by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor
from torch.nn import functional as F

from affuse.errors import ConfigError
from affuse.training.augment import adversarial_step, mixup, spec_augment
from affuse.training.batching import class_weights
from affuse.training.config import TrainingConfig
from affuse.training.inputs import Draw, Inputs, SpectrumAugmentation
from affuse.training.low_resource.transfer import Group, parameter_groups
from affuse.training.networks.base import Network
from affuse.training.schedules import learning_rate_factor

__all__ = ["MIXABLE", "Batches", "Classification", "Data", "Split"]

MIXABLE = ("waveform", "images", "clips")
"""Readers for which a blend of two samples is still one."""


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one split, ready for a network.

    ``targets`` (n, k) are shares that sum to 1; ``action_units`` (n, u), NaN where unknown, are for networks that tell
    those as well.
    """

    inputs: Inputs
    targets: np.ndarray
    action_units: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)


class Batches:
    """Batches of a split: ``{"inputs", "targets"}`` of tensors.

    Parameters
    ----------
    split: the samples. config: size, seed, mixup and, for "sampler", that rare labels are drawn more often.
    epoch: asked at the start of every pass over what is learned from; None gives the rows as they are, in order.
    rank, world: with several devices each takes every world-th batch.
    """

    def __init__(
        self,
        split: Split,
        config: TrainingConfig,
        epoch: Callable[[], int] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.split, self.config, self.epoch, self.rank, self.world = split, config, epoch, rank, world
        assert config.batch_size is not None
        self.size = min(config.batch_size, len(split))

    def __len__(self) -> int:
        if self.epoch is None:
            return -(-len(self.split) // self.size)
        # The last, smaller batch is left out: batch norm and contrast need company.
        return max(1, len(self.split) // self.size // self.world)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.epoch is None:
            yield from self._in_order()
            return
        epoch = self.epoch()
        order = self._order(np.random.default_rng([self.config.seed, epoch]))
        draw = Draw.of(self.config.seed, epoch, self.rank)
        batches = max(1, len(order) // self.size)
        for number in range(self.rank, len(self) * self.world, self.world):
            start = number % batches * self.size
            yield self._mixed(order[start : start + self.size], draw)

    def _in_order(self) -> Iterator[dict[str, Any]]:
        for rows in np.array_split(np.arange(len(self.split)), len(self)):
            yield {"inputs": self.split.inputs.plain(rows), "targets": self._targets(rows)}

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        if self.config.imbalance != "sampler":
            return rng.permutation(len(self.split))
        weights = self.split.targets @ class_weights(self.split.targets.sum(axis=0))
        return rng.choice(len(self.split), len(self.split), p=weights / weights.sum())

    def _mixed(self, rows: np.ndarray, draw: Draw) -> dict[str, Any]:
        inputs, targets = self.split.inputs.learning(rows, draw), self._targets(rows)
        if self.config.mixup:
            (name,) = inputs
            inputs[name], targets = mixup(inputs[name], targets, self.config.mixup, draw.generator)
        batch = {"inputs": inputs, "targets": targets}
        if self.split.action_units is not None:
            batch["action_units"] = torch.from_numpy(self.split.action_units[rows].astype(np.float32))
        return batch

    def _targets(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(self.split.targets[rows].astype(np.float32))


class Data(LightningDataModule):
    """What is learned from, and what early stopping looks at (None where nothing does)."""

    def __init__(self, train: Split, held_out: Split | None, config: TrainingConfig) -> None:
        super().__init__()
        self.train_split, self.held_out, self.config = train, held_out, config

    def train_dataloader(self) -> Batches:
        """Batches of this process, drawn from the seed of the epoch."""
        trainer = self.trainer
        assert trainer is not None
        return Batches(
            self.train_split, self.config, lambda: trainer.current_epoch, trainer.global_rank, trainer.world_size
        )

    def val_dataloader(self) -> Batches:
        """Batches in order; every process sees all of them."""
        assert self.held_out is not None
        return Batches(self.held_out, self.config)


class Classification(LightningModule):
    """Cross-entropy with shares as targets, by AdamW (arXiv:1711.05101) with a rate for every layer and step.

    Logs train_loss, and val_loss, val_accuracy and val_uar (unweighted average recall) on what was set aside.

    Parameters
    ----------
    network: learns. config: how. weights: of labels (k,) in the loss, or None. spectrum: masks on log-mel, or None.
    """

    def __init__(
        self,
        network: Network,
        config: TrainingConfig,
        weights: np.ndarray | None = None,
        spectrum: SpectrumAugmentation | None = None,
    ) -> None:
        super().__init__()
        self.network, self.config, self.spectrum = network, config, spectrum
        if spectrum is not None and not network.has_spectrum:
            raise ConfigError("augmentation.spectrum is for networks over log-mel; leave it out for this one")
        self.register_buffer("weights", None if weights is None else torch.from_numpy(weights).float(), False)
        self._hits: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """Keep what is frozen from moving its running means; its rate is 0 (`configure_optimizers`)."""
        if self.current_epoch < self.config.freeze_until:
            for name, child in self.network.named_children():
                child.train(name == "head")
        elif self.current_epoch == self.config.freeze_until:
            self.network.train()

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """Loss of a batch."""
        inputs = self._attacked(batch) if self.config.adversarial else batch["inputs"]
        output = self._answer(inputs)
        loss = F.cross_entropy(
            output.logits, batch["targets"], weight=self.weights, label_smoothing=self.config.label_smoothing
        )
        if "action_units" in batch:
            loss = loss + self.network.auxiliary_loss(output, batch["action_units"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["targets"]), sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        """Loss and right answers of a batch."""
        logits, targets = self.network(**batch["inputs"]).logits.float(), batch["targets"]
        loss = F.cross_entropy(logits, targets)
        self.log("val_loss", loss, on_epoch=True, batch_size=len(targets), sync_dist=True)
        self._hits.append((targets.argmax(dim=1), logits.argmax(dim=1)))

    def on_validation_epoch_end(self) -> None:
        """Accuracy, and recall as the mean over the labels that occur."""
        truth, answers = (torch.cat(column) for column in zip(*self._hits, strict=True))
        self._hits.clear()
        hits = (truth == answers).float()
        recalls = [hits[truth == label].mean() for label in truth.unique()]
        self.log("val_accuracy", hits.mean(), sync_dist=True)
        self.log("val_uar", torch.stack(recalls).mean(), sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW whose rate follows `learning_rate_factor`, smaller in earlier layers, and 0 in frozen ones."""
        config = self.config
        assert config.learning_rate is not None
        groups = parameter_groups(self.network, config.learning_rate, config.layer_decay)
        optimizer = torch.optim.AdamW(
            [{"params": list(g.parameters), "lr": g.rate} for g in groups], weight_decay=config.weight_decay
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        epochs = max(1, self.trainer.max_epochs or 1)

        def course(group: Group) -> Callable[[int], float]:
            frozen_steps = 0 if group.name.startswith("head") else config.freeze_until * steps / epochs
            return lambda step: (
                learning_rate_factor(step / steps, config.schedule, config.warmup) * (step >= frozen_steps)
            )

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [course(group) for group in groups])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _attacked(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Inputs of which every second sample is changed against the network as it is now."""
        ((name, own),) = batch["inputs"].items()
        with torch.enable_grad():
            changed = own.detach().float().requires_grad_(True)
            loss = F.cross_entropy(self._answer({name: changed}).logits, batch["targets"])
            (gradient,) = torch.autograd.grad(loss, changed)
        return {name: adversarial_step(changed.detach(), gradient, self.config.adversarial)}

    def _answer(self, inputs: dict[str, Tensor]) -> Any:
        """What the network makes of inputs in training."""
        if self.spectrum is None:
            return self.network(**inputs)
        features = self.network.features(**inputs)
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))  # out of the epoch's own seed
        masked = spec_augment(features.transpose(1, 2), generator, **asdict(self.spectrum)).transpose(1, 2)
        return self.network.classify(masked)
