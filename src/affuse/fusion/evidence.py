"""Dempster-Shafer theory: masses on single labels and on the set of all labels, and how far they contradict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, checked_blocks
from affuse.fusion.estimator import Fuser, check_fitted
from affuse.fusion.schema import Check, numbers
from affuse.fusion.weighting import smoothed_accuracies

__all__ = ["DempsterShafer"]

# No source is wholly reliable: two that are, and that contradict each other, would leave nothing to normalise.
MOST_RELIABLE = 1 - 1e-6


class DempsterShafer(Fuser):
    """Dempster's rule over probabilities that are discounted by the reliability of their modality.

    A modality of reliability r puts the mass ``r p`` on single labels and ``1 - r`` on the set of all labels. Masses
    are combined by Dempster's rule, and the mass left on the set of all labels is shared evenly (pignistic
    probability). Gaps: all mass on the set of all labels, which changes nothing. Ties: the first column.

    Parameters
    ----------
    reliabilities : float or array of shape (n_modalities,), optional
        From 0 to 1; where None, the accuracy of each modality in `fit`.

    Attributes
    ----------
    reliabilities_ : array of shape (n_modalities,)
        The reliabilities in use, below 1.

    References
    ----------
    Shafer (1976), A mathematical theory of evidence. Princeton University Press

    Smets & Kennes (1994), The transferable belief model. doi:10.1016/0004-3702(94)90026-4

    Examples
    --------
    >>> P = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.2, 0.8], [np.nan, np.nan]]])
    >>> fuser = DempsterShafer([0.9, 0.5]).fit(P, ["happy", "sad"])
    >>> fuser.predict_proba(P).round(3)
    array([[0.828, 0.172],
           [0.23 , 0.77 ]])
    """

    def __init__(self, reliabilities: ArrayLike | None = None) -> None:
        self.reliabilities = reliabilities

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        return {"reliabilities_": numbers(m, low=0.0, high=MOST_RELIABLE)}

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        # Check the reliabilities, or learn them as accuracies (one row right and one wrong added)
        m = P.shape[1]
        if self.reliabilities is None:
            found = smoothed_accuracies(P, y)
        else:
            found = np.asarray(self.reliabilities, dtype=float)
            if found.shape not in {(), (m,)} or not ((found >= 0) & (found <= 1)).all():
                raise DataError(
                    f"reliabilities must be from 0 to 1, one for each of {m} modalities; got {found.tolist()}"
                )
        self.reliabilities_ = np.minimum(np.broadcast_to(found, (m,)), MOST_RELIABLE)

    def combine(self, P: Array, here: Mask) -> Array:
        # Pignistic probabilities (n, k) of the combined masses of P (n, m, k)
        singles, anything, _ = self._masses(P, here)
        pignistic = singles + (anything / P.shape[2])[:, None]
        return np.asarray(pignistic / pignistic.sum(axis=1, keepdims=True))

    def conflict_mass(self, P: ArrayLike) -> Array:
        """Mass that the combined modalities put on the empty set: how far they contradict each other.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.

        Returns
        -------
        array of shape (n_samples,)
            From 0 to 1; NaN for rows without any modality.

        Examples
        --------
        >>> P = np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.9, 0.1], [0.9, 0.1]]])
        >>> DempsterShafer(0.9).fit(P, [0, 1]).conflict_mass(P).round(3)
        array([0.664, 0.146])
        """
        check_fitted(self)
        P = np.asarray(P)
        conflict = np.empty(len(P))
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            conflict[rows] = np.where(here.any(axis=1), self._masses(block, here)[2], np.nan)
        return conflict

    def _masses(self, P: Array, here: Mask) -> tuple[Array, Array, Array]:
        """Combined, not normalised masses of labels (n, k), of all labels together (n,) and of the empty set (n,)."""
        ignorance = np.where(here, 1 - self.reliabilities_, 1.0)
        plausible = np.where(here[:, :, None], P * self.reliabilities_[:, None], 0.0) + ignorance[:, :, None]
        anything = ignorance.prod(axis=1)
        singles = np.maximum(plausible.prod(axis=1) - anything[:, None], 0.0)
        return singles, anything, np.clip(1 - anything - singles.sum(axis=1), 0.0, 1.0)
