"""Dempster-Shafer theory for probabilities.

There are masses on single labels and on "any label", and how much they contradict each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, checked_blocks
from affuse.fusion.estimator import Fuser, check_fitted

__all__ = ["DempsterShafer"]

# No source is wholly reliable: two that are, and that contradict each other, would leave nothing to normalise.
MOST_RELIABLE = 1 - 1e-6


class DempsterShafer(Fuser):
    """Dempster's rule over probabilities that are discounted by the reliability of their modality (Shafer 1976).

    A modality of reliability r puts the mass ``r p`` on single labels and ``1 - r`` on "any label"; masses are
    combined by Dempster's rule, and what is left on "any label" is shared evenly (pignistic probability; Smets &
    Kennes 1994, doi:10.1016/0004-3702(94)90026-4). Gaps: all mass on "any label", which changes nothing. Ties: the
    first column.

    Parameters
    ----------
    reliabilities: one number from 0 to 1 a modality (m,), or one for all; where None, the accuracy of each in `fit`.
    """

    def __init__(self, reliabilities: ArrayLike | None = None) -> None:
        self.reliabilities = reliabilities

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        """Check the reliabilities, or learn them as accuracies (one row right and one wrong added)."""
        m = P.shape[1]
        if self.reliabilities is None:
            here = ~np.isnan(P[:, :, 0])
            right = [(P[here[:, j], j].argmax(axis=1) == y[here[:, j]]).sum() for j in range(m)]
            found = (np.array(right) + 1.0) / (here.sum(axis=0) + 2.0)
        else:
            found = np.asarray(self.reliabilities, dtype=float)
            if found.shape not in {(), (m,)} or not ((found >= 0) & (found <= 1)).all():
                raise DataError(
                    f"reliabilities must be from 0 to 1, one for each of {m} modalities; got {found.tolist()}"
                )
        self.reliabilities_ = np.minimum(np.broadcast_to(found, (m,)), MOST_RELIABLE)

    def combine(self, P: Array, here: Mask) -> Array:
        """Pignistic probabilities (n, k) of the combined masses of P (n, m, k)."""
        singles, anything, _ = self._masses(P, here)
        pignistic = singles + (anything / P.shape[2])[:, None]
        return np.asarray(pignistic / pignistic.sum(axis=1, keepdims=True))

    def conflict_mass(self, P: ArrayLike) -> Array:
        """Mass that the conjunction of the modalities puts on "impossible" (n,), 0 to 1.

        NaN for rows without any evidence.
        """
        check_fitted(self)
        P = np.asarray(P)
        conflict = np.empty(len(P))
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            conflict[rows] = np.where(here.any(axis=1), self._masses(block, here)[2], np.nan)
        return conflict

    def _masses(self, P: Array, here: Mask) -> tuple[Array, Array, Array]:
        """Combined, not normalised masses of labels (n, k), of "any label" (n,) and of "impossible" (n,)."""
        ignorance = np.where(here, 1 - self.reliabilities_, 1.0)
        plausible = np.where(here[:, :, None], P * self.reliabilities_[:, None], 0.0) + ignorance[:, :, None]
        anything = ignorance.prod(axis=1)
        singles = np.maximum(plausible.prod(axis=1) - anything[:, None], 0.0)
        return singles, anything, np.clip(1 - anything - singles.sum(axis=1), 0.0, 1.0)
