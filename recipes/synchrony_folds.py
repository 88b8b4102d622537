"""The three pairs of networks of who speaks, each for the two actors that it never met."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affuse.people.synchrony import WIDTH, SynchronyNetworks

__all__ = ["FOLDS", "networks_of_fold"]

FOLDS = 3
"""Pairs of networks that are trained, each without some of the actors."""

_OWN = WIDTH // FOLDS


class OneOfThree(SynchronyNetworks):
    """One of the shipped pairs by itself, which looks at every picture."""

    def __init__(self, fold: int) -> None:
        super().__init__()
        self.fold = fold

    def of_mouths(self, pictures: np.ndarray) -> np.ndarray:
        """As the product's; 0 in the places of the other two."""
        found = np.zeros((len(pictures), WIDTH), dtype=np.float32)
        own = slice(self.fold * _OWN, (self.fold + 1) * _OWN)
        for shift in range(FOLDS):  # the networks take turns, so that each comes to all pictures in three rounds
            shifted = np.concatenate([np.repeat(pictures[:1], shift, axis=0), pictures])
            part = super().of_mouths(shifted)[shift:, own]
            seen = np.abs(part).sum(axis=1) > 0
            found[seen, own] = part[seen]
        return found


def networks_of_fold(fold: int, run: Path | None) -> SynchronyNetworks:
    """Networks that learned without the actors of a fold: of a run, or those that ship where None."""
    if run is None:
        return OneOfThree(fold)
    folder = run / f"fold{fold}"
    return SynchronyNetworks(folder / "synchrony_face.onnx", folder / "synchrony_voice.onnx")
