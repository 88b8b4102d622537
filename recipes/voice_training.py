"""How the heads of the voice recipe learn: batches, the loss over the labels that a corpus has, and both models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.labels import VOICE
from affuse.loop import epoch_seed, fit
from recipes.learning import TrainBatches, loop_config, one_cycle
from recipes.voice_data import CORPORA, Clips
from recipes.voice_network import VoiceHead

__all__ = ["Fold", "RowBatches", "VoiceConfig", "VoiceTraining", "label_masks", "learn_head", "masked_loss"]

# Logits of the labels that a corpus does not have, so that a network never learns "German, so not surprised".
_IMPOSSIBLE = -1e4


@dataclass(frozen=True)
class VoiceConfig:
    """Everything that decides a run."""

    layers: int = 2  # of the encoder; the third and fourth tell less of emotions, and cost more
    copies: int = 8
    channel_share: float = 0.3  # of the copies, goes through one of `voice_data.CHANNELS`
    epochs: int = 36  # of as many rows as there are clips
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    hidden: int = 56  # more would not fit into the 80 MB of all weights
    dropout: float = 0.5
    label_smoothing: float = 0.1
    mixup: float = 0.3
    mixup_share: float = 0.5
    corpus_power: float = 0.5  # a corpus of n clips is drawn in proportion to n to the power 1 - this
    linear_share: float = 0.2
    linear_penalty: float = 0.001  # scikit-learn's C
    arousal_penalty: float = 3.0  # of the ridge regression of arousal, in mean variances of statistics
    folds: int = 5
    embedding: int = 32
    seed: int = 1
    threads: int = 1
    bfloat16: bool = False


@dataclass(frozen=True)
class Fold:
    """What the head of one fold learns from: all clips, the rows (m,) among them that may be used, and a seed."""

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
    """Masked cross-entropy of a perceptron over standardised statistics.

    Where the batch holds "share", its inputs are mixed, and so is the loss (mixup, Zhang et al. 2018,
    arXiv:1710.09412).
    """

    def __init__(self, network: nn.Module, config: VoiceConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        """Mean loss of a batch."""
        logits = self.network(batch["inputs"]).float()
        smoothing = self.config.label_smoothing
        loss = masked_loss(logits, batch["targets"], batch["masks"], smoothing)
        if "share" in batch:
            other = masked_loss(logits, batch["other_targets"], batch["other_masks"], smoothing)
            loss = batch["share"] * loss + (1 - batch["share"]) * other
        mean = loss.mean()
        self.log("train_loss", mean, on_step=False, on_epoch=True, batch_size=len(logits))
        return mean

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW (arXiv:1711.05101) with a one-cycle rate."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(), self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        return one_cycle(optimizer, self, warmup=0.1)


def row_weights(corpus: np.ndarray, power: float) -> np.ndarray:
    """Weights (n,) of rows, which add up to 1: each n_c ** -``power``, where its corpus has n_c rows."""
    _, places, counts = np.unique(corpus, return_inverse=True, return_counts=True)
    weights = counts.astype(float)[places] ** -power
    return np.asarray(weights / weights.sum())


class RowBatches:
    """Batches of standardised statistics (n, 1 + copies, d), drawn with replacement; some of them mixed.

    An epoch is as long as there are clips.
    """

    def __init__(self, table: Tensor, fold: Fold, config: VoiceConfig, epoch: Callable[[], int]) -> None:
        owners = np.repeat(fold.rows, table.shape[1])
        corpus = fold.clips.corpus[owners]
        self.inputs = table[torch.from_numpy(fold.rows)].flatten(0, 1)
        self.targets = torch.from_numpy(fold.clips.targets[owners])
        self.masks = label_masks(corpus)
        self.weights = row_weights(corpus, config.corpus_power)
        self.clips, self.config, self.seed, self.epoch = len(fold.rows), config, fold.seed, epoch

    def __len__(self) -> int:
        return max(1, self.clips // self.config.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rng = np.random.default_rng(epoch_seed(self.seed, self.epoch()))
        for _ in range(len(self)):
            rows = torch.from_numpy(rng.choice(len(self.inputs), self.config.batch_size, p=self.weights))
            batch = {"inputs": self.inputs[rows], "targets": self.targets[rows], "masks": self.masks[rows]}
            yield self._mixed(batch, rng) if rng.random() < self.config.mixup_share else batch

    def _mixed(self, batch: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Every row blended with another one of the batch, all with the same share."""
        partner = torch.from_numpy(rng.permutation(len(batch["inputs"])))
        share = float(rng.beta(self.config.mixup, self.config.mixup))
        return {
            **batch,
            "inputs": share * batch["inputs"] + (1 - share) * batch["inputs"][partner],
            "other_targets": batch["targets"][partner],
            "other_masks": batch["masks"][partner],
            "share": share,
        }


def learn_head(table: Tensor, fold: Fold, config: VoiceConfig) -> VoiceHead:
    """The head of one fold, from statistics (n, 1 + copies, d); it takes seconds, so no checkpoint is kept."""
    torch.manual_seed(fold.seed)
    rows = table[torch.from_numpy(fold.rows)].flatten(0, 1)
    mean, spread = rows.mean(dim=0), rows.std(dim=0) + 1e-3
    head = VoiceHead(mean, spread, len(VOICE), config.hidden, config.dropout, config.linear_share)
    module = VoiceTraining(head.perceptron, config)
    batches = RowBatches(head.standardised(table), fold, config, lambda: module.current_epoch)
    own = replace(config, seed=fold.seed)
    fit(module, TrainBatches(batches), loop_config(own, "voice", None), monitor=None)
    _fit_linear(head, head.standardised(table[:, 0]), fold, config)
    return head.eval()


def _fit_linear(head: VoiceHead, plain: Tensor, fold: Fold, config: VoiceConfig) -> None:
    """Logistic regression on standardised statistics (n, d) of the clips as they are, all labels against each other."""
    weights = row_weights(fold.clips.corpus[fold.rows], config.corpus_power) * len(fold.rows)
    model = LogisticRegression(C=config.linear_penalty, max_iter=150, tol=1e-3)
    model.fit(plain[torch.from_numpy(fold.rows)].numpy(), fold.clips.targets[fold.rows], sample_weight=weights)
    weight, bias = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # one row says both
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.fill_(_IMPOSSIBLE)  # of labels that no clip had
        head.linear.weight[model.classes_] = torch.from_numpy(weight).float()
        head.linear.bias[model.classes_] = torch.from_numpy(bias).float()
