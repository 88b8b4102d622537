"""How the networks of the voice recipe learn: batches, the loss over the labels that a corpus has, and the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.labels import VOICE
from affuse.loop import epoch_seed, fit
from affuse.training.inputs import Draw
from affuse.training.networks.voice_layers import FunctionalsNetwork, VoiceNetwork
from recipes.learning import TrainBatches, loop_config, one_cycle
from recipes.voice_data import CORPORA, Clips, Features, augment

__all__ = ["Fold", "VoiceConfig", "VoiceTraining", "label_masks", "learn_functionals", "learn_network", "masked_loss"]

# Logits of the labels that a corpus does not have, so that a network never learns "German, so not surprised".
_IMPOSSIBLE = -1e4


@dataclass(frozen=True)
class VoiceConfig:
    """Everything that decides a run."""

    epochs: int = 45
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.995
    dropout: float = 0.3
    label_smoothing: float = 0.1
    mixup: float = 0.3
    mixup_share: float = 0.5
    n_mels: int = 80
    widths: tuple[int, ...] = (24, 32, 64, 96)
    frames: tuple[int, int] = (160, 320)
    speeds: tuple[float, ...] = (1.0, 0.85, 0.925, 1.075, 1.175)
    channel_share: float = 0.3  # of what is drawn, goes through one of `voice_data.CHANNELS`
    functionals_copies: int = 8
    functionals_epochs: int = 20
    functionals_batch: int = 128
    functionals_hidden: int = 128
    functionals_dropout: float = 0.5
    functionals_weight_decay: float = 0.1
    folds: int = 5
    embedding: int = 64
    seed: int = 1
    threads: int = 1
    bfloat16: bool = True  # matrix units of recent processors; others compute the same, slower


@dataclass(frozen=True)
class Fold:
    """What the networks of one fold learn from: all clips, the rows (m,) among them that may be used, and a seed."""

    clips: Clips
    rows: np.ndarray
    seed: int


def label_masks(corpus: np.ndarray) -> Tensor:
    """Additive masks (n, 9) that take away the labels which the corpus of a clip does not have."""
    masks = {
        name: torch.tensor([0.0 if label in labels.labels else _IMPOSSIBLE for label in VOICE.labels])
        for name, labels in CORPORA.items()
    }
    return torch.stack([masks[name] for name in corpus])


def masked_loss(logits: Tensor, targets: Tensor, masks: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy (n,) over the labels that the masks leave; label smoothing is shared among them only."""
    log_p = F.log_softmax(logits + masks, dim=1)
    possible = (masks == 0).float()
    even = (log_p * possible).sum(dim=1) / possible.sum(dim=1)
    return -(1 - smoothing) * log_p.gather(1, targets[:, None])[:, 0] - smoothing * even


