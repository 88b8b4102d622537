"""What the networks share: their base, encoders, and means over what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from affuse.errors import ConfigError

__all__ = ["Encoders", "Features", "FusionNetwork", "Presence", "by_modality", "encoder", "masked", "masked_mean"]

Features: TypeAlias = Mapping[str, Tensor]  # (b, d_m), or (b, t, d_m) over steps, by modality
Presence: TypeAlias = Mapping[str, Tensor]  # (b,) or (b, t), true where there is evidence, by modality
Encoders: TypeAlias = Mapping[str, nn.Module]


class FusionNetwork(nn.Module):
    """Base of joint networks: named features and what is present in, logits out.

    What ``features`` hold where nothing is present, NaN included, does not reach the answer.

    Parameters
    ----------
    widths: number of features d_m of every modality.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = tuple(widths)

    def forward(self, features: Features, present: Presence) -> Tensor:
        """Logits (b, k)."""
        raise NotImplementedError

    def penalty(self, features: Features, present: Presence, kept: Presence) -> Tensor:
        """What the loss holds besides cross-entropy, when only ``kept`` of what is ``present`` was shown."""
        return torch.zeros((), device=next(iter(features.values())).device)


def by_modality(widths: Mapping[str, int], make: Callable[[str, int], nn.Module]) -> nn.ModuleDict:
    """One module a modality. Raises ConfigError for a name that torch cannot use."""
    for name in widths:
        if "." in name or not name or hasattr(nn.ModuleDict, name):
            raise ConfigError(f"a network cannot name a modality {name!r}; take another name without dots")
    return nn.ModuleDict({name: make(name, width) for name, width in widths.items()})


def encoder(width: int, hidden: int, dropout: float) -> nn.Module:
    """Two layers: (…, width) → (…, hidden), at least 0."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(width, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
    )


def masked(values: Tensor, present: Tensor) -> Tensor:
    """``values`` (…, d) where ``present`` (…), else 0."""
    return torch.where(present.unsqueeze(-1), values, torch.zeros((), dtype=values.dtype, device=values.device))


def masked_mean(values: Tensor, present: Tensor) -> Tensor:
    """Mean (b, d) of the steps of ``values`` (b, t, d) that are ``present`` (b, t); 0 where none is."""
    return masked(values, present).sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)
