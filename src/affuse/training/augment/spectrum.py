"""Augmentation of spectrograms: bands and stretches of time that a network does not see."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["mask_ranges", "spec_augment"]


def spec_augment(
    S: Tensor,
    generator: torch.Generator,
    bands: int = 10,
    frames: int = 25,
    n_bands: int = 2,
    n_frames: int = 2,
) -> Tensor:
    """Log spectrograms (n, bands, t) with masks: SpecAugment (Park et al. 2019, arXiv:1904.08779) without the warp.

    Every clip gets ``n_bands`` masks of 0…``bands`` bands and ``n_frames`` of 0…``frames`` frames, filled with its
    mean. Returns a new tensor.
    """
    masked = torch.zeros(S.shape, dtype=torch.bool, device=S.device)
    for axis, widest, times in ((1, bands, n_bands), (2, frames, n_frames)):
        for _ in range(times):
            size = S.shape[axis]
            width = _integers(len(S), min(widest, size), generator)
            start = (torch.rand(len(S), generator=generator, device=generator.device) * (size - width + 1)).long()
            masked |= mask_ranges(size, start, width).to(S.device).unsqueeze(3 - axis)
    return torch.where(masked, S.mean(dim=(1, 2), keepdim=True), S)


def mask_ranges(size: int, start: Tensor, width: Tensor) -> Tensor:
    """Booleans (n, size): True from ``start`` (n,) on for ``width`` (n,) places."""
    place = torch.arange(size, device=start.device)
    return (place >= start[:, None]) & (place < (start + width)[:, None])


def _integers(n: int, highest: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, highest + 1, (n,), generator=generator, device=generator.device)
