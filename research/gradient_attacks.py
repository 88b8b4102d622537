"""Attacks that follow the gradient of a network: one step (FGSM) and many (PGD), within a largest change.

Goodfellow et al. 2015, arXiv:1412.6572; Madry et al. 2018, arXiv:1706.06083. What is followed is the lead of a label in
log-probability over the best other one (Carlini & Wagner 2017, arXiv:1608.04644), which does not fade where a network
is sure of itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["Differentiable", "fgsm", "lead", "pgd"]

Differentiable = Callable[[Tensor], Tensor]
"""Inputs (n, ...) in, probabilities (n, k) out, with gradients."""

_STRIDE = 2.5  # times the largest change that all steps of PGD are long together (Madry et al. 2018)
_LEAST = 1e-12


def lead(P: Tensor, y: Tensor) -> Tensor:
    """By how much log-probabilities (n,) of labels exceed the best others.

    Examples
    --------
    >>> lead(torch.tensor([[0.8, 0.1, 0.1]]), torch.tensor([0])).exp().round(decimals=4)
    tensor([8.])
    """
    logs = P.clamp(min=_LEAST).log()
    own = logs.gather(1, y[:, None])[:, 0]
    return own - logs.scatter(1, y[:, None], -torch.inf).amax(dim=1)


def fgsm(
    ask: Differentiable, x: np.ndarray, y: np.ndarray, size: float, limits: tuple[float, float], aimed: bool = False
) -> np.ndarray:
    """Inputs changed by ``size`` everywhere, each number to the side on which the right label loses; as `pgd`."""
    start, labels = torch.from_numpy(x).float(), torch.from_numpy(y).long()
    step = size * _direction(ask, start, labels, aimed)[1]
    return np.asarray((start + step).clamp(*limits).numpy(), dtype=x.dtype)


def pgd(
    ask: Differentiable,
    x: np.ndarray,
    y: np.ndarray,
    size: float,
    limits: tuple[float, float],
    steps: int = 20,
    seed: int = 0,
    aimed: bool = False,
    enough: float = np.inf,
) -> np.ndarray:
    """Inputs changed by at most ``size`` so that the right label loses most, after as many steps from a random start.

    Parameters
    ----------
    ask : callable
        Inputs (n, ...) in, probabilities (n, k) out, as tensors with gradients.
    x, y : array of shape (n, ...), array of int, shape (n,)
        Inputs and their right labels.
    size : float
        Largest change of a number.
    limits : tuple of two floats
        Between which inputs lie.
    steps : int
        How often the gradient is asked for.
    seed : int
        Of the random start.
    aimed : bool
        Whether ``y`` are labels that are to be answered, in place of right ones that are not.
    enough : float
        Lead in log-probability of what is wanted with which the opponent stops before the last step.

    Returns
    -------
    array of shape (n, ...)
        The best of all steps.

    Examples
    --------
    >>> ask = lambda x: torch.softmax(torch.stack([x[:, 0] - x[:, 1], x[:, 1] - x[:, 0]], dim=1), dim=1)
    >>> pgd(ask, np.array([[0.5, 0.25]], dtype=np.float32), np.array([0]), 0.25, (0.0, 1.0)).round(6).tolist()
    [[0.25, 0.5]]
    """
    start, labels = torch.from_numpy(x).float(), torch.from_numpy(y).long()
    generator = torch.Generator().manual_seed(seed)
    now = (start + size * (2 * torch.rand(start.shape, generator=generator) - 1)).clamp(*limits)
    best, least = start.clone(), torch.full((len(start),), torch.inf)
    for number in range(steps + 1):
        gained, direction = _direction(ask, now, labels, aimed)
        better = gained < least
        best[better], least[better] = now[better], gained[better]
        if bool((least <= -enough).all()):
            break
        if number < steps:
            moved = now + _STRIDE * size / steps * direction
            now = torch.minimum(torch.maximum(moved, start - size), start + size).clamp(*limits)
    return np.asarray(best.numpy(), dtype=x.dtype)


def _direction(ask: Differentiable, x: Tensor, y: Tensor, aimed: bool) -> tuple[Tensor, Tensor]:
    """What the opponent wants small (n,), and the sign of the step that makes it smaller."""
    own = x.detach().requires_grad_(True)
    loss = lead(ask(own), y) * (-1.0 if aimed else 1.0)
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    return loss.detach(), -gradient.sign()
