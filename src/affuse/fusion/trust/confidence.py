"""Check that removing a modality does not make an answer more certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import DataError
from affuse.fusion.base import check_probabilities, present

__all__ = ["ConfidenceRise", "confidence_rise"]

# Differences below this are rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class ConfidenceRise:
    """What happens to the top probability when one modality is removed; `confidence_rise` makes it.

    Parameters
    ----------
    mean_change : float
        Mean of the top probability without the modality minus that with it.
    share_risen : float
        Share of pairs (row, modality) in which the top probability rises.
    pairs : int
        Number of pairs.

    Examples
    --------
    >>> ConfidenceRise(mean_change=-0.1, share_risen=0.0, pairs=20).share_risen
    0.0
    """

    mean_change: float
    share_risen: float
    pairs: int


def confidence_rise(fuser: Any, P: ArrayLike) -> ConfidenceRise:
    """Whether removing a modality makes the answer more certain, which it should not.

    Every modality is removed in turn from every row in which another one is present.

    Parameters
    ----------
    fuser : Fuser
        Fitted.
    P : array of shape (n_samples, n_modalities, n_classes)
        Class probabilities; NaN where a modality is missing.

    Returns
    -------
    ConfidenceRise

    Raises
    ------
    DataError
        If no row has two modalities.

    References
    ----------
    Ma et al. (2023), Calibrating multimodal learning, ICML. arXiv:2306.01265

    Examples
    --------
    Two modalities at 80 % support each other in a product, so each alone is less certain:

    >>> from affuse.fusion import ProductRule
    >>> P = np.array([[[0.8, 0.2], [0.8, 0.2]], [[0.2, 0.8], [0.2, 0.8]]])
    >>> found = confidence_rise(ProductRule().fit(P, [0, 1]), P)
    >>> round(found.mean_change, 3), found.share_risen, found.pairs
    (-0.141, 0.0, 4)
    """
    P = check_probabilities(P)
    here = present(P)
    top = fuser.predict_proba(P).max(axis=1)
    changes = []
    for j in range(P.shape[1]):
        rows = here[:, j] & (here.sum(axis=1) > 1)
        if rows.any():
            less = P[rows].copy()
            less[:, j] = np.nan
            changes.append(fuser.predict_proba(less).max(axis=1) - top[rows])
    if not changes:
        raise DataError("no row of P has evidence of two modalities; got one at most")
    change = np.concatenate(changes)
    return ConfidenceRise(float(change.mean()), float((change > ROUNDING).mean()), len(change))
