"""Whose voice a moment sounds like, when it is mostly known who speaks.

Synchrony says little about half a second. But people keep their voice: from the moments at which it is clear who
speaks, the voice of every face is learned, as a normal distribution of the cepstrum, and the other moments are compared
with it. Both are repeated, as in the EM algorithm. Somebody off screen may be several people: their voice is that of
all speech in the recording, or else one person whose voice changes would be taken for two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["StepVoices"]

_PRIOR = 20.0  # steps of speech of anybody's voice with which everybody's own is mixed
_LEAST = 2 / 3  # pictures of speech in a step; with less it is not compared
_LEAST_STEPS = 3.0  # of speech in the recording
_LEAST_VARIANCE = 1e-3


@dataclass(frozen=True)
class StepVoices:
    """The colour of the speech in every step of a recording, less that of all of its speech.

    Parameters
    ----------
    colour : array of shape (n, d)
        Cepstrum; 0 in steps without enough speech.
    weight : array of shape (n,)
        Share of a step that is speech, 0…1; 0 where that is not enough.

    References
    ----------
    Dempster, Laird and Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm.
    doi:10.1111/j.2517-6161.1977.tb01600.x

    Examples
    --------
    >>> voices = StepVoices.of(np.repeat([[1.0], [-1.0]], 90, axis=0), np.ones(180), hop=3)
    >>> unsure = np.repeat([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]], 30, axis=0)
    >>> likely = voices.log_likelihoods(unsure)
    >>> bool((likely[:30, 0] > likely[:30, 1]).all() and (likely[30:, 0] < likely[30:, 1]).all())
    True
    """

    colour: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, colour: np.ndarray, speech: np.ndarray, hop: int) -> StepVoices:
        """From pictures to steps.

        Parameters
        ----------
        colour : array of shape (t, d)
            Cepstrum of the sound in the time of t pictures.
        speech : array of shape (t,)
            Share of each picture's time in which there is speech.
        hop : int
            Pictures of a step.

        Returns
        -------
        StepVoices
        """
        if not len(speech):
            return cls(np.zeros((0, colour.shape[1])), np.zeros(0))
        first = np.arange(0, len(speech), hop)
        spoken = np.add.reduceat(speech, first)
        total = np.add.reduceat(colour * speech[:, None], first, axis=0, dtype=float)
        enough = spoken >= _LEAST
        own = np.where(enough[:, None], total / np.maximum(spoken, _LEAST)[:, None], 0.0)
        weight = np.where(enough, spoken / hop, 0.0)
        mean = weight @ own / max(weight.sum(), 1e-9)
        return cls(np.where(enough[:, None], own - mean, 0.0), weight)

    @property
    def enough(self) -> bool:
        """Whether there is speech to compare."""
        return bool(self.weight.sum() >= _LEAST_STEPS)

    def log_likelihoods(self, speaks: np.ndarray) -> np.ndarray:
        """How well every step fits the voice of every face, as it is found by how probable it is that they speak.

        Parameters
        ----------
        speaks : array of shape (n, m + 1)
            How probable it is in every step that each of m faces speaks, and that somebody off screen does.

        Returns
        -------
        array of shape (n, m + 1)
            Log-likelihoods, less their mean over the row; 0 where there is too little speech.
        """
        spoken = speaks * self.weight[:, None]
        total = spoken.sum(axis=0)
        means = spoken.T @ self.colour / (total + _PRIOR)[:, None]
        squares = ((self.colour[:, None] - means) ** 2).transpose(1, 0, 2)
        own = np.einsum("nk,knd->d", spoken, squares) / max(total.sum(), 1e-9) + _LEAST_VARIANCE
        anybody = self.weight @ self.colour**2 / max(self.weight.sum(), 1e-9) + _LEAST_VARIANCE
        likely = -0.5 * (squares / own).sum(axis=2).T
        likely[:, -1] = -0.5 * (self.colour**2 / anybody + np.log(anybody / own)).sum(axis=1)
        return np.asarray(self.weight[:, None] * (likely - likely.mean(axis=1, keepdims=True)))
