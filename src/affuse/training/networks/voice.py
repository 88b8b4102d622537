"""Networks over the waveform of speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from affuse.errors import ConfigError
from affuse.training.networks import backbones
from affuse.training.networks.base import Network, Output, check_at_least, check_share
from affuse.training.networks.layers import ResidualBlock
from affuse.training.networks.voice_layers import (
    SAMPLE_RATE,
    AttentiveStatistics,
    MelBands,
    Spectrum,
    normalise,
)

__all__ = ["CRNN", "Wav2Vec2"]

_FAMILY = ("wav2vec2", "hubert")


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
    has_spectrum = True

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

    def features(self, waveform: Tensor) -> Tensor:  # type: ignore[override]
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


class Wav2Vec2(Network):
    """wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477) or HuBERT, tuned; layers mixed as SUPERB does.

    The embedding is the mean over time of the layers' states, which learnt weights mix (Yang et al. 2021,
    arXiv:2105.01051). The convolutions that encode the waveform stay as they were pretrained. Clips have at least 400
    samples (25 ms); each is brought to mean 0 and variance 1.

    Parameters
    ----------
    n_labels: labels k. pretrained: what `backbones.resolve` finds, or "none" for a small untrained network.
    revision, sha256: pins of a network from the hub. tuning: "full" trains the Transformer, "head" only the mixing
    weights and the last layer. dropout: share of the embedding.
    """

    modality, reads = "voice", "waveform"

    def __init__(
        self,
        n_labels: int,
        pretrained: str | Path,
        *,
        revision: str | None = None,
        sha256: str | None = None,
        tuning: Literal["full", "head"] = "full",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        if tuning not in ("full", "head"):
            raise ConfigError(f"tuning must be full or head; got {tuning!r}")
        if pretrained == "none":
            self.encoder = _untrained_wav2vec2()
        else:
            self.encoder = _pretrained_wav2vec2(backbones.resolve(pretrained, revision, sha256))
            self.encoder.feature_extractor._freeze_parameters()
        self.encoder.masked_spec_embed.requires_grad_(False)  # nothing is masked here
        if tuning == "head":
            self.encoder.requires_grad_(False)
        config = self.encoder.config
        self.n_labels, self.embedding_width = n_labels, config.hidden_size
        self.mixing = nn.Parameter(torch.zeros(config.num_hidden_layers + 1))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(config.hidden_size, n_labels)

    def forward(self, waveform: Tensor) -> Output:
        """Answer to waveforms (n, samples) at 16 kHz."""
        centred = waveform - waveform.mean(dim=1, keepdim=True)
        scaled = centred / ((centred**2).mean(dim=1, keepdim=True) + 1e-7).sqrt()
        states = torch.stack(self.encoder(scaled, output_hidden_states=True).hidden_states)
        mixed = (states * torch.softmax(self.mixing, dim=0)[:, None, None, None]).sum(dim=0)
        embedding = mixed.mean(dim=1)
        return Output(self.head(self.dropout(embedding)), embedding)

    def example(self) -> dict[str, Tensor]:
        """Two half seconds of noise."""
        return {"waveform": torch.randn(2, SAMPLE_RATE // 2) * 0.1}


# Masked spans are drawn by numpy's global state and skipped layers would make the layers' states differ in number: what
# is hidden in training is for the augmentation to say, which repeats from a seed.
_PLAIN = {"apply_spec_augment": False, "layerdrop": 0.0, "attn_implementation": "eager"}


def _pretrained_wav2vec2(folder: Path) -> Any:
    if (found := backbones.architecture(folder)) not in _FAMILY:
        raise ConfigError(f"{folder} holds a network of the kind {found!r}; wanted is one of {', '.join(_FAMILY)}")
    return backbones.load(folder, **_PLAIN)


def _untrained_wav2vec2() -> Any:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    small = Wav2Vec2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        **_PLAIN,
    )
    return Wav2Vec2Model(small)
