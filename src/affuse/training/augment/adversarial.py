"""Adversarial training: inputs that are changed, within a bound, to the side on which the network errs more."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["adversarial_step"]


def adversarial_step(inputs: Tensor, gradient: Tensor, strength: float) -> Tensor:
    """Every second sample of a batch moved along the sign of its gradient (FGSM), the others as they are.

    Parameters
    ----------
    inputs : tensor of shape (n, ...)
        A batch.
    gradient : tensor of shape (n, ...)
        Of the loss, by the inputs.
    strength : float
        By how much each number moves, in standard deviations of its own sample: at 0.05 the signal is 26 dB above it.

    Returns
    -------
    tensor of shape (n, ...)
        Within the lowest and the highest number of the batch.

    References
    ----------
    Goodfellow, Shlens & Szegedy (2015), Explaining and harnessing adversarial examples. arXiv:1412.6572

    Examples
    --------
    >>> adversarial_step(torch.tensor([[0.0, 2.0], [-9.0, 9.0]]), torch.tensor([[3.0, -1.0], [1.0, 1.0]]), 0.5)
    tensor([[ 0.5000,  1.5000],
            [-9.0000,  9.0000]])
    """
    samples = inputs.flatten(1)
    spread = samples.std(dim=1, correction=0).reshape(-1, *[1] * (inputs.ndim - 1))
    moved = (inputs + strength * spread * gradient.sign()).clamp(inputs.min(), inputs.max())
    attacked = torch.arange(len(inputs), device=inputs.device) % 2 == 0
    return torch.where(attacked.reshape(spread.shape), moved, inputs)
