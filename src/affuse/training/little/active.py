"""Active learning: which clips a person should label next, and why.

A clip is worth labelling where the network wavers and where it is unlike what has been labelled already: every pick
maximises the entropy of its answer times the distance of its embedding to the nearest labelled or picked clip. That is
k-center greedy (Sener & Savarese 2018, arXiv:1708.00489) weighted by uncertainty, as BADGE weights by the length of the
gradient (Ash et al. 2020, arXiv:1906.03671), without drawing lots.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affuse.atomic import replacing
from affuse.errors import ConfigError
from affuse.experts.bundle import Bundle
from affuse.training.data import Sample
from affuse.training.little.asking import ask

__all__ = ["Suggestion", "choose_next", "suggest", "write_suggestions"]

_WAVERS = 0.15  # lead of the likeliest label under which two are said to be close
_UNLIKE = 0.75  # quantile of the distances from which a clip counts as unlike the labelled ones


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A sample to label, how much it promises (0…1, falling) and why, in words."""

    sample: Sample
    score: float
    reason: str


def suggest(bundle: Bundle, samples: Sequence[Sample], n: int, labelled: Sequence[Sample] = ()) -> list[Suggestion]:
    """The ``n`` of ``samples`` to label next, the most promising first, given what is ``labelled`` already.

    Samples that give the network nothing to judge are never suggested. Raises ConfigError for an ``n`` under 1,
    DataError without samples.
    """
    if n < 1:
        raise ConfigError(f"at least 1 clip can be suggested; got {n}")
    answers = ask(bundle, samples)
    known = ask(bundle, labelled).embeddings if labelled else np.empty((0, answers.embeddings.shape[1]))
    readable = np.flatnonzero(np.isfinite(answers.probabilities).all(axis=1))
    P, embeddings = answers.probabilities[readable], answers.embeddings[readable]
    known = known[np.isfinite(known).all(axis=1)]
    picks, scores, distances = choose_next(P, embeddings, n, known)
    far = np.quantile(distances, _UNLIKE) if len(distances) else 0.0
    return [
        Suggestion(
            samples[readable[pick]],
            float(score),
            _reason(P[pick], bundle.description.labels.labels, len(known) > 0 and distances[pick] >= far),
        )
        for pick, score in zip(picks, scores, strict=True)
    ]


def choose_next(
    P: np.ndarray, embeddings: np.ndarray, n: int, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to label next, their scores (m,), and the distance (rows,) of every row to the nearest known one.

    ``P`` (rows, k), ``embeddings`` (rows, d), ``known`` (labelled, d). m is ``n``, or all rows where there are fewer.
    Distances are between directions of the centred embeddings, 0…1, and 1 where nothing is known.
    """
    uncertainty = _entropy(P)
    centre = np.concatenate([embeddings, known]).mean(axis=0) if len(embeddings) else 0.0
    own, known = _directions(embeddings - centre), _directions(known - centre)
    nearest = _distance(own, known) if len(known) else np.ones(len(own))
    from_known = nearest.copy()
    picks: list[int] = []
    scores: list[float] = []
    for _ in range(min(n, len(own))):
        promise = uncertainty * nearest
        promise[picks] = -1.0
        pick = int(promise.argmax())
        picks.append(pick)
        scores.append(float(promise[pick]))
        nearest = np.minimum(nearest, _distance(own, own[pick : pick + 1]))
    return np.array(picks, dtype=int), np.array(scores), from_known


def write_suggestions(suggestions: Sequence[Suggestion], path: Path) -> None:
    """Write suggestions as a CSV table with an empty column "label": filled in, it is a manifest to train on.

    Paths are relative to the table. Raises OutputError where it cannot be written.
    """
    with replacing(path) as (part,), part.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "start", "end", "text", "speaker", "label", "score", "reason", "where"])
        for suggestion in suggestions:
            sample = suggestion.sample
            place = "" if sample.path is None else os.path.relpath(sample.path.resolve(), path.parent.resolve())
            times = ("" if time is None else f"{time:g}" for time in (sample.start, sample.end))
            score = f"{suggestion.score:.4f}"
            table.writerow(
                [place, *times, sample.text or "", sample.speaker or "", "", score, suggestion.reason, sample.where]
            )


def _entropy(P: np.ndarray) -> np.ndarray:
    """Of rows of probabilities (n, k), by that of an even answer: 0…1."""
    terms = np.where(P > 0, P * np.log(np.where(P > 0, P, 1)), 0)
    return -terms.sum(axis=1) / np.log(P.shape[1])


def _directions(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _distance(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance (n,) of every row (n, d) to the nearest of ``others`` (m, d), both of unit length, halved to 0…1."""
    from sklearn.metrics import pairwise_distances_argmin_min

    return np.asarray(pairwise_distances_argmin_min(rows, others)[1] / 2)


def _reason(p: np.ndarray, labels: Sequence[str], unlike: bool) -> str:
    first, second = np.argsort(-p, kind="stable")[:2]
    close = p[first] - p[second] < _WAVERS
    said = (
        f"between {labels[first]} and {labels[second]} ({p[first]:.2f} / {p[second]:.2f})"
        if close
        else f"probably {labels[first]} ({p[first]:.2f})"
    )
    if not unlike:
        return said
    return f"{said}; unlike anything labelled" if close else f"{said}, but unlike anything labelled"
