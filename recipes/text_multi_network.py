"""The network of the multilingual text recipe: heads by kind of text, and how they learn."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F
from transformers import BertModel

from affuse.data.corpora.brighter import LANGUAGES, MARKS
from affuse.labels import EKMAN, SENTIMENT
from recipes.learning import one_cycle
from recipes.text_en_data import NO_LABEL
from recipes.text_en_data import POLAR as ENDS
from recipes.text_multi_data import DOMAINS, EMOTIONAL, POLAR, MultiConfig

__all__ = ["MultiNetwork", "MultiTraining", "PackedEmbedding"]


class MultiNetwork(nn.Module):
    """Token ids and mask (n, t) in; the embedding (n, d) and the logits of all heads out, by name.

    "emotions" (n, 5, 7) of `EMOTIONAL`, "sentiments" (n, 8, 3) and "domain" (n, 8) of `DOMAINS`, "marks" (n, 6), and
    "language" (n, 28).
    """

    def __init__(self, encoder: BertModel, dropout: float) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.emotion = nn.Linear(width, len(EMOTIONAL) * len(EKMAN))
        self.sentiment = nn.Linear(width, len(DOMAINS) * len(SENTIMENT))
        self.domain = nn.Linear(width, len(DOMAINS))
        self.marks = nn.Linear(width, len(MARKS))
        self.language = nn.Linear(width, len(LANGUAGES))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).to(states.dtype)
        embedding = (states * weights).sum(dim=1) / weights.sum(dim=1)
        dropped = self.dropout(embedding)
        return embedding, {
            "emotions": self.emotion(dropped).unflatten(1, (len(EMOTIONAL), len(EKMAN))).float(),
            "sentiments": self.sentiment(dropped).unflatten(1, (len(DOMAINS), len(SENTIMENT))).float(),
            "domain": self.domain(dropped).float(),
            "marks": self.marks(dropped).float(),
            "language": self.language(dropped).float(),
        }


class PackedEmbedding(nn.Module):
    """The embeddings of pieces as the package keeps them, which training leaves as they are: 4 bits a weight.

    ``levels`` (v, b, 16) uint8 hold two weights each and ``scales`` (v, b) belong to blocks of 32. Scales are kept in
    whole steps of 16 bits, since tools that store networks smaller leave whole numbers as they are.
    """

    def __init__(self, levels: torch.Tensor, scales: torch.Tensor) -> None:
        super().__init__()
        self.step = float(scales.abs().max()) / torch.iinfo(torch.int16).max
        self.register_buffer("levels", levels)
        self.register_buffer("scales", torch.round(scales.float() / self.step).to(torch.int16))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        both = self.levels[ids].float()
        high = torch.floor(both / 16)
        weights = torch.cat([both - 16 * high, high], dim=-1) - 8
        return (weights * (self.scales[ids].float() * self.step).unsqueeze(-1)).flatten(-2)


class MultiTraining(LightningModule):
    """What the loop trains: the network, its loss and its schedule. ``class_weights`` (5, 7) are of `EMOTIONAL`."""

    def __init__(self, network: MultiNetwork, class_weights: torch.Tensor, config: MultiConfig) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.register_buffer("class_weights", class_weights, persistent=False)
        # Texts are few beside the pieces, whose embeddings would only drift apart from those that no text holds.
        encoder = self.network.encoder
        for part in (encoder.embeddings, *encoder.encoder.layer[: config.frozen_layers]):
            part.requires_grad_(False)

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        """Mean over the batch of all heads' cross-entropies; a row counts for the heads of its domain."""
        _, logits = self.network(batch["ids"], batch["mask"])
        config, domains = self.config, batch["domains"]
        total = config.domain_weight * F.cross_entropy(logits["domain"], domains)
        total = total + config.language_weight * F.cross_entropy(
            logits["language"], batch["languages"], ignore_index=NO_LABEL
        )
        for place, name in enumerate(DOMAINS):
            mine = domains == place
            if not mine.any():
                continue
            if name in EMOTIONAL:
                z, y = logits["emotions"][mine, place], batch["emotions"][mine]
                total = total + F.cross_entropy(z, y, self.class_weights[place], reduction="sum") / len(domains)
            total = total + _sentiment_loss(logits["sentiments"][mine, place], batch["sentiments"][mine], name) / len(
                domains
            )
        total = total + _marks_loss(logits["marks"], batch["marks"]) / len(domains)
        self.log("loss", total)
        return total

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate that decays from layer to layer (Howard & Ruder 2018, arXiv:1801.06146)."""
        network, config = self.network, self.config
        layers = list(reversed(network.encoder.encoder.layer[config.frozen_layers :]))
        heads = (network.emotion, network.sentiment, network.domain, network.marks, network.language)
        groups = [{"params": [p for head in heads for p in head.parameters()], "lr": config.head_learning_rate}]
        groups += [
            {"params": list(layer.parameters()), "lr": config.learning_rate * config.layer_decay**i}
            for i, layer in enumerate(layers)
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True)
        return one_cycle(optimizer, self, config.warmup)

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, **_: Any) -> None:
        """Clip directly: Lightning refuses to beside a fused optimiser, for the sake of float16, which is not used."""
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(trained, gradient_clip_val)


def _sentiment_loss(z: torch.Tensor, y: torch.Tensor, domain: str) -> torch.Tensor:
    """Sum over rows (n, 3) with a sentiment; emotions come first, where a row has one."""
    if domain in POLAR:
        return F.cross_entropy(z[:, ENDS], y // 2, reduction="sum")
    return 0.5 * F.cross_entropy(z, y, ignore_index=NO_LABEL, reduction="sum")


def _marks_loss(z: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """Sum over rows of the binary cross-entropies of all emotions that annotators were asked for, four at most."""
    asked = marks >= 0
    losses = F.binary_cross_entropy_with_logits(z, marks.clamp(min=0).float(), reduction="none")
    return 0.5 * (losses * asked).sum()
