"""From an expert's own labels, calibrated under its own frequencies, to those that all modalities are fused over."""

from __future__ import annotations

import numpy as np

from affuse.errors import ConfigError, DataError
from affuse.fusion.base import Array
from affuse.labels import EKMAN, SENTIMENT, LabelSpace, map_probabilities, merge_emotions, to_emotions

__all__ = ["check_emotions", "common_emotions", "common_sentiment", "judges_sentiment", "under_common_prior"]

# Least label frequency of an expert: dividing by a rarer one would make a single answer count a thousand times over.
_RAREST = 1e-3


def judges_sentiment(labels: LabelSpace) -> bool:
    """Whether an expert's labels are sentiments rather than emotions."""
    return {"positive", "negative"} <= set(labels.labels) <= set(SENTIMENT.labels)


def check_emotions(labels: LabelSpace) -> None:
    """Raise ConfigError where labels are neither emotions that have a place among `EKMAN` nor sentiments."""
    if judges_sentiment(labels):
        return
    foreign = [label for label in labels.labels if not _is_emotion(label)]
    if foreign:
        raise ConfigError(
            f"its labels {', '.join(foreign)} have no place among {', '.join(EKMAN.labels)}; to be fused, an expert "
            "answers with such emotions, or else with negative, neutral and positive"
        )


def common_emotions(P: Array, labels: LabelSpace, own: Array, common: Array) -> Array:
    """Probabilities (n, 7) over `EKMAN` under the frequencies ``common`` (7,); see `under_common_prior`.

    ``P`` (n, k) over ``labels`` are calibrated under the frequencies ``own`` (k,). Of labels that become one, the one
    that the evidence favours most stands, as in `merge_emotions`.
    """
    known = to_emotions(np.ones(len(labels)), labels) > 0
    likelihood = np.asarray(P, dtype=float) / np.maximum(own, _RAREST)
    Q = merge_emotions(likelihood, labels)
    return under_common_prior(Q, np.where(known, 1.0, 0.0), common, known)


def common_sentiment(P: Array, labels: LabelSpace, own: Array, common: Array) -> Array:
    """Probabilities (n, 3) over `SENTIMENT` of an expert that `judges_sentiment`; as `common_emotions`."""
    known = map_probabilities(np.ones(len(labels)), labels, SENTIMENT) > 0
    moved, before = map_probabilities(P, labels, SENTIMENT), map_probabilities(own, labels, SENTIMENT)
    return under_common_prior(moved, before, common, known)


def under_common_prior(P: Array, own: Array, common: Array, known: np.ndarray) -> Array:
    """Move probabilities P (n, k) from the label frequencies ``own`` (k,) to ``common`` (k,); rows of NaN stay so.

    Labels that are not ``known`` (k,) to the expert keep their common frequency: it tells the labels it knows from each
    other, and nothing about whether it is one of these at all (probability kinematics, Jeffrey 1965).
    """
    ratio = np.where(known, common / np.maximum(own, _RAREST), 0.0)
    Q = np.asarray(P, dtype=float) * ratio
    Q = Q / Q.sum(axis=-1, keepdims=True) * common[known].sum()
    return np.where(known | np.isnan(Q), Q, common)


def _is_emotion(label: str) -> bool:
    try:
        to_emotions(np.zeros(1), LabelSpace("one", (label,)))
    except DataError:
        return False
    return True
