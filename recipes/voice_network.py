"""The network of the voice recipe: a pretrained speech encoder, statistics of its states over time, and heads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.whisper import WIDTH, LogMel, SpeechEncoder, decades

__all__ = ["VoiceArousal", "VoiceEnsemble", "VoiceHead", "audible", "pooled", "pooled_width"]

_SPREADS = 4.0  # a statistic further out says "another kind of sound", not "four times as angry"
# What is so far (dB) below the loudest frame counts half; the weight falls from .88 to .12 within 8 dB. Pauses, and the
# silence at both ends of the clips of some corpora, say more about the corpus than about the emotion.
_GATE, _SLOPE = 25.0, 2.0


def pooled_width(layers: int) -> int:
    """Number of statistics that `pooled` gives of an encoder with so many layers."""
    return 2 * WIDTH * (layers + 1)


def audible(mel: Tensor) -> Tensor:
    """Weights (n, ⌈frames / 2⌉) in 0…1 of the encoder's frames, from its log-mel (n, frames, 80).

    A frame of the encoder sees three frames of the log-mel, of which the loudest decides.
    """
    level = 10 * torch.log10((10 ** decades(mel)).sum(dim=2))
    level = F.max_pool1d(level.unsqueeze(1), kernel_size=3, stride=2, padding=1)[:, 0]
    return torch.sigmoid((level - level.amax(dim=1, keepdim=True) + _GATE) / _SLOPE)


def pooled(states: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Weighted mean and standard deviation over time of every state (n, frames, 384), joined: (n, d).

    ``weights`` (n, frames) are those of the frames.
    """
    shares = (weights / weights.sum(dim=1, keepdim=True)).unsqueeze(1)
    parts = []
    for state in states:
        mean = shares @ state
        spread = (shares @ (state - mean) ** 2).clamp(min=1e-6).sqrt()
        parts += [mean[:, 0], spread[:, 0]]
    return torch.cat(parts, dim=1)


class VoiceHead(nn.Module):
    """Statistics (n, d) in, logits (n, n_classes) out: those of a perceptron and of a linear model, blended.

    The perceptron is the better one for the corpora that it learned from, the linear model for others.
    """

    def __init__(
        self, mean: Tensor, spread: Tensor, n_classes: int, hidden: int, dropout: float, linear_share: float
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.perceptron = nn.Sequential(
            nn.Dropout(dropout / 2),
            nn.Linear(len(mean), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, n_classes),
        )
        self.linear = nn.Linear(len(mean), n_classes)
        self.linear_share = linear_share

    def standardised(self, statistics: Tensor) -> Tensor:
        """Statistics (n, d) in standard deviations of the training rows, four at most."""
        return _standardised(statistics, self.mean, self.spread)

    def forward(self, statistics: Tensor) -> Tensor:
        x = self.standardised(statistics)
        return (1 - self.linear_share) * self.perceptron(x) + self.linear_share * self.linear(x)


class VoiceArousal(nn.Module):
    """Statistics (n, d) in, arousal (n,) in -1…1 out: a linear model, which `voice_arousal` fits."""

    def __init__(self, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.linear = nn.Linear(len(mean), 1)

    def standardised(self, statistics: Tensor) -> Tensor:
        """As in `VoiceHead`."""
        return _standardised(statistics, self.mean, self.spread)

    def forward(self, statistics: Tensor) -> Tensor:
        return self.linear(self.standardised(statistics))[:, 0].clamp(-1, 1)


def _standardised(statistics: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    return ((statistics - mean) / spread).clamp(-_SPREADS, _SPREADS)


class VoiceEnsemble(nn.Module):
    """What is exported: waveforms (n, samples) in; calibrated probabilities (n, k) and embedding (n, e) out.

    A third output is arousal (n,). The logits of all heads are averaged. The embedding is the principal
    components of the statistics, set by `fit_projection`.
    """

    def __init__(
        self, encoder: SpeechEncoder, heads: Sequence[VoiceHead], temperature: float, arousal: VoiceArousal
    ) -> None:
        super().__init__()
        self.mel, self.encoder = LogMel(), encoder
        self.heads, self.temperature, self.arousal = nn.ModuleList(heads), temperature, arousal
        self.projection = nn.Linear(len(heads[0].mean), 1)

    def fit_projection(self, statistics: Tensor, size: int) -> None:
        """Learn the ``size`` principal components of statistics (rows, d), with unit variance each."""
        mean, scale = statistics.mean(dim=0), statistics.std(dim=0) + 1e-3
        _, spread, axes = torch.linalg.svd((statistics - mean) / scale, full_matrices=False)
        # The sign of an axis is arbitrary; a fixed one makes runs comparable.
        signs = torch.sign(axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)))
        weight = (axes * signs)[:size] / spread[:size, None] * math.sqrt(len(statistics)) / scale
        self.projection = nn.Linear(statistics.shape[1], size)
        self.projection.weight.data = weight
        self.projection.bias.data = -weight @ mean

    def statistics(self, waveform: Tensor) -> Tensor:
        """Statistics (n, d) of waveforms (n, samples)."""
        mel = self.mel(waveform)
        return pooled(self.encoder(mel), audible(mel))

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        statistics = self.statistics(waveform)
        logits = torch.stack([head(statistics) for head in self.heads]).mean(dim=0)
        return torch.softmax(logits / self.temperature, dim=1), self.projection(statistics), self.arousal(statistics)
