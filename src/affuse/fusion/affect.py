"""Valence and arousal: how pleasant and how active what somebody expresses is, from emotions and from ratings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from affuse.fusion.base import Array, present
from affuse.labels import EKMAN

__all__ = ["AFFECT", "VALENCE_AROUSAL", "fused_affect", "implied_affect"]

VALENCE_AROUSAL: Mapping[str, tuple[float, float]] = {
    "anger": (-0.51, 0.59),
    "disgust": (-0.60, 0.35),
    "fear": (-0.64, 0.60),
    "happiness": (0.81, 0.51),
    "sadness": (-0.63, -0.27),
    "surprise": (0.0, 0.67),
    "neutral": (0.0, 0.0),
    "calm": (0.68, -0.46),
    "boredom": (-0.65, -0.62),
}
"""Valence and arousal of emotions in -1…1, as people rated the words for them (Russell & Mehrabian 1977,
doi:10.1016/0092-6566(77)90037-X; "calm" is their "relaxed"). Neutral is the middle. Surprise is rated at valence 0.40
there; here it is 0, since it is negative as often as positive where people judged both (`affuse.fusion.sentiment`)."""

AFFECT: Array = np.array([VALENCE_AROUSAL[label] for label in EKMAN.labels])
"""Those of `labels.EKMAN`: (7, 2)."""


def implied_affect(emotions: Array) -> Array:
    """Expected valence and arousal of emotions, by `VALENCE_AROUSAL`.

    Parameters
    ----------
    emotions : array of shape (..., 7)
        Probabilities over `EKMAN`; rows of NaN have no evidence.

    Returns
    -------
    array of shape (..., 2)
        Valence and arousal in -1…1; NaN rows likewise.

    Examples
    --------
    >>> implied_affect(np.array([0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]))  # half anger, half neutral
    array([-0.255,  0.295])
    """
    return np.asarray(np.asarray(emotions, dtype=float) @ AFFECT)


def fused_affect(fused: Array, alone: Array, rated: Array, own: Array | None = None) -> tuple[Array, Array]:
    """Valence and arousal of each modality and of the fused answer.

    What an expert rates replaces what its own emotions imply. The fused answer's emotions imply a value, which moves by
    what the ratings differ from what the emotions of their modality imply, each divided by the number of modalities
    that say something: with one modality alone the answer is its rating.

    Parameters
    ----------
    fused : array of shape (n, 7)
        Fused probabilities over `EKMAN`; NaN rows have no evidence.
    alone : array of shape (n, m, 7)
        What each modality is answered as by itself; NaN where it says nothing.
    rated : array of shape (n, m, 2)
        Valence and arousal that experts rate; NaN where they rate none.
    own : array of shape (n, m), optional
        How probable it is that a modality is about the person in question; 1 where None.

    Returns
    -------
    modalities : array of shape (n, m, 2)
    answer : array of shape (n, 2)
        In -1…1; NaN where there is no evidence.

    Examples
    --------
    A neutral face, and a voice that is taken for neutral, too, but rated as excited:

    >>> neutral = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]])
    >>> rated = np.array([[[np.nan, np.nan], [np.nan, 0.6]]])
    >>> modalities, answer = fused_affect(neutral, np.stack([neutral, neutral], axis=1), rated)
    >>> answer
    array([[0. , 0.3]])
    """
    implied, speaks = implied_affect(alone), present(np.asarray(alone))
    known = ~np.isnan(rated) & speaks[:, :, None]
    modalities = np.where(known, np.clip(np.where(known, rated, 0.0), -1, 1), implied)
    weight = speaks / np.maximum(speaks.sum(axis=1, keepdims=True), 1)
    if own is not None:
        weight = weight * own
    moved = np.where(known, modalities - np.nan_to_num(implied), 0.0)
    answer = implied_affect(fused) + (weight[:, :, None] * moved).sum(axis=1)
    return modalities, np.asarray(np.clip(answer, -1, 1))
