"""Emotion and sentiment of one answer, from one joint distribution over both."""

from __future__ import annotations

import numpy as np

from affuse.fusion.base import Array, present
from affuse.labels import EKMAN, SENTIMENT

__all__ = ["COMPATIBILITY", "TRUST", "agree", "contradicts", "lean_that_agrees", "sentiment_score", "trust_that_agrees"]

_FLOOR = 1e-6

# In MELD's train part, where people judged both, the sentiment of every emotion is always the same, but for surprise,
# which is negative in 51 % of 1,205 utterances and positive in 49 %. Judgements of one and the same text by two experts
# scatter more than that: with 0.2 of the mass elsewhere, both keep their accuracy on the sets that they are scored by.
_ELSEWHERE = 0.2


def _compatibility(elsewhere: float) -> Array:
    rows = {
        "negative": (1 - elsewhere, 0.8 * elsewhere, 0.2 * elsewhere),
        "neutral": (elsewhere / 2, 1 - elsewhere, elsewhere / 2),
        "positive": (0.2 * elsewhere, 0.8 * elsewhere, 1 - elsewhere),
        "either": (0.3, 0.4, 0.3),
    }
    signs = dict.fromkeys(("anger", "disgust", "fear", "sadness"), "negative")
    signs |= {"happiness": "positive", "surprise": "either", "neutral": "neutral"}
    return np.array([rows[signs[label]] for label in EKMAN.labels])


COMPATIBILITY: Array = _compatibility(_ELSEWHERE)
"""How probable each of `labels.SENTIMENT` is where somebody feels each of `labels.EKMAN`: (7, 3), rows sum to 1."""

_SIGNS = np.array([-1, -1, -1, 1, -1, 0, 0])  # of the emotions of `EKMAN`

_LEANING = np.array([{"negative": -1.0, "neutral": 0.0, "positive": 1.0}[label] for label in SENTIMENT.labels])
_BEYOND = 0.01  # how far a lean goes beyond the point where a sentiment is 0

TRUST = 0.9
"""How far a sentiment that an expert judges replaces the one that its own emotions imply: 0 not at all, 1 entirely."""


def agree(
    emotions: Array,
    judged: Array,
    alone: Array | None = None,
    prior: Array | None = None,
    trust: float | Array = TRUST,
    lean: float | Array = 0.0,
) -> tuple[Array, Array]:
    """Make emotions and sentiment two views of one distribution, so that they cannot contradict each other.

    An emotion implies a sentiment by `COMPATIBILITY` C. An expert that also judges sentiment knows it better than its
    emotions tell: what it judges, t, replaces what its emotions imply, i, by probability kinematics (Jeffrey 1965). The
    joint distribution of emotion e and sentiment s is

        J(e, s) ∝ emotions(e) · C(e, s) · Π over judges (t(s) / i(s)) ^ trust

    and both answers are its sums. With nobody who judges sentiment the emotions stay as they are. Where somebody does,
    a ``lean`` λ multiplies J by exp(λ) for positive and by exp(-λ) for negative (see `lean_that_agrees`).

    Parameters
    ----------
    emotions : array of shape (n, 7)
        Fused probabilities over `EKMAN`; rows of NaN have no evidence of emotion.
    judged : array of shape (n, m, 3)
        What each modality's expert judges of the sentiment, over `SENTIMENT`; NaN where it judges none.
    alone : array of shape (n, m, 7), optional
        What each modality's emotions would be by themselves, NaN where it has none; those of the answer where None.
    prior : array of shape (7,) or (n, 7), optional
        Frequencies of emotions before anything is seen, of which a judge without emotions starts; equal ones where
        None.
    trust : float or array of shape (n,)
        See `TRUST`.
    lean : float or array of shape (n,)
        Towards positive above 0, towards negative below.

    Returns
    -------
    emotions : array of shape (n, 7)
    sentiment : array of shape (n, 3)
        NaN rows where there is neither emotion nor judgement; emotions stay NaN where they were.

    Examples
    --------
    Words that sound sad by their emotions, and glad to the expert's own judgement:

    >>> sad = np.array([[0.0, 0.0, 0.0, 0.45, 0.55, 0.0, 0.0]])
    >>> glad = np.array([[[0.1, 0.1, 0.8]]])
    >>> emotions, sentiment = agree(sad, glad)
    >>> EKMAN.labels[int(emotions[0].argmax())], bool(sentiment_score(sentiment)[0] > 0)
    ('happiness', True)
    """
    emotions, judged = np.asarray(emotions, dtype=float), np.asarray(judged, dtype=float)
    n, k = emotions.shape
    has_emotions, judging = present(emotions[:, None])[:, 0], present(judged)
    start = np.broadcast_to(np.full(k, 1 / k) if prior is None else prior, (n, k))
    by_themselves = np.broadcast_to(emotions[:, None], (n, judged.shape[1], k)) if alone is None else np.asarray(alone)
    own = np.where(np.isnan(by_themselves), start[:, None], by_themselves)
    # The judgement of an expert without emotions replaces nothing, so it counts fully.
    trusts = np.where(has_emotions[:, None] & present(by_themselves), np.broadcast_to(trust, n)[:, None], 1.0)
    ratios = np.log(np.maximum(judged, _FLOOR)) - np.log(np.maximum(own @ COMPATIBILITY, _FLOOR))
    L = np.where(judging[:, :, None], ratios * trusts[:, :, None], 0.0).sum(axis=1)
    L = L + np.where(judging.any(axis=1), lean, 0.0)[:, None] * _LEANING
    base = np.where(has_emotions[:, None], emotions, start)
    # J is never laid out: its sums are products with C, before and after the ratios.
    tilt = np.exp(L - L.max(axis=1, keepdims=True))
    sentiment = (base @ COMPATIBILITY) * tilt
    total = sentiment.sum(axis=1, keepdims=True)
    moved = base * (tilt @ COMPATIBILITY.T) / total
    has_answer = has_emotions | judging.any(axis=1)
    return np.where(has_emotions[:, None], moved, np.nan), np.where(has_answer[:, None], sentiment / total, np.nan)


