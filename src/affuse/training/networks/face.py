"""Networks over one picture of a face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affuse.errors import ConfigError
from affuse.training.networks.base import Network, Output, check_at_least, check_share
from affuse.training.networks.layers import ResidualBlock

__all__ = ["LandmarkGraph", "ResNet50CBAM", "SmallFace", "normalise_landmarks", "standardise"]

# Landmarks of the 300-W mark-up (Sagonas et al. 2013, doi:10.1109/ICCVW.2013.59): first and last point of every line.
_OPEN = ((0, 16), (17, 21), (22, 26), (27, 30), (31, 35))  # jaw, brows, bridge and base of the nose
_CLOSED = ((36, 41), (42, 47), (48, 59), (60, 67))  # eyes, outer and inner lips
_RIGHT_EYE, _LEFT_EYE = slice(36, 42), slice(42, 48)
# What holds the parts together: brows to temples and nose, eyes to nose, brows and temples, nose to lips to chin.
_BETWEEN = (
    *((0, 17), (16, 26), (21, 27), (22, 27), (39, 27), (42, 27), (36, 0), (45, 16), (19, 37), (24, 44)),
    *((30, 33), (33, 51), (51, 62), (48, 60), (54, 64), (57, 66), (57, 8)),
)


def standardise(images: Tensor) -> Tensor:
    """Every picture (n, c, …) of values 0…255 less its own mean and over its own spread, so that exposure is no matter.

    Four grey levels are added to the spread: what varies less is noise, and is not to be blown up.
    """
    inner = tuple(range(1, images.ndim))
    mean = images.mean(dim=inner, keepdim=True)
    spread = ((images - mean) ** 2).mean(dim=inner, keepdim=True).sqrt()
    return (images - mean) / (spread + 4.0)


def residual_stages(widths: Sequence[int], blocks: Sequence[int]) -> list[ResidualBlock]:
    """Blocks of several stages from ``widths[0]`` channels on; every stage but the first halves the picture."""
    layers: list[ResidualBlock] = []
    n_in = widths[0]
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for block in range(count):
            layers.append(ResidualBlock(n_in, width, 2 if stage > 0 and block == 0 else 1))
            n_in = width
    return layers


class _PictureNetwork(Network):
    """What networks over crops share: pictures are standardised, and the last feature maps averaged."""

    modality, reads = "face", "images"
    body: nn.Sequential
    dropout: nn.Dropout
    head: nn.Linear

    def forward(self, images: Tensor) -> Output:
        """Answer to images (n, c, s, s) with values 0…255."""
        embedding = self.body(standardise(images)).mean(dim=(2, 3))
        return Output(self.head(self.dropout(embedding)), embedding)

    def example(self) -> dict[str, Tensor]:
        """Two pictures of noise."""
        assert self.picture is not None
        size, channels = self.picture
        return {"images": torch.rand(2, channels, size, size) * 255}


class SmallFace(_PictureNetwork):
    """A small residual network for small crops (He et al. 2016, arXiv:1512.03385), for minutes on a processor.

    The stem halves the picture. Every picture is standardised by its own mean and spread. The embedding is the mean
    over the last feature maps.

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
        widths: Sequence[int] = (32, 64, 160),
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
            nn.Conv2d(channels, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        self.body = nn.Sequential(*layers, *residual_stages(widths, blocks))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], n_labels)


