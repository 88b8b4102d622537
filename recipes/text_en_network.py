"""The network of the English text recipe: heads by domain, their calibration, and how they learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F

from affuse.labels import EKMAN, SENTIMENT
from affuse.training.batching import batches_by_length, pad
from affuse.training.networks.backbones import minilm_folder
from recipes.learning import one_cycle
from recipes.text_en_data import COMMENTS, DOMAINS, EMOTIONAL, NEUTRAL, NO_LABEL, POLAR, REVIEWS, TextConfig

__all__ = [
    "Calibration",
    "DistillationTargets",
    "Teacher",
    "TextNetwork",
    "TextTraining",
    "TextWithProbabilities",
    "build",
    "distillation_targets",
]


class TextNetwork(nn.Module):
    """Token ids and mask (n, t) in; embedding (n, d) and the logits of all heads out.

    Emotions (n, 2, 7) of comments and dialogue, sentiments (n, 3, 3) of all domains, and the domain (n, 3).
    """

    def __init__(self, encoder: nn.Module, width: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.emotion = nn.Linear(width, len(EMOTIONAL) * len(EKMAN))
        self.sentiment = nn.Linear(width, len(DOMAINS) * len(SENTIMENT))
        self.domain = nn.Linear(width, len(DOMAINS))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).to(states.dtype)
        embedding = (states * weights).sum(dim=1) / weights.sum(dim=1)
        dropped = self.dropout(embedding)
        emotions = self.emotion(dropped).unflatten(1, (len(EMOTIONAL), len(EKMAN)))
        sentiments = self.sentiment(dropped).unflatten(1, (len(DOMAINS), len(SENTIMENT)))
        return embedding, emotions.float(), sentiments.float(), self.domain(dropped).float()


def build(config: TextConfig, kept: np.ndarray) -> TextNetwork:
    """Load the base, keep the rows ``kept`` of its word embeddings, and add the heads."""
    from transformers import BertModel

    # Plain attention is as quick as the fused one on short texts, and exports to operators that quantise.
    encoder = BertModel.from_pretrained(
        minilm_folder(),
        add_pooling_layer=False,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,  # masked and mistyped words regularise enough, and cost nothing
        attention_probs_dropout_prob=0.0,
    )
    words = encoder.embeddings.word_embeddings.weight.detach()[torch.from_numpy(kept)]
    encoder.embeddings.word_embeddings = nn.Embedding.from_pretrained(words.clone(), freeze=False)
    return TextNetwork(encoder, encoder.config.hidden_size, config.dropout).train()


class Calibration(nn.Module):
    """From the heads' logits to one answer: emotions (n, 7) and sentiment (n, 3).

    Every head has a temperature, those of emotions also offsets (2, 7) that favour rare labels. The gate mixes as if
    all domains were equally likely: their ``shares`` (3,) of the training rows are divided out. Reviews have no label
    for neutral: there the comments' head gives its probability, and their own head splits the rest.
    """

    def __init__(self, emotion: np.ndarray, offsets: np.ndarray, sentiment: np.ndarray, shares: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("log_shares", torch.log(torch.tensor(shares, dtype=torch.float32)))
        self.register_buffer("emotion", torch.tensor(emotion, dtype=torch.float32)[:, None])
        self.register_buffer("offsets", torch.tensor(offsets, dtype=torch.float32))
        self.register_buffer("sentiment", torch.tensor(sentiment, dtype=torch.float32)[:, None])

    def forward(
        self, emotions: torch.Tensor, sentiments: torch.Tensor, domains: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gate = torch.softmax(domains - self.log_shares, dim=1).unsqueeze(2)
        emotional = gate[:, list(EMOTIONAL)]
        shares = torch.softmax(emotions / self.emotion + self.offsets, dim=2)
        of_emotions = (shares * emotional).sum(dim=1) / emotional.sum(dim=1)
        logits = sentiments / self.sentiment
        three = torch.softmax(logits[:, list(EMOTIONAL)], dim=2)
        neutral = three[:, COMMENTS, NEUTRAL].unsqueeze(1)
        two = torch.softmax(logits[:, REVIEWS, POLAR], dim=1) * (1 - neutral)
        reviews = torch.stack([two[:, 0], neutral[:, 0], two[:, 1]], dim=1)
        of_sentiments = (torch.cat([three, reviews.unsqueeze(1)], dim=1) * gate).sum(dim=1)
        return of_emotions, of_sentiments


class TextWithProbabilities(nn.Module):
    """What is exported: calibrated emotions (n, 7), calibrated sentiment (n, 3) and embedding (n, d)."""

    def __init__(self, network: TextNetwork, calibration: Calibration) -> None:
        super().__init__()
        self.network = network
        self.calibration = calibration

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        embedding, *logits = self.network(ids, mask)
        return *self.calibration(*logits), embedding


@dataclass(frozen=True)
class DistillationTargets:
    """Mean probabilities of the teachers for every row.

    ``emotions`` (n, 2, 7) of comments and dialogue and ``sentiments`` (n, 3, 3) of all domains; ``domains`` are the
    places in `DOMAINS` that a teacher has learned, the others hold zeros.
    """

    emotions: torch.Tensor
    sentiments: torch.Tensor
    domains: tuple[int, ...] = ()

    @classmethod
    def nothing(cls, n: int) -> DistillationTargets:
        """No teacher, for n rows."""
        emotions = torch.zeros(n, len(EMOTIONAL), len(EKMAN))
        return cls(emotions, torch.zeros(n, len(DOMAINS), len(SENTIMENT)))


@dataclass(frozen=True)
class Teacher:
    """A trained network, and the places in `DOMAINS` of what it has learned."""

    network: TextNetwork
    domains: tuple[int, ...]


@torch.no_grad()
def distillation_targets(
    encoded: Sequence[Sequence[int]], teachers: Sequence[Teacher], config: TextConfig
) -> DistillationTargets:
    """Let teachers read all texts, given as ids; a domain is the mean over the teachers that have learned it."""
    total, n_teachers = DistillationTargets.nothing(len(encoded)), torch.zeros(len(DOMAINS))
    lengths = np.array(list(map(len, encoded)))
    for teacher in teachers:
        for batch in batches_by_length(lengths, config.batch_size, np.random.default_rng(0)):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                _, emotions, sentiments, _ = teacher.network.eval()(*pad([encoded[i] for i in batch]))
            for domain in teacher.domains:
                if domain in EMOTIONAL:
                    total.emotions[batch, domain] += torch.softmax(emotions[:, domain], dim=1)
                total.sentiments[batch, domain] += _shares(sentiments[:, domain], domain)
        n_teachers[list(teacher.domains)] += 1
    counted = n_teachers.clamp(min=1)
    emotions = total.emotions / counted[list(EMOTIONAL)].view(1, -1, 1)
    domains = tuple(torch.nonzero(n_teachers).flatten().tolist())
    return DistillationTargets(emotions, total.sentiments / counted.view(1, -1, 1), domains)


def _shares(logits: torch.Tensor, domain: int) -> torch.Tensor:
    """Sentiments (n, 3) of one domain's head; reviews have no label for neutral."""
    if domain == REVIEWS:
        logits = logits.clone()
        logits[:, NEUTRAL] = -torch.inf
    return torch.softmax(logits, dim=1)


