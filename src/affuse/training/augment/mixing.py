"""Mixes of two samples and of their labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from affuse.errors import ConfigError
from affuse.training.augment.spectrum import mask_ranges

__all__ = ["cutmix", "mixup"]


def mixup(x: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each sample of x (n, …) and targets (n, k) blended with another of the batch: λ a + (1 − λ) b, λ ~ Beta(α, α).

    Source: Zhang et al. 2018 (arXiv:1710.09412). Targets are shares whose rows sum to 1, and so are the result's;
    ``alpha`` 0 changes nothing. Raises ConfigError for a negative ``alpha``.
    """
    share, partner = _pairs(len(x), alpha, generator)
    return _blend(x, x[partner.to(x.device)], share), _blend(targets, targets[partner.to(targets.device)], share)


def cutmix(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures (n, c, h, w) with a rectangle of another's, targets (n, k) by the area each has; λ ~ Beta(α, α).

    Source: Yun et al. 2019 (arXiv:1905.04899). ``alpha`` 0 changes nothing. Raises ConfigError for a negative one.
    """
    share, partner = _pairs(len(images), alpha, generator)
    inside = torch.ones(len(images), 1, 1, dtype=torch.bool)
    for size, axis in zip(images.shape[2:], (2, 1), strict=True):
        side = ((1 - share).sqrt() * size).round().long()
        start = (torch.rand(len(images), generator=generator, device=generator.device).cpu() * (size - side + 1)).long()
        inside = inside & mask_ranges(size, start, side).unsqueeze(axis)
    kept = 1 - inside.float().mean(dim=(1, 2))  # whole pixels: a little off the share that was drawn
    mixed = torch.where(inside[:, None].to(images.device), images[partner.to(images.device)], images)
    return mixed, _blend(targets, targets[partner.to(targets.device)], kept)


def _pairs(n: int, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Own shares (n,) and partners (n,), on the CPU."""
    if alpha < 0:
        raise ConfigError(f"alpha of a mix takes 0 (off) or more; got {alpha:g}")
    partner = torch.randperm(n, generator=generator, device=generator.device).cpu()
    # torch draws from a Beta distribution with its global generator only.
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    share = np.random.default_rng(seed).beta(alpha, alpha, n) if alpha > 0 else np.ones(n)
    return torch.from_numpy(share).float(), partner


def _blend(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    weight = share.to(own.device, own.dtype).view(-1, *[1] * (own.ndim - 1))
    return weight * own + (1 - weight) * other
