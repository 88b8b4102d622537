"""From logits to calibrated answers: offsets that favour rare labels (logit adjustment)."""

from __future__ import annotations

import numpy as np

__all__ = ["class_offsets"]

_F1_NOISE = 0.0025


def class_offsets(
    logits: np.ndarray, targets: np.ndarray, powers: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3), average: str = "macro"
) -> np.ndarray:
    """What to add to calibrated logits (n, k) so that rare labels are answered more often: -power · ln(prior), (k,).

    The power is the largest whose F1 (``average`` as in scikit-learn) on the held-out rows comes within 0.0025 of the
    best: rare labels are favoured as far as that costs nothing measurable; 0 leaves the calibrated posterior as it is.
    Source: Menon et al. 2021 (arXiv:2007.07314).
    """
    from sklearn.metrics import f1_score

    prior = np.bincount(targets, minlength=logits.shape[1]) / len(targets)
    offsets = [-power * np.log(prior) for power in powers]
    scores = [f1_score(targets, (logits + offset).argmax(axis=1), average=average) for offset in offsets]
    return offsets[int(np.flatnonzero(np.array(scores) >= max(scores) - _F1_NOISE)[-1])]
