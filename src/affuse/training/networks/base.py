"""What all trainable networks share: what they say about themselves, and what they answer."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from affuse.errors import ConfigError
from affuse.training.networks.catalogue import Reads

__all__ = ["AXES", "Network", "Output", "check_at_least", "check_share"]

AXES: dict[str, dict[str, dict[int, str]]] = {
    "waveform": {"waveform": {0: "n", 1: "samples"}},
    "images": {"images": {0: "n"}},
    "clips": {"clips": {0: "n"}},
    "frames": {"frames": {0: "n", 1: "t"}, "lengths": {0: "n"}},
    "landmarks": {"landmarks": {0: "n"}},
    "tokens": {"ids": {0: "n", 1: "t"}, "mask": {0: "n", 1: "t"}},
}
"""Inputs of every kind of reader, with the axes that vary from call to call."""


class Output(NamedTuple):
    """Logits (n, k) of the labels, and the embedding (n, d) that they are read off."""

    logits: Tensor
    embedding: Tensor


class Network(nn.Module):
    """Base of networks that make an expert; ``forward(**inputs)`` gives an `Output`.

    Inputs by what a network ``reads``: "waveform" (n, samples) float32 at 16 kHz; "images" (n, c, s, s) and "clips"
    (n, c, t, s, s) float32 with values 0…255; "frames" (n, t, d) with "lengths" (n,) int64; "landmarks" (n, 68, 2) in
    pixels; "tokens": "ids" and "mask" (n, t) int64; "blocks": see `combined.JointNetwork`. Front ends and normalisation
    belong to the network, so that they are exported with it.

    Submodules are registered in the order from input to answer, and the last is called ``head``: freezing and
    layer-wise learning rates go by that.

    Attributes
    ----------
    modality, reads: what it judges, and from what. n_labels: labels k. embedding_width: d.
    picture: size and channels of what a reader of images or clips takes; None for others.
    """

    modality: str
    reads: Reads
    n_labels: int
    embedding_width: int
    head: nn.Module
    picture: tuple[int, int] | None = None

    def example(self) -> dict[str, Tensor]:
        """Small valid inputs of two rows, in the order of the parameters of ``forward``."""
        raise NotImplementedError

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """Axes of every input that vary from call to call, by name."""
        return AXES[self.reads]

    def merged(self) -> Network:
        """The network as it is exported: itself, where nothing has to be folded in."""
        return self

    def count_parameters(self, trained_only: bool = False) -> int:
        """Number of weights, or of those that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trained_only)


def check_share(**shares: float) -> None:
    """Raise ConfigError for a share outside [0, 1)."""
    for name, value in shares.items():
        if not 0 <= value < 1:
            raise ConfigError(f"{name} must be at least 0 and below 1; got {value}")


def check_at_least(least: int, **numbers: int) -> None:
    """Raise ConfigError for a number below ``least``."""
    for name, value in numbers.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}; got {value}")