class VoiceTraining(LightningModule):
    """Masked cross-entropy of a network that answers inputs with logits (n, 9), or with an embedding and those.

    Where the batch holds "share", its inputs are mixed, and so is the loss (mixup, Zhang et al. 2018,
    arXiv:1710.09412).

    Parameters
    ----------
    network: learns. groups: of its weights, for AdamW. rate: the largest one. smoothing: of labels. warmup: share of
    the steps in which the rate rises.
    """

    def __init__(
        self, network: nn.Module, groups: list[dict[str, Any]], rate: float, smoothing: float, warmup: float
    ) -> None:
        super().__init__()
        self.network, self.groups = network, groups
        self.rate, self.smoothing, self.warmup = rate, smoothing, warmup

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """Mean loss of a batch."""
        answer = self.network(batch["inputs"])
        logits = (answer[1] if isinstance(answer, tuple) else answer).float()
        loss = masked_loss(logits, batch["targets"], batch["masks"], self.smoothing)
        if "share" in batch:
            other = masked_loss(logits, batch["other_targets"], batch["other_masks"], self.smoothing)
            loss = batch["share"] * loss + (1 - batch["share"]) * other
        mean = loss.mean()
        self.log("train_loss", mean, on_step=False, on_epoch=True, batch_size=len(logits))
        return mean

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW (arXiv:1711.05101) with a one-cycle rate."""
        return one_cycle(torch.optim.AdamW(self.groups, self.rate), self, self.warmup)


class SpectrumBatches:
    """Batches of augmented log-mel: pieces of random length, half of the batches mixed, drawn anew every epoch."""

    def __init__(self, features: Features, fold: Fold, config: VoiceConfig, epoch: Callable[[], int]) -> None:
        self.features, self.fold, self.config, self.epoch = features, fold, config, epoch
        self.targets = torch.from_numpy(fold.clips.targets)
        self.masks = label_masks(fold.clips.corpus)

    def __len__(self) -> int:
        return max(1, len(self.fold.rows) // self.config.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        draw = Draw.of(self.fold.seed, self.epoch())
        order = torch.from_numpy(draw.rng.permutation(self.fold.rows))
        for rows in order.split(self.config.batch_size)[: len(self)]:
            n_frames = int(draw.rng.integers(self.config.frames[0], self.config.frames[1] + 1))
            inputs = augment(self.features.draw(rows, n_frames, draw.generator), draw.generator)
            batch = {"inputs": inputs, "targets": self.targets[rows], "masks": self.masks[rows]}
            yield self._mixed(batch, rows, draw) if draw.rng.random() < self.config.mixup_share else batch

    def _mixed(self, batch: dict[str, Any], rows: Tensor, draw: Draw) -> dict[str, Any]:
        """Every clip blended with another one of the batch, all with the same share."""
        partner = torch.from_numpy(draw.rng.permutation(len(rows)))
        share = float(draw.rng.beta(self.config.mixup, self.config.mixup))
        others = rows[partner]
        return {
            "inputs": share * batch["inputs"] + (1 - share) * batch["inputs"][partner],
            "targets": batch["targets"],
            "masks": batch["masks"],
            "other_targets": self.targets[others],
            "other_masks": self.masks[others],
            "share": share,
        }


def learn_network(features: Features, fold: Fold, config: VoiceConfig, run: Path) -> VoiceNetwork:
    """A network over log-mel, with averaged weights; its checkpoints are in ``run``, from which it resumes."""
    torch.manual_seed(fold.seed)
    network = VoiceNetwork(config.n_mels, config.widths, len(VOICE), config.dropout)
    network = network.to(memory_format=torch.channels_last)
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},  # norms and biases
    ]
    module = VoiceTraining(network, groups, config.learning_rate, config.label_smoothing, warmup=0.15)
    batches = SpectrumBatches(features, fold, config, lambda: module.current_epoch)
    loop = loop_config(replace(config, seed=fold.seed), f"voice, {run.name}", run, ema_decay=config.ema_decay)
    fit(module, TrainBatches(batches), loop, monitor=None)
    return network


class RowBatches:
    """Batches of rows of a table of functionals, drawn with replacement; an epoch is as long as the table."""

    def __init__(self, table: Tensor, fold: Fold, size: int, epoch: Callable[[], int]) -> None:
        owners = np.repeat(fold.rows, table.shape[1])
        self.inputs = table[torch.from_numpy(fold.rows)].flatten(0, 1)
        self.targets = torch.from_numpy(fold.clips.targets[owners])
        self.masks = label_masks(fold.clips.corpus[owners])
        self.size, self.seed, self.epoch = size, fold.seed, epoch

    def __len__(self) -> int:
        return max(1, len(self.inputs) // self.size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch()))
        for _ in range(len(self)):
            rows = torch.randint(len(self.inputs), (self.size,), generator=generator)
            yield {"inputs": self.inputs[rows], "targets": self.targets[rows], "masks": self.masks[rows]}


def learn_functionals(table: Tensor, fold: Fold, config: VoiceConfig) -> FunctionalsNetwork:
    """A perceptron over functionals (n, 1 + copies, d); it takes seconds, so no checkpoint is kept."""
    torch.manual_seed(fold.seed)
    inputs = table[torch.from_numpy(fold.rows)].flatten(0, 1)
    perceptron = FunctionalsNetwork(
        inputs.mean(dim=0),
        inputs.std(dim=0) + 1e-3,
        len(VOICE),
        config.functionals_hidden,
        config.functionals_dropout,
    )
    groups = [{"params": list(perceptron.parameters()), "weight_decay": config.functionals_weight_decay}]
    module = VoiceTraining(perceptron, groups, 2e-3, config.label_smoothing, warmup=0.01)
    batches = RowBatches(table, fold, config.functionals_batch, lambda: module.current_epoch)
    own = replace(config, seed=fold.seed, epochs=config.functionals_epochs, bfloat16=False)
    fit(module, TrainBatches(batches), loop_config(own, "voice, functionals", None), monitor=None)
    return perceptron
