"""The logarithmic opinion pool as plain functions of arrays; scikit-learn is needed to learn one, not to use one."""

from __future__ import annotations

import numpy as np

from affuse.fusion.base import Array, Mask, present, softmax

__all__ = ["FLOOR", "common_cause_pool", "log_pool", "separation"]

# No expert is ever surer than this: a single probability of zero would otherwise veto a label for good.
FLOOR = 1e-6


def log_pool(P: Array, weights: Array, priors: Array, prior: Array) -> Array:
    """Weighted logarithmic opinion pool with prior correction (Genest & Zidek 1986, doi:10.1214/ss/1177013825).

    ``log q = log prior + sum_m weights[m] (log P[m] - log priors[m])``, normalised. With weights of 1 this is Bayes'
    product rule for modalities that are independent given the label. P (n, m, k) may hold NaN for modalities without
    evidence, which are left out; weights (m,); priors (m, k) are the label frequencies that each expert was trained
    under; prior (k,) is that of the answer. Returns (n, k); rows without any evidence are NaN.
    """
    here = present(P)
    ratio = np.log(np.maximum(P, FLOOR)) - np.log(priors)
    L = np.log(prior) + np.einsum("m,nmk->nk", np.asarray(weights), np.where(here[:, :, None], ratio, 0.0))
    q = softmax(L)
    q[~here.any(axis=1)] = np.nan
    return q


def common_cause_pool(P: Array, weights: Array, priors: Array, prior: Array, separate: float) -> Array:
    """Logarithmic pool that gives way where the modalities cannot well mean the same (Kording et al. 2007).

    With probability ``separate``, known beforehand, every modality expresses an emotion of its own; otherwise one
    emotion is behind all of them, which is what the product of `log_pool` assumes. The answers of both cases are
    averaged by `separation`: the product where modalities agree, the mean of their opinions where they contradict
    each other, so that conflict costs confidence. Arguments and result as in `log_pool`, which this is for
    ``separate`` = 0.
    """
    joints = _log_joints(P, weights, priors, prior)
    return _blend(*joints, _separation(*joints, separate))


def separation(P: Array, weights: Array, priors: Array, prior: Array, separate: float) -> Array:
    """Probability (n,) that the modalities express different emotions after all, from how well they agree.

    Causal inference over one or several causes (Kording et al. 2007, doi:10.1371/journal.pone.0000943, eq. 2).
    """
    return _separation(*_log_joints(P, weights, priors, prior), separate)


def _separation(alone: Array, common: Array, here: Mask, separate: float) -> Array:
    apart = np.where(here, np.logaddexp.reduce(alone, axis=2), 0.0).sum(axis=1)
    odds = (separate / (1 - separate)) * np.exp(np.clip(apart - np.logaddexp.reduce(common, axis=1), -500, 500))
    return np.asarray(odds / (1 + odds))


def _blend(alone: Array, common: Array, here: Mask, share: Array) -> Array:
    opinions = np.where(here[:, :, None], np.exp(alone - np.logaddexp.reduce(alone, axis=2, keepdims=True)), 0.0)
    count = here.sum(axis=1)[:, None]
    mean = np.divide(opinions.sum(axis=1), count, out=np.full(common.shape, np.nan), where=count > 0)
    product = np.exp(common - np.logaddexp.reduce(common, axis=1, keepdims=True))
    return np.asarray((1 - share[:, None]) * product + share[:, None] * mean)


def _log_joints(P: Array, weights: Array, priors: Array, prior: Array) -> tuple[Array, Array, Mask]:
    """Log of prior times evidence, for every modality alone (n, m, k) and for all together (n, k), and who speaks."""
    here = present(P)
    evidence = np.asarray(weights)[:, None] * (np.log(np.maximum(P, FLOOR)) - np.log(priors))
    evidence = np.where(here[:, :, None], evidence, 0.0)
    return np.log(prior) + evidence, np.log(prior) + evidence.sum(axis=1), here
