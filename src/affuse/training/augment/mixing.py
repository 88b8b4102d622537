"""Mixes of two samples and of their labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from affuse.errors import ConfigError
from affuse.training.augment.spectrum import mask_ranges

__all__ = ["cutmix", "mixup"]


def mixup(x: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend every sample of a batch, and its targets, with another one: λ a + (1 − λ) b with λ ~ Beta(α, α).

    Parameters
    ----------
    x : Tensor of shape (n, …)
        Samples.
    targets : Tensor of shape (n, k)
        Shares of the labels; rows sum to 1.
    alpha : float
        α of the Beta distribution; 0 changes nothing.
    generator : torch.Generator
        Source of the random choices.

    Returns
    -------
    tuple of Tensor
        New samples and new targets, in the shapes of the old ones.

    Raises
    ------
    ConfigError
        If ``alpha`` is negative.

    References
    ----------
    Zhang et al. (2018), mixup: beyond empirical risk minimization. arXiv:1710.09412

    Examples
    --------
    >>> x, targets = torch.tensor([[0.0], [1.0]]), torch.eye(2)
    >>> mixed, shares = mixup(x, targets, 0.4, torch.Generator().manual_seed(0))
    >>> torch.equal(mixed[:, 0], shares[:, 1]), shares.sum(dim=1)
    (True, tensor([1., 1.]))
    """
    share, partner = _pairs(len(x), alpha, generator)
    return _blend(x, x[partner.to(x.device)], share), _blend(targets, targets[partner.to(targets.device)], share)


def cutmix(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Put a rectangle of another picture into every picture of a batch, and mix their targets by area.

    Parameters
    ----------
    images : Tensor of shape (n, c, h, w)
        Pictures.
    targets : Tensor of shape (n, k)
        Shares of the labels; rows sum to 1.
    alpha : float
        α of the Beta distribution of the area that a picture keeps; 0 changes nothing.
    generator : torch.Generator
        Source of the random choices.

    Returns
    -------
    tuple of Tensor
        New pictures and new targets, in the shapes of the old ones.

    Raises
    ------
    ConfigError
        If ``alpha`` is negative.

    References
    ----------
    Yun et al. (2019), CutMix: regularization strategy to train strong classifiers. arXiv:1905.04899

    Examples
    --------
    >>> images = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    >>> mixed, shares = cutmix(images, torch.eye(2), 1.0, torch.Generator().manual_seed(0))
    >>> torch.allclose(mixed.mean(dim=(1, 2, 3)), shares[:, 1])
    True
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