def contradicts(emotions: Array, sentiment: Array) -> Array:
    """Whether the likeliest emotion and the sign of the sentiment contradict each other: (n,) bool.

    Anger, disgust, fear and sadness want a sentiment below 0, happiness one above; surprise and neutral any.

    Examples
    --------
    >>> happy = np.array([[0.1, 0.0, 0.1, 0.4, 0.2, 0.1, 0.1]])
    >>> contradicts(happy, np.array([[0.6, 0.2, 0.2]])), contradicts(happy, np.array([[0.2, 0.2, 0.6]]))
    (array([ True]), array([False]))
    """
    has_emotions = ~np.isnan(emotions).any(axis=1)
    signs = np.where(has_emotions, _SIGNS[np.nan_to_num(emotions).argmax(axis=1)], 0)
    return np.asarray((signs != 0) & (signs * sentiment_score(sentiment) <= 0))


def trust_that_agrees(emotions: Array, judged: Array, alone: Array, prior: Array) -> Array:
    """How far judged sentiments are trusted in each row (n,), so that label and sentiment do not contradict each other.

    Several emotions of one sign may outweigh the likeliest one of the other sign; together with a judge who is certain
    of the wrong thing, an answer "happiness, sentiment -0.3" comes out. In such rows the judge counts half, or else not
    at all. Arguments as of `agree`.
    """
    trusts = np.full(len(emotions), TRUST)
    for less in (TRUST / 2, 0.0):
        trusts = np.where(contradicts(*agree(emotions, judged, alone, prior, trusts)), less, trusts)
    return trusts


def lean_that_agrees(emotions: Array, judged: Array, alone: Array, prior: Array, trust: Array) -> Array:
    """How far the answers of each row lean to the sign of their label (n,), 0 where the two agree already.

    `trust_that_agrees` leaves rows in which the emotions by themselves contradict each other: happiness 0.3 is the
    likeliest, but anger, sadness and fear are 0.7 together. The least lean is taken by which the sentiment has the
    label's sign. It moves no other label to the first place. Arguments as of `agree`.
    """
    moved, sentiment = agree(emotions, judged, alone, prior, trust)
    wrong = contradicts(moved, sentiment)
    signs = _SIGNS[np.nan_to_num(moved).argmax(axis=1)]
    far = np.abs(np.log(sentiment[:, SENTIMENT.index("positive")] / sentiment[:, SENTIMENT.index("negative")])) / 2
    return np.where(wrong, signs * (far + _BEYOND), 0.0)


def sentiment_score(sentiment: Array) -> Array:
    """Sentiment in -1…1 (n,): how much more probable positive is than negative, from (n, 3) over `SENTIMENT`."""
    sentiment = np.asarray(sentiment)
    return np.asarray(sentiment[:, SENTIMENT.index("positive")] - sentiment[:, SENTIMENT.index("negative")])
