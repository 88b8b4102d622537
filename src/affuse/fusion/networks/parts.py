"""What the networks share: their base, encoders, and means over what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from affuse.errors import ConfigError

__all__ = [
    "Encoders",
    "Features",
    "FusionNetwork",
    "Presence",
    "Widths",
    "by_modality",
    "encoder",
    "gap_indicators",
    "masked",
    "masked_mean",
]

Features: TypeAlias = Mapping[str, Tensor]  # (b, d_m), or (b, t, d_m) over steps, by modality
Presence: TypeAlias = Mapping[str, Tensor]  # (b,) or (b, t), true where there is evidence, by modality
Widths: TypeAlias = Mapping[str, int]  # number of features d_m of every modality
Encoders: TypeAlias = Mapping[str, nn.Module]


class FusionNetwork(nn.Module):
    """Base class of joint networks: features by modality in, logits out.

    The values of ``features`` where nothing is present, NaN included, do not reach the answer.

    Parameters
    ----------
    widths : mapping of str to int
        Number of features of every modality.

    Examples
    --------
    A network that adds linear maps of the modalities:

    >>> class LinearSum(FusionNetwork):
    ...     def __init__(self, widths, n_classes):
    ...         super().__init__(widths)
    ...         self.maps = by_modality(widths, lambda name, width: nn.Linear(width, n_classes))
    ...     def forward(self, features, present):
    ...         return sum(masked(self.maps[m](masked(features[m], present[m])), present[m]) for m in self.modalities)
    >>> network = LinearSum({"face": 4, "voice": 6}, n_classes=3)
    >>> features = {"face": torch.randn(2, 4), "voice": torch.randn(2, 6)}
    >>> network(features, {name: torch.tensor([True, False]) for name in features}).shape
    torch.Size([2, 3])
    """

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.modalities = tuple(widths)

    def forward(self, features: Features, present: Presence) -> Tensor:
        """Logits from features.

        Parameters
        ----------
        features : mapping of str to Tensor
            Of shape (n_samples, width), or (n_samples, n_steps, width), by modality.
        present : mapping of str to Tensor of bool
            Of shape (n_samples,), or (n_samples, n_steps): where there is evidence.

        Returns
        -------
        Tensor of shape (n_samples, n_classes)
        """
        raise NotImplementedError

    def penalty(self, features: Features, present: Presence, kept: Presence) -> Tensor:
        """What the loss holds besides cross-entropy; 0 unless a network overrides it.

        Parameters
        ----------
        features : mapping of str to Tensor
        present : mapping of str to Tensor of bool
            Where there is evidence.
        kept : mapping of str to Tensor of bool
            What modality dropout left of it.

        Returns
        -------
        Tensor of shape ()
        """
        return torch.zeros((), device=next(iter(features.values())).device)


def by_modality(widths: Widths, make: Callable[[str, int], nn.Module]) -> nn.ModuleDict:
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


def gap_indicators(present: Presence, modalities: Sequence[str], dtype: torch.dtype) -> Tensor:
    """1 for every missing modality, else 0: (b, m); of a modality with steps, where no step is present."""
    gaps = [~(present[name] if present[name].ndim == 1 else present[name].any(dim=1)) for name in modalities]
    return torch.stack(gaps, dim=1).to(dtype)


def masked_mean(values: Tensor, present: Tensor) -> Tensor:
    """Mean (b, d) of the steps of ``values`` (b, t, d) that are ``present`` (b, t); 0 where none is."""
    return masked(values, present).sum(dim=1) / present.sum(dim=1, keepdim=True).clamp(min=1)
