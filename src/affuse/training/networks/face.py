"""Networks over one picture of a face."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.errors import ConfigError
from affuse.training.networks.base import Network, Output, check_share

__all__ = ["ResidualBlock", "SmallFace", "standardise"]


def standardise(images: Tensor) -> Tensor:
    """Every picture (n, c, …) of values 0…255 less its own mean and over its own spread, so that exposure is no matter.

    Four grey levels are added to the spread: what varies less is noise, and is not to be blown up.
    """
    inner = tuple(range(1, images.ndim))
    mean = images.mean(dim=inner, keepdim=True)
    spread = ((images - mean) ** 2).mean(dim=inner, keepdim=True).sqrt()
    return (images - mean) / (spread + 4.0)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (arXiv:1512.03385); halves the picture where ``stride`` is 2."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        same = n_in == n_out and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                nn.Conv2d(n_in, n_out, 1, bias=False),
                nn.BatchNorm2d(n_out),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class SmallFace(Network):
    """A small residual network for small crops, shaped like the shipped face expert (He et al. 2016, arXiv:1512.03385).

    Every picture is standardised by its own mean and spread. The embedding is the mean over the last feature maps.

    Parameters
    ----------
    n_labels: labels k. widths: channels of every stage, each of half the size of the one before. blocks: residual
    blocks of every stage. dropout: share of the embedding. size, channels: of the pictures.
    """

    modality, reads = "face", "images"

    def __init__(
        self,
        n_labels: int,
        *,
        widths: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (1, 2, 2),
        dropout: float = 0.3,
        size: int = 48,
        channels: int = 1,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        if len(widths) != len(blocks) or not widths:
            raise ConfigError(f"widths and blocks must be as many; got {len(widths)} widths, {len(blocks)} blocks")
        if size < 2 ** len(widths):
            raise ConfigError(f"{len(widths)} stages need pictures of at least {2 ** len(widths)} pixels; got {size}")
        self.n_labels, self.embedding_width, self.picture = n_labels, widths[-1], (size, channels)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        n_in = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                layers.append(ResidualBlock(n_in, width, 2 if stage > 0 and block == 0 else 1))
                n_in = width
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_in, n_labels)

    def forward(self, images: Tensor) -> Output:
        """Answer to images (n, c, s, s) with values 0…255."""
        embedding = self.body(standardise(images)).mean(dim=(2, 3))
        return Output(self.head(self.dropout(embedding)), embedding)

    def example(self) -> dict[str, Tensor]:
        """Two pictures of noise."""
        assert self.picture is not None
        size, channels = self.picture
        return {"images": torch.rand(2, channels, size, size) * 255}