class _ChannelAttention(nn.Module):
    """Which channels matter: one perceptron over their means and their peaks (arXiv:1807.06521, eq. 2)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, width // reduction)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        weights = self.perceptron(x.mean(dim=(2, 3))) + self.perceptron(x.amax(dim=(2, 3)))
        return x * torch.sigmoid(weights)[:, :, None, None]


class _SpatialAttention(nn.Module):
    """Which places matter: a 7 x 7 convolution over the channels' mean and peak (arXiv:1807.06521, eq. 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.convolution(seen))


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions, both attentions, and a shortcut; the 3 x 3 one strides (ResNet v1.5)."""

    EXPANSION = 4

    def __init__(self, n_in: int, width: int, stride: int, reduction: int) -> None:
        super().__init__()
        n_out = width * self.EXPANSION
        self.body = nn.Sequential(
            nn.Conv2d(n_in, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, n_out, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        nn.init.zeros_(self.body[-1].weight)  # every block starts as its shortcut (Goyal et al. 2017, arXiv:1706.02677)
        self.channels, self.places = _ChannelAttention(n_out, reduction), _SpatialAttention()
        same = n_in == n_out and stride == 1
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.places(self.channels(self.body(x))) + self.shortcut(x))


class ResNet50CBAM(_PictureNetwork):
    """ResNet-50 (He et al. 2016, arXiv:1512.03385) with CBAM in every block (Woo et al. 2018, arXiv:1807.06521).

    Attention to channels, then to places, refines what a bottleneck adds to its shortcut. The embedding is the mean
    over the last feature maps. Weights start at random.

    Parameters
    ----------
    n_labels: labels k. width: channels of the first stage before expansion; 64 is the papers' (26 M weights), 16 is for
    a processor. blocks: bottlenecks of the four stages. size, channels: of the pictures. stem: "standard", which
    quarters the picture, or "small" for pictures under a hundred pixels, which keeps its size. reduction: of the
    channel attention. dropout: share of the embedding.
    """

    modality, reads = "face", "images"

    def __init__(
        self,
        n_labels: int,
        *,
        width: int = 64,
        blocks: Sequence[int] = (3, 4, 6, 3),
        size: int = 112,
        channels: int = 3,
        stem: Literal["standard", "small"] = "standard",
        reduction: int = 16,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_share(dropout=dropout)
        check_at_least(1, width=width, reduction=reduction)
        check_at_least(32, size=size)
        if stem not in _STEMS:
            raise ConfigError(f"stem must be one of {', '.join(_STEMS)}; got {stem!r}")
        widths = [width * 2**stage for stage in range(len(blocks))]
        self.n_labels, self.embedding_width = n_labels, widths[-1] * _Bottleneck.EXPANSION
        self.picture = (size, channels)
        layers: list[nn.Module] = [_STEMS[stem](channels, width)]
        n_in = width
        for stage, (wide, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                layers.append(_Bottleneck(n_in, wide, 2 if stage > 0 and block == 0 else 1, reduction))
                n_in = wide * _Bottleneck.EXPANSION
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(n_in, n_labels)


def _standard_stem(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    )


def _small_stem(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


_STEMS = {"standard": _standard_stem, "small": _small_stem}


def normalise_landmarks(landmarks: Tensor) -> Tensor:
    """Landmarks (n, 68, 2) in pixels, centred, turned so that the eyes are level, over the distance of the eyes."""
    right, left = landmarks[:, _RIGHT_EYE].mean(dim=1), landmarks[:, _LEFT_EYE].mean(dim=1)
    across = left - right
    squared = (across**2).sum(dim=1, keepdim=True).clamp(min=1e-6)
    centred = landmarks - landmarks.mean(dim=1, keepdim=True)
    x, y = centred[:, :, 0], centred[:, :, 1]
    # Turning by -atan2(across) and dividing by |across| is multiplying by its conjugate over its square.
    cosine, sine = across[:, :1] / squared, across[:, 1:] / squared
    return torch.stack([x * cosine + y * sine, y * cosine - x * sine], dim=2)


def _adjacency() -> Tensor:
    """``D^-1/2 (A + I) D^-1/2`` (68, 68) of the lines of a face (arXiv:1609.02907, eq. 2)."""
    edges = [(i, i + 1) for first, last in (*_OPEN, *_CLOSED) for i in range(first, last)]
    edges += [(last, first) for first, last in _CLOSED]
    edges += _BETWEEN
    a = torch.eye(68)
    for i, j in edges:
        a[i, j] = a[j, i] = 1.0
    scale = a.sum(dim=1).rsqrt()
    return a * scale[:, None] * scale


class _GraphLayer(nn.Module):
    """``ReLU(BN((A + B) X W)) + X``, with B learnt from 0 (Shi et al. 2019, arXiv:1805.07694)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.register_buffer("adjacency", _adjacency(), persistent=False)
        self.learnt = nn.Parameter(torch.zeros(68, 68))
        self.weights = nn.Linear(n_in, n_out, bias=False)
        self.norm = nn.BatchNorm1d(n_out)
        self.shortcut: nn.Module = nn.Identity() if n_in == n_out else nn.Linear(n_in, n_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mixed = (self.adjacency + self.learnt) @ self.weights(x)
        return torch.relu(self.norm(mixed.transpose(1, 2)).transpose(1, 2)) + self.shortcut(x)


class LandmarkGraph(Network):
    """A graph network over 68 facial landmarks (Kipf & Welling 2017, arXiv:1609.02907).

    Neighbours are those on the same line of the face, and what training finds besides (arXiv:1805.07694). Size, place
    and roll of the face do not matter (`normalise_landmarks`). The embedding is the mean and peak over the landmarks.

    Parameters
    ----------
    n_labels: labels k. widths: units of every layer. dropout: share of the embedding.
    """

    modality, reads = "face", "landmarks"

    def __init__(self, n_labels: int, *, widths: Sequence[int] = (64, 64, 128), dropout: float = 0.3) -> None:
        super().__init__()
        check_share(dropout=dropout)
        if not widths or min(widths) < 1:
            raise ConfigError(f"widths must be one or more numbers of at least 1; got {list(widths)}")
        self.n_labels, self.embedding_width = n_labels, 2 * widths[-1]
        self.body = nn.Sequential(*map(_GraphLayer, (2, *widths[:-1]), widths))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.embedding_width, n_labels)

    def forward(self, landmarks: Tensor) -> Output:
        """Answer to landmarks (n, 68, 2) in pixels, in the order of 300-W."""
        states = self.body(normalise_landmarks(landmarks))
        embedding = torch.cat([states.mean(dim=1), states.amax(dim=1)], dim=1)
        return Output(self.head(self.dropout(embedding)), embedding)

    def example(self) -> dict[str, Tensor]:
        """Two scatters of points."""
        return {"landmarks": torch.rand(2, 68, 2) * 100}
