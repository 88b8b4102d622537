"""Does taking a modality away make the answer surer? It should not: less was seen."""

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
    """What happens to the top probability when one modality is removed, over all rows and modalities.

    ``mean_change`` is the mean of top probability without minus with the modality; ``share_risen`` the share of pairs
    (row, modality) in which it rises; ``pairs`` their number.
    """

    mean_change: float
    share_risen: float
    pairs: int


def confidence_rise(fuser: Any, P: ArrayLike) -> ConfidenceRise:
    """Remove every modality in turn from every row of P (n, m, k) in which another one speaks.

    Ma et al., ICML 2023, arXiv:2306.01265. ``fuser`` is fitted. Raises DataError where no row has two modalities.
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
