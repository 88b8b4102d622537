"""Label frequencies: named tables, and moving class probabilities from one to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array
from affuse.labels import recognise

__all__ = [
    "DEFAULT_PRIOR",
    "LEAST",
    "MELD_TRAIN",
    "NAMES",
    "TEMPER",
    "check_frequencies",
    "named_frequencies",
    "reweight",
]

# Rows of train_sent_emo.csv (9,989 utterances of a television series; joy counts as happiness) by label.
# Poria et al. (2019), MELD: a multimodal multi-party dataset for emotion recognition in conversations. arXiv:1810.02508
MELD_TRAIN = {
    "anger": 1109,
    "disgust": 271,
    "fear": 268,
    "happiness": 1743,
    "sadness": 683,
    "surprise": 1205,
    "neutral": 4710,
}
"""How many utterances of MELD's training part have each label."""

TEMPER = 0.25
"""Power to which "tempered" raises the frequencies of dialogue: 0 is uniform, 1 is dialogue; see docs/priors.md."""

NAMES = ("dialogue", "uniform", "tempered")
"""Priors that have a name."""

DEFAULT_PRIOR = "tempered"
"""The prior where nobody chooses one."""

LEAST = 1e-6
"""Frequency that a label keeps which is said never to occur, so that logarithms stay finite."""


def named_frequencies(name: str, labels: Sequence[str]) -> Array:
    """Label frequencies of a named prior.

    "dialogue" and "tempered" know the seven labels of `affuse.EKMAN`; some of them, or words for them ("angry"), are
    enough. One is added to every count (Laplace's rule of succession).

    Parameters
    ----------
    name : str
        One of `NAMES`.
    labels : sequence of str
        Labels of the answer.

    Returns
    -------
    array of shape (n_classes,)
        In the order of the labels.

    Raises
    ------
    ConfigError
        For another name, or a label that was not counted in dialogue.

    Examples
    --------
    >>> named_frequencies("dialogue", ["anger", "neutral"]).round(3)
    array([0.191, 0.809])
    """
    if name not in NAMES:
        raise ConfigError(f"unknown prior {name!r}; known: {', '.join(NAMES)}")
    if name == "uniform":
        return np.full(len(labels), 1 / len(labels))
    meant = [label if label in MELD_TRAIN else recognise(label) for label in labels]
    foreign = [label for label, own in zip(labels, meant, strict=True) if own not in MELD_TRAIN]
    if len(set(meant)) < len(meant) and not foreign:
        raise ConfigError(f"two of the labels {', '.join(labels)} mean the same; take the prior uniform or a file")
    if foreign:
        raise ConfigError(
            f"the prior {name!r} knows {', '.join(MELD_TRAIN)}, not {', '.join(foreign)}; take uniform or a file"
        )
    counts = np.array([MELD_TRAIN[str(label)] + 1.0 for label in meant])
    powers = (counts / counts.sum()) ** (TEMPER if name == "tempered" else 1.0)
    return np.asarray(powers / powers.sum())


def check_frequencies(values: ArrayLike, k: int) -> Array:
    """Frequencies (k,) that add up to 1 from counts or shares; none stays below `LEAST`.

    Raises
    ------
    ConfigError
        Where their number is not ``k``, one is negative or not finite, or all are 0.
    """
    f = np.array(values, dtype=float)
    if f.shape != (k,):
        raise ConfigError(f"expected {k} frequencies, one a label; got shape {f.shape}")
    if not np.isfinite(f).all() or (f < 0).any():
        raise ConfigError(f"frequencies must be finite and at least 0; got {', '.join(f'{x:g}' for x in f)}")
    if f.sum() == 0:
        raise ConfigError("all frequencies are 0; at least one label must be possible")
    if abs(f.sum() - 1) > 1e-12:  # what is normalised stays as it is, to the last digit
        f /= f.max()  # so that sums of huge counts stay finite
        f /= f.sum()
    if f.min() < 0.99 * LEAST:  # dividing by the sum takes raised ones a little below
        f = np.maximum(f, LEAST)
        f /= f.sum()
    return f


def reweight(P: ArrayLike, old: ArrayLike, new: ArrayLike) -> Array:
    """Move class probabilities from one prior to another: ``q ∝ p · new / old``.

    The likelihood of the evidence stays; only the assumed label frequencies change.

    Parameters
    ----------
    P : array of shape (n_samples, n_classes)
        Class probabilities under ``old``; rows of NaN ("no evidence") stay so.
    old : array of shape (n_classes,) or (n_samples, n_classes)
        Label frequencies that P was computed under.
    new : array of shape (n_classes,) or (n_samples, n_classes)
        Label frequencies of the answer.

    Returns
    -------
    array of shape (n_samples, n_classes)

    Raises
    ------
    DataError
        If the numbers of classes differ.

    References
    ----------
    Saerens, Latinne & Decaestecker (2002), Adjusting the outputs of a classifier to new a priori probabilities.
    doi:10.1162/089976602753284446

    Examples
    --------
    >>> reweight([[0.5, 0.5]], [0.8, 0.2], [0.5, 0.5])
    array([[0.2, 0.8]])
    """
    P, old, new = (np.asarray(a, dtype=float) for a in (P, old, new))
    if not P.shape[-1] == old.shape[-1] == new.shape[-1]:
        raise DataError(
            f"P, old and new need the same number of classes; got {P.shape[-1]}, {old.shape[-1]} and {new.shape[-1]}"
        )
    Q = np.asarray(P * (new / np.maximum(old, np.finfo(float).tiny)))
    total = Q.sum(axis=-1, keepdims=True)
    impossible = total == 0  # the new prior excludes every label that the row considers possible
    if impossible.any():
        Q = np.where(impossible, new, Q)
        total = Q.sum(axis=-1, keepdims=True)
    return np.asarray(Q / total)
