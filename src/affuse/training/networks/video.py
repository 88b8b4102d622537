"""Networks over what moves: short clips of pictures, and vectors of successive frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from affuse.errors import ConfigError
from affuse.fusion.networks.sequences import BothWays
from affuse.training.networks.base import Network, Output, check_at_least, check_share
from affuse.training.networks.face import standardise

__all__ = ["C3D", "BiLSTM"]

# Channels of the paper's convolutions over its first one's, by group; a pooling follows every group.
_C3D_GROUPS: Sequence[Sequence[int]] = ((1,), (2,), (4, 4), (8, 8), (8, 8))


class C3D(Network):
    """Eight 3 x 3 x 3 convolutions over a clip, five poolings and two dense layers (Tran et al. 2015, arXiv:1412.0767).

    The paper's layers, with batch normalisation added, without which so deep a stack does not start from random
    weights. Every clip is standardised by its own mean and spread.

    Parameters
    ----------
    n_labels: labels k. width: channels of the first convolution; 64 is the paper's (78 M weights), 8 is for a
    processor. frames, size: of the clips, multiples of 16. dropout: share of every dense layer.
    """

    modality, reads = "face", "clips"

    def __init__(
        self, n_labels: int, *, width: int = 64, frames: int = 16, size: int = 112, dropout: float = 0.5
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        check_at_least(1, width=width)
        if frames < 16 or frames % 16 or size < 32 or size % 16:
            raise ConfigError(f"frames and size must be multiples of 16, size 32 or more; got {frames=} and {size=}")
        dense = 64 * width
        self.n_labels, self.embedding_width, self.picture, self.frames = n_labels, dense, (size, 3), frames
        layers: list[nn.Module] = []
        n_in = 3
        for number, group in enumerate(_C3D_GROUPS):
            for factor in group:
                convolution = nn.Conv3d(n_in, factor * width, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm3d(factor * width), nn.ReLU(inplace=True)]
                n_in = factor * width
            # The first pooling keeps time; the last one rounds an odd picture up, as the paper's does.
            layers.append(nn.MaxPool3d((1, 2, 2)) if number == 0 else nn.MaxPool3d(2, ceil_mode=number == 4))
        self.body = nn.Sequential(*layers)
        left = -(-(size // 16) // 2)
        self.dense = nn.Sequential(
            nn.Linear(n_in * (frames // 16) * left * left, dense),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(dense, dense),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(dense, n_labels)

    def forward(self, clips: Tensor) -> Output:
        """Answer to clips (n, 3, t, s, s) with values 0…255."""
        embedding = self.dense(self.body(standardise(clips)).flatten(1))
        return Output(self.head(self.dropout(embedding)), embedding)

    def example(self) -> dict[str, Tensor]:
        """Two clips of noise."""
        assert self.picture is not None
        size, channels = self.picture
        return {"clips": torch.rand(2, channels, self.frames, size, size) * 255}


class BiLSTM(Network):
    """LSTMs in both directions over frame vectors, and attention (Schuster & Paliwal 1997, doi:10.1109/78.650093).

    The embedding is ``sum_t a_t h_t`` with ``a = softmax_t(v · tanh(W h_t))`` (Bahdanau et al. 2015, arXiv:1409.0473).
    Frames that hold NaN (where no face was found) are 0 to the memory and get no attention.

    Parameters
    ----------
    n_labels: labels k. width: features d of a frame. hidden: units, a direction. layers: on top of each other.
    dropout: share of units before every layer and of the embedding.
    """

    modality, reads = "face", "frames"

    def __init__(self, n_labels: int, width: int, *, hidden: int = 64, layers: int = 1, dropout: float = 0.3) -> None:
        super().__init__()
        check_share(dropout=dropout)
        check_at_least(1, width=width, hidden=hidden, layers=layers)
        self.n_labels, self.width, self.embedding_width = n_labels, width, 2 * hidden
        self.memories = nn.ModuleList([BothWays(width if i == 0 else 2 * hidden, hidden) for i in range(layers)])
        self.attention = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, n_labels)

    def forward(self, frames: Tensor, lengths: Tensor) -> Output:
        """Answer to frames (n, t, d), of which the first ``lengths`` (n,) of every row count."""
        steps = torch.arange(frames.shape[1], device=frames.device)
        missing = torch.isnan(frames).any(dim=2)
        states = torch.where(missing.unsqueeze(2), torch.zeros_like(frames), frames)
        for memory in self.memories:
            states = memory(self.dropout(states), lengths)
        hidden = missing | (steps >= lengths.unsqueeze(1))
        scores = self.attention(states).squeeze(2).masked_fill(hidden, -1e4)
        embedding = (torch.softmax(scores, dim=1).unsqueeze(2) * states).sum(dim=1)
        return Output(self.head(self.dropout(embedding)), embedding)

    def example(self) -> dict[str, Tensor]:
        """Two rows of six and four frames."""
        return {"frames": torch.randn(2, 6, self.width), "lengths": torch.tensor([6, 4])}