class TextTraining(LightningModule):
    """What the loop trains: the network, its loss and its schedule."""

    def __init__(
        self, network: TextNetwork, class_weights: torch.Tensor, targets: DistillationTargets, config: TextConfig
    ) -> None:
        super().__init__()
        self.network, self.targets, self.config = network, targets, config
        self.register_buffer("class_weights", class_weights, persistent=False)

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        """Mean over the batch of all heads' cross-entropies, to the labels and to the teachers' answers."""
        self._batch = batch
        total = self._loss(batch)
        self.log("loss", total)
        return total

    def on_after_backward(self) -> None:
        """Add the gradients of the batch with its word embeddings moved to where the loss grows fastest."""
        words = self.network.encoder.embeddings.word_embeddings.weight
        assert words.grad is not None
        step = self.config.perturbation * words.grad / words.grad.norm().clamp(min=1e-12)
        plain = words.detach().clone()
        with torch.no_grad():
            words.add_(step)
        with self.trainer.precision_plugin.forward_context():
            self._loss(self._batch).backward()
        with torch.no_grad():
            words.copy_(plain)  # not the step taken back, which would leave rounding errors

    def _loss(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = list(self.network(batch["ids"], batch["mask"])[1:])
        if not self.targets.domains:
            return self.label_loss(batch, logits)
        share = self.config.teacher_share
        return (1 - share) * self.label_loss(batch, logits) + share * self.teacher_loss(batch, logits)

    def teacher_loss(self, batch: dict[str, torch.Tensor], logits: list[torch.Tensor]) -> torch.Tensor:
        """Cross-entropies to the teachers' answers, whatever domain a row is of."""
        emotions, sentiments, _ = logits
        said_emotions, said_sentiments = self.targets.emotions[batch["rows"]], self.targets.sentiments[batch["rows"]]
        total = emotions.new_zeros(())
        for domain in self.targets.domains:
            if domain in EMOTIONAL:
                total = total + F.cross_entropy(emotions[:, domain], said_emotions[:, domain])
            z, said = sentiments[:, domain], said_sentiments[:, domain]
            if domain == REVIEWS:
                z, said = z[:, POLAR], said[:, POLAR]
            total = total + self.config.sentiment_weights[domain] * F.cross_entropy(z, said)
        return total / len(self.targets.domains)

    def label_loss(self, batch: dict[str, torch.Tensor], logits: list[torch.Tensor]) -> torch.Tensor:
        """Cross-entropies to the labels; a row counts for the heads of its domain alone."""
        emotions, sentiments, domains = logits
        total = self.config.domain_weight * F.cross_entropy(domains, batch["domains"])
        for domain in range(len(DOMAINS)):
            mine = batch["domains"] == domain
            if domain in EMOTIONAL:
                weights = self.class_weights if domain == COMMENTS else None
                total = total + _cross_entropy(emotions[mine, domain], batch["emotions"][mine], weights) / len(mine)
            z, targets = sentiments[mine, domain], batch["sentiments"][mine]
            if domain == REVIEWS:
                z, targets = z[:, POLAR], targets // 2
            share = self.config.sentiment_weights[domain] / len(mine)
            total = total + share * _cross_entropy(z, targets)
        return total

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate that decays from layer to layer (Howard & Ruder 2018, arXiv:1801.06146)."""
        encoder, rate, decay = self.network.encoder, self.config.learning_rate, self.config.layer_decay
        layers = list(reversed(encoder.encoder.layer))
        heads = (self.network.emotion, self.network.sentiment, self.network.domain)
        groups = [{"params": [p for head in heads for p in head.parameters()], "lr": self.config.head_learning_rate}]
        groups += [{"params": list(layer.parameters()), "lr": rate * decay**i} for i, layer in enumerate(layers)]
        groups.append({"params": list(encoder.embeddings.parameters()), "lr": rate * decay ** len(layers)})
        optimizer = torch.optim.AdamW(groups, weight_decay=self.config.weight_decay, fused=True)
        return one_cycle(optimizer, self, self.config.warmup)

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, **_: Any) -> None:
        """Clip directly: Lightning refuses to beside a fused optimiser, for the sake of float16, which is not used."""
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(trained, gradient_clip_val)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Sum over the rows that have a target, 0 where none has."""
    return F.cross_entropy(logits, targets, weights, ignore_index=NO_LABEL, reduction="sum")
