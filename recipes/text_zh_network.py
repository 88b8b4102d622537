"""Convolutional networks of the Chinese text recipe: over characters and what is known of their words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F

from affuse.experts.text.chinese import Alphabet, clip_and_pad
from affuse.labels import SMP2020
from affuse.loop import epoch_seed, fit
from affuse.training.batching import batches_by_length, class_weights, pad
from affuse.training.seeds import seed_everything
from recipes.learning import TrainBatches, loop_config, one_cycle
from recipes.text_zh_data import ZhConfig, ZhRows
from recipes.text_zh_vectors import co_occurrence, neighbour_vectors
from recipes.text_zh_words import WordTable

__all__ = ["NetworkInputs", "ZhNetwork", "ZhTraining", "fit_network", "inputs_of", "logits_of"]

_WARMUP = 0.06


class ZhNetwork(nn.Module):
    """Ids of characters (n, t) and numbers of their words (n, t, d) in; emotion logits (n, 6) and features (n, f) out.

    ``n_numbers`` is d: what the word table says of a word. Zeros stand for no word.
    """

    def __init__(self, n_characters: int, n_numbers: int, config: ZhConfig) -> None:
        super().__init__()
        width = config.width
        self.characters = nn.Embedding(n_characters, width)
        nn.init.normal_(self.characters.weight, std=0.1)
        self.words = nn.Linear(n_numbers, width, bias=False)
        nn.init.normal_(self.words.weight, std=0.2 / n_numbers**0.5)
        self.convolutions = nn.ModuleList([nn.Conv1d(width, width, size) for size in (2, 3, 4)])
        self.mask_share = config.mask_share
        self.dropout = nn.Dropout(config.dropout)
        self.emotion = nn.Linear(6 * width, len(SMP2020))

    def forward(self, characters: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        present = (characters > 0).float()
        single = self.characters(characters) * self._masked(present)
        word = self.words(numbers) * self._masked(present)
        root = present.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        sums = torch.cat([part.sum(dim=1) for part in (single, word)], dim=1) / root * 0.5
        stream = (single + word).transpose(1, 2)
        peaks = [torch.relu(convolve(stream)).amax(dim=2) for convolve in self.convolutions]
        features = torch.cat([*peaks, sums, word.amax(dim=1)], dim=1)
        return self.emotion(self.dropout(features)), features

    @torch.no_grad()
    def start_from(self, vectors: np.ndarray) -> None:
        """Put vectors (n_characters, width) into the table; rows of NaN stay as they are."""
        told = torch.from_numpy(~np.isnan(vectors).any(axis=1))
        self.characters.weight[told] = torch.from_numpy(vectors).float()[told]

    def _masked(self, present: torch.Tensor) -> torch.Tensor:
        if self.training:
            present = present * (torch.rand(present.shape) > self.mask_share)
        return present.unsqueeze(-1)


@dataclass(frozen=True)
class NetworkInputs:
    """What the networks read of every row: ids of characters and of their words, (t,) each.

    Characters start from ``vectors`` (n_characters, width), NaN unknown; ``numbers`` (w + 1, d) tell of the words, row
    0 of none.
    """

    characters: list[np.ndarray]
    words: list[np.ndarray]
    vectors: np.ndarray
    numbers: torch.Tensor

    def batch(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Characters (n, t) of ``rows``, and their words' numbers (n, t, d)."""
        characters, words = (pad([ids[i] for i in rows])[0] for ids in (self.characters, self.words))
        return characters, self.numbers[words]

    @property
    def lengths(self) -> np.ndarray:
        """Number of ids of every row (n,)."""
        return np.array([len(ids) for ids in self.characters])


def inputs_of(
    texts: list[str], cuts: list[list[str]], alphabet: Alphabet, table: WordTable, config: ZhConfig
) -> NetworkInputs:
    """What the networks read of ``texts``, which ``cuts`` holds as words."""
    characters = [alphabet.encode(text) for text in texts]
    words = [clip_and_pad(table.words.ids(cut)) for cut in cuts]
    vectors = neighbour_vectors(co_occurrence(characters, alphabet.n_characters), config.width)
    return NetworkInputs(characters, words, vectors, torch.from_numpy(table.numbers).float())


class FoldBatches:
    """Batches of rows of like length, drawn anew from the seed and the number that ``epoch`` gives."""

    def __init__(
        self, rows: ZhRows, inputs: NetworkInputs, chosen: np.ndarray, config: ZhConfig, epoch: Callable[[], int]
    ) -> None:
        self.rows, self.inputs, self.chosen, self.config, self.epoch = rows, inputs, chosen, config, epoch
        self.lengths = inputs.lengths[chosen]

    def __len__(self) -> int:
        return -(-len(self.chosen) // self.config.batch_size)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(epoch_seed(self.config.seed, self.epoch()))
        for places in batches_by_length(self.lengths, self.config.batch_size, rng):
            batch = self.chosen[places]
            characters, numbers = self.inputs.batch(batch)
            targets = torch.from_numpy(self.rows.emotions[batch])
            yield {"characters": characters, "numbers": numbers, "targets": targets}


class ZhTraining(LightningModule):
    """What the loop trains: a network, its loss and its schedule."""

    def __init__(self, network: ZhNetwork, weights: np.ndarray, config: ZhConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.register_buffer("weights", torch.from_numpy(weights).float(), persistent=False)

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        """Cross-entropy of a batch, in which rare emotions weigh more."""
        logits, _features = self.network(batch["characters"], batch["numbers"])
        loss = F.cross_entropy(logits, batch["targets"], self.weights)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(logits))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW along one cycle."""
        config = self.config
        optimizer = torch.optim.AdamW(self.network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        return one_cycle(optimizer, self, _WARMUP)


def fit_network(rows: ZhRows, inputs: NetworkInputs, fold: int, config: ZhConfig, out: Path | None) -> ZhNetwork:
    """Train one network on all rows that have an emotion but those of ``fold``; goes on from checkpoints in ``out``."""
    own = replace(config, seed=config.seed + fold)
    seed_everything(own.seed, own.threads)
    chosen = np.flatnonzero((rows.emotions >= 0) & (rows.folds != fold))
    counts = np.bincount(rows.emotions[chosen], minlength=len(SMP2020))
    network = ZhNetwork(len(inputs.vectors), inputs.numbers.shape[1], own)
    network.start_from(inputs.vectors)
    module = ZhTraining(network, class_weights(counts, own.class_weight_power), own)
    batches = FoldBatches(rows, inputs, chosen, own, lambda: module.current_epoch)
    fit(module, TrainBatches(batches), loop_config(own, f"fold {fold + 1}", out), monitor=None)
    return network


@torch.no_grad()
def logits_of(network: ZhNetwork, inputs: NetworkInputs, chosen: np.ndarray) -> np.ndarray:
    """Emotion logits (len(chosen), 6) of the rows ``chosen``, computed in batches of like length."""
    logits = np.empty((len(chosen), len(SMP2020)))
    order = np.argsort(inputs.lengths[chosen], kind="stable")
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        logits[part] = network(*inputs.batch(chosen[part]))[0].numpy()
    return logits
