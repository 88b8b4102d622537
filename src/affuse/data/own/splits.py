"""Train and dev splits that share no speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from affuse.data.own.samples import Sample

__all__ = ["complete_splits", "set_aside"]


def complete_splits(samples: Sequence[Sample], share: float, seed: int) -> tuple[list[Sample], list[str]]:
    """Samples with the splits that they state, or with a dev split taken out of train, and how that was done.

    Speakers stay whole where they are known; a row without a label goes with its speaker.
    """
    samples = [replace(sample, split=sample.split or "train") for sample in samples]
    pool = [i for i, s in enumerate(samples) if s.split == "train" and s.label is not None]
    if any(sample.split == "dev" for sample in samples) or len(pool) < 2:
        return samples, []
    targets = np.array([samples[i].label for i in pool])
    speakers = [samples[i].speaker for i in pool]
    aside = set_aside(targets, speakers, share, seed)
    known = len(set(speakers) - {None})
    if not aside.any():
        speakers, known = [None] * len(pool), 1
        aside = set_aside(targets, speakers, share, seed)
    chosen = {pool[j] for j in np.flatnonzero(aside)}
    names = {samples[i].speaker for i in chosen} - {None} if known > 1 else set()
    parted = [
        replace(sample, split="dev") if i in chosen or (sample.speaker in names and sample.split == "train") else sample
        for i, sample in enumerate(samples)
    ]
    return parted, [_how(len(chosen), len(pool), len(names), known, seed)]


def _how(rows: int, pool: int, speakers: int, known: int, seed: int) -> str:
    said = f"no dev split was stated: {rows} of {pool} rows were set aside by seed {seed}"
    if known > 1:
        return f"{said}, {speakers} of {known} speakers, none of whom is in train"
    why = "all rows are of one speaker" if known else "no speakers are known"
    return f"{said}, by row because {why}: figures are too good where the same people are in train and dev"


def set_aside(targets: np.ndarray, speakers: Sequence[str | None], share: float, seed: int) -> np.ndarray:
    """Which rows (n,) bool become dev: about ``share`` of them, whole speakers, labels as even as these allow.

    ``targets`` (n,) are columns of labels. A row without a speaker is on its own. Nothing is set aside where all rows
    are of one speaker. The fold of `sklearn.model_selection.StratifiedGroupKFold` that leaves two rows of every label
    in train, if there is one, and is nearest to the whole.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    names = {speaker: i for i, speaker in enumerate(dict.fromkeys(s for s in speakers if s is not None))}
    groups = np.array([len(names) + i if s is None else names[s] for i, s in enumerate(speakers)])
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        return np.zeros(len(targets), dtype=bool)
    n_folds = min(round(1 / share), n_groups)
    strata = _strata(targets, n_folds)
    options = {"n_splits": n_folds, "shuffle": True, "random_state": seed}
    if n_groups == len(groups):  # the same kind of folds, but the search by groups takes minutes over so many
        folds = StratifiedKFold(**options).split(targets, strata)
    else:
        folds = StratifiedGroupKFold(**options).split(targets, strata, groups)
    candidates = []
    for _, rows in folds:
        mask = np.zeros(len(targets), dtype=bool)
        mask[rows] = True
        candidates.append(mask)
    return min(candidates, key=lambda mask: _distance(targets, mask, share))


def _strata(targets: np.ndarray, n_folds: int) -> np.ndarray:
    """Labels with fewer rows than folds are taken together, since they cannot be in every fold anyway."""
    values, inverse, counts = np.unique(targets, return_inverse=True, return_counts=True)
    merged = np.where(counts < n_folds, -1, np.arange(len(values)))
    if counts[merged == -1].sum() < n_folds:
        merged[merged == -1] = counts.argmax()
    strata: np.ndarray = merged[inverse]
    return strata if np.unique(strata, return_counts=True)[1].min() >= n_folds else np.zeros_like(strata)


def _distance(targets: np.ndarray, dev: np.ndarray, share: float) -> tuple[int, float]:
    """Labels left with fewer than two rows in train, then how far the dev split is from its share of every label."""
    _, inverse = np.unique(targets, return_inverse=True)
    total = np.bincount(inverse)
    taken = np.bincount(inverse[dev], minlength=len(total))
    return int((total - taken < np.minimum(total, 2)).sum()), float(np.abs(taken - share * total).sum())
