"""Why a fused answer came out as it did: conflict between the modalities, and each one's exact share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import factorial

import numpy as np

from affuse.fusion.base import Array, present

__all__ = ["conflict", "conflict_in_words", "log_odds", "shapley_shares"]


def conflict(P: Array) -> Array:
    """Jensen-Shannon divergence between the modalities with evidence, scaled to 0…1 (Lin 1991, doi:10.1109/18.61115).

    P (n, m, k) with NaN for missing evidence. The divergence of equally weighted modalities, in bits, is divided by the
    log2 of their number, which is its upper bound. Returns (n,); NaN where fewer than two modalities speak.
    """
    here = present(P)
    count = here.sum(axis=1)
    filled = np.where(here[:, :, None], P, 0.0)
    speakers = np.maximum(count, 1)
    mixture = filled.sum(axis=1) / speakers[:, None]
    divergence = _entropy(mixture) - _entropy(filled).sum(axis=1) / speakers
    scaled = np.clip(divergence / np.log2(np.maximum(count, 2)), 0.0, 1.0)
    return np.where(count >= 2, scaled, np.nan)


def _entropy(P: Array) -> Array:
    return np.asarray(-(P * np.log2(np.where(P > 0, P, 1.0))).sum(axis=-1))


def conflict_in_words(P: Array, modalities: Sequence[str], labels: Sequence[str]) -> str:
    """Who says what in one row P (m, k), for example "face says happiness, voice and text say anger".

    Empty where all modalities with evidence agree on the label.
    """
    speakers: dict[str, list[str]] = {}
    for modality, row in zip(modalities, P, strict=True):
        if not np.isnan(row).any():
            speakers.setdefault(labels[int(row.argmax())], []).append(modality)
    if len(speakers) < 2:
        return ""
    return ", ".join(
        f"{' and '.join(names)} {'says' if len(names) == 1 else 'say'} {label}" for label, names in speakers.items()
    )


def log_odds(p: Array) -> Array:
    """Log-odds of probabilities, kept finite."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p) - np.log1p(-p))


def shapley_shares(P: Array, fuse: Callable[[Array], Array], prior: Array, labels: Array) -> Array:
    """Exact Shapley share of every modality in the log-odds of the answer (Lundberg & Lee 2017, arXiv:1705.07874).

    The value of a set of modalities is the log-odds that ``fuse`` gives to the row's label ``labels`` (n,) when only
    the set speaks; the empty set has those of ``prior`` (k,). All 2^m sets are evaluated. P (n, m, k); returns (n,
    m): shares of a row add up to the log-odds of the full answer over the prior; NaN for modalities without evidence.
    """
    n, m, _ = P.shape
    rows = np.arange(n)
    here = present(P)
    values: dict[frozenset[int], Array] = {}
    for size in range(m + 1):
        for members in combinations(range(m), size):
            masked = P.copy()
            masked[:, [i for i in range(m) if i not in members]] = np.nan
            fused = fuse(masked)
            # Members without evidence leave the prior's answer, as if they were not in the set.
            fused = np.where(np.isnan(fused).any(axis=1, keepdims=True), prior, fused)
            values[frozenset(members)] = log_odds(fused[rows, labels])
    shares = np.zeros((n, m))
    for i in range(m):
        others = [j for j in range(m) if j != i]
        for size in range(m):
            weight = factorial(size) * factorial(m - size - 1) / factorial(m)
            for members in combinations(others, size):
                shares[:, i] += weight * (values[frozenset((*members, i))] - values[frozenset(members)])
    return np.where(here, shares, np.nan)
