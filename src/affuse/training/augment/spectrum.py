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
    """Hide bands and stretches of time of log spectrograms at random: SpecAugment without its time warp.

    Parameters
    ----------
    S : Tensor of shape (n, bands, t)
        Log spectrograms.
    generator : torch.Generator
        Source of the random choices.
    bands, frames : int
        Largest height of a mask over bands, and largest length of one over time.
    n_bands, n_frames : int
        How many masks of either kind every clip gets.

    Returns
    -------
    Tensor of shape (n, bands, t)
        A new tensor; masks are filled with the mean of the clip.

    References
    ----------
    Park et al. (2019), SpecAugment. arXiv:1904.08779

    Examples
    --------
    >>> S = torch.randn(2, 40, 100, generator=torch.Generator().manual_seed(0))
    >>> masked = spec_augment(S, torch.Generator().manual_seed(1))
    >>> 0 < (masked != S).float().mean() < 1
    tensor(True)
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
