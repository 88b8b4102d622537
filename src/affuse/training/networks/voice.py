"""Networks over the waveform of speech."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from affuse.errors import ConfigError
from affuse.training.networks.base import Network, Output, check_at_least, check_share
from affuse.training.voice_networks import (
    SAMPLE_RATE,
    AttentiveStatistics,
    MelBands,
    ResidualBlock,
    Spectrum,
    normalise,
)

__all__ = ["CRNN"]


class CRNN(Network):
    """Residual convolutions over log-mel, a GRU in both directions, attentive pooling (Choi et al. 2017).

    Sources: convolutional recurrent network arXiv:1609.04243, attentive statistics arXiv:1803.10963. The log-mel bands
    are relative to the clip's mean, so that the level does not matter. Clips have at least 1024 samples (64 ms).

    `features` and `classify` are the two halves of ``forward``, for what works on the spectrum between them.

    Parameters
    ----------
    n_labels: labels k. n_mels: bands. widths: channels of the stem and of every block; each halves the bands, the
    first two steps also the frames, of which 25 a second remain. hidden: units of the GRU, a direction. dropout: share
    of GRU inputs and of the embedding.
    """

    modality, reads = "voice", "waveform"

    def __init__(
        self,
        n_labels: int,
        *,
        n_mels: int = 64,
        widths: Sequence[int] = (24, 48, 96),
        hidden: int = 64,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        check_at_least(1, hidden=hidden)
        if len(widths) < 2 or n_mels % 2 ** len(widths):
            raise ConfigError(
                f"widths must be two or more, and n_mels a multiple of 2 to their number; got {len(widths)} widths and "
                f"n_mels={n_mels}"
            )
        self.n_labels, self.embedding_width = n_labels, 4 * hidden
        self.spectrum, self.bands = Spectrum(), MelBands(n_mels)
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU())
        strides = [(2, 2)] + [(1, 2)] * (len(widths) - 2)
        self.body = nn.Sequential(*map(ResidualBlock, widths[:-1], widths[1:], strides))
        self.dropout = nn.Dropout(dropout)
        self.memory = nn.GRU(widths[-1] * (n_mels >> len(widths)), hidden, batch_first=True, bidirectional=True)
        self.pool = AttentiveStatistics(2 * hidden)
        self.head = nn.Linear(4 * hidden, n_labels)

    def features(self, waveform: Tensor) -> Tensor:
        """Normalised log-mel (n, frames, n_mels) of waveforms (n, samples) at 16 kHz; 100 frames a second."""
        return normalise(self.bands(self.spectrum(waveform)))

    def classify(self, features: Tensor) -> Output:
        """Answer to normalised log-mel (n, frames, n_mels)."""
        maps = self.body(self.stem(features.unsqueeze(1)))
        steps = maps.permute(0, 2, 1, 3).flatten(2)
        states, _ = self.memory(self.dropout(steps))
        embedding = self.pool(states.transpose(1, 2))
        return Output(self.head(self.dropout(embedding)), embedding)

    def forward(self, waveform: Tensor) -> Output:
        """Answer to waveforms (n, samples) at 16 kHz."""
        return self.classify(self.features(waveform))

    def example(self) -> dict[str, Tensor]:
        """Two half seconds of noise."""
        return {"waveform": torch.randn(2, SAMPLE_RATE // 2) * 0.1}
