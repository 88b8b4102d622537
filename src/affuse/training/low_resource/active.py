"""Active learning: which clips a person should label next, and why.

A clip is worth labelling where the network wavers, where it speaks for many like it, and once: the clips that the
network is least sure of are clustered by their embeddings, the unsure ones weighing more, and of each cluster the one
in the middle is suggested (Zhdanov 2019, arXiv:1901.05954). Farthest-first picks (Sener & Savarese 2018,
arXiv:1708.00489) were tried first and took outliers: with a few hundred labels they taught less than picks at random.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affuse.data.own import Sample
from affuse.errors import ConfigError
from affuse.packages import Package
from affuse.tables import write_table
from affuse.training.low_resource.inference import predict

__all__ = ["Choice", "Suggestion", "choose_next", "suggest", "write_suggestions"]

_WAVERS = 0.15  # lead of the likeliest label under which two are said to be close
_UNLIKE = 0.75  # quantile of the distances from which a clip counts as unlike the labelled ones
_POOL = 10  # clips that are clustered, for each that is suggested


@dataclass(frozen=True, eq=False)
class Suggestion:
    """A sample to label.

    Attributes
    ----------
    sample : Sample
        What to label.
    score : float
        How much it promises: the share of all doubt, summed over the samples, that lies in those which it stands for.
    reason : str
        Why, in words.

    Examples
    --------
    >>> Suggestion(Sample("texts.csv, row 3", text="hm"), 0.4, "between anger and sadness (0.51 / 0.49)").score
    0.4
    """

    sample: Sample
    score: float
    reason: str


def suggest(package: Package, samples: Sequence[Sample], n: int, labelled: Sequence[Sample] = ()) -> list[Suggestion]:
    """Samples to label next: those that the network is unsure of, and that many others are like.

    Parameters
    ----------
    package : Package
        The trained expert, as `affuse.packages.read_package` reads it.
    samples : sequence of Sample
        Unlabelled samples; those that give the network nothing to judge are never suggested.
    n : int
        How many to suggest at most.
    labelled : sequence of Sample
        What is labelled already.

    Returns
    -------
    list of Suggestion
        The most promising first.

    Raises
    ------
    ConfigError
        If ``n`` is below 1.
    DataError
        If there are no samples.

    References
    ----------
    Zhdanov (2019), Diverse mini-batch active learning. arXiv:1901.05954

    Examples
    --------
    >>> from affuse.packages import read_package
    >>> from affuse.training import TrainConfig, train
    >>> rows = "".join(f"{word} {i},{word}\\n" for i in range(20) for word in ("happy", "sad"))
    >>> _ = Path("texts.csv").write_text("text,label\\n" + rows)
    >>> data, training = {"source": "texts.csv", "modality": "text"}, {"epochs": 1}
    >>> config = TrainConfig(data=data, network={"name": "bag"}, training=training)
    >>> package = read_package(train(config, "run").package)
    >>> len(suggest(package, [Sample(text, text=text) for text in ("so happy", "a rainy day")], 1))
    1
    """
    if n < 1:
        raise ConfigError(f"at least 1 clip can be suggested; got {n}")
    answers = predict(package, samples)
    known = predict(package, labelled).embeddings if labelled else np.empty((0, 0))
    readable = np.flatnonzero(np.isfinite(answers.probabilities).all(axis=1))
    P, embeddings = answers.probabilities[readable], answers.embeddings[readable]
    known = known[np.isfinite(known).all(axis=1)]
    chosen = choose_next(P, embeddings, n)
    distances = _distance(embeddings, known) if len(known) else np.zeros(len(P))
    far = np.quantile(distances, _UNLIKE) if len(known) and len(P) else np.inf
    return [
        Suggestion(
            samples[readable[row]],
            float(score),
            _reason(P[row], package.description.labels.labels, int(like), bool(distances[row] >= far)),
        )
        for row, score, like in zip(chosen.rows, chosen.scores, chosen.like, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class Choice:
    """Rows to label next (m,), the most promising first, their scores, and how many rows each speaks for."""

    rows: np.ndarray
    scores: np.ndarray
    like: np.ndarray


def choose_next(P: np.ndarray, embeddings: np.ndarray, n: int) -> Choice:
    """At most ``n`` rows to label next, of probabilities (rows, k) and embeddings (rows, d); copies count as one.

    Doubt is 1 minus the lead of the likeliest label; the ten times ``n`` rows with most of it are clustered.
    """
    from sklearn.cluster import KMeans

    doubt = _doubt(P)
    pool = np.argsort(-doubt, kind="stable")[: _POOL * n]
    if not len(pool):
        return Choice(pool, np.empty(0), pool)
    places = embeddings[pool]
    weights = doubt[pool] + 1e-6  # of rows without doubt some may be needed as well
    clusters = KMeans(min(n, len(np.unique(places, axis=0))), n_init=1, random_state=0)
    cluster_of = clusters.fit_predict(places, sample_weight=weights)
    off = np.linalg.norm(places - clusters.cluster_centers_[cluster_of], axis=1)
    members = [np.flatnonzero(cluster_of == cluster) for cluster in np.unique(cluster_of)]
    scores = np.array([weights[rows].sum() for rows in members]) / (doubt.sum() + 1e-6 * len(doubt))
    order = np.argsort(-scores, kind="stable")
    middles = np.array([rows[off[rows].argmin()] for rows in members])
    return Choice(pool[middles[order]], scores[order], np.array([len(rows) for rows in members])[order])


def write_suggestions(suggestions: Sequence[Suggestion], path: Path) -> None:
    """Write suggestions as a table with an empty column "label": filled in, it is a manifest to train on.

    Parameters
    ----------
    suggestions : sequence of Suggestion
        What `suggest` found.
    path : Path
        A CSV file; paths of recordings in it are relative to it.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> found = [Suggestion(Sample("texts.csv, row 3", text="hm"), 0.4, "probably anger (0.62)")]
    >>> write_suggestions(found, Path("next.csv"))
    >>> print(Path("next.csv").read_text().splitlines()[1])
    ,,,hm,,,0.4000,probably anger (0.62),"texts.csv, row 3"
    """
    import pandas as pd

    columns = ["path", "start", "end", "text", "speaker", "label", "score", "reason", "where"]
    rows = []
    for suggestion in suggestions:
        sample = suggestion.sample
        place = "" if sample.path is None else os.path.relpath(sample.path.resolve(), path.parent.resolve())
        times = ("" if time is None else f"{time:g}" for time in (sample.start, sample.end))
        about = (f"{suggestion.score:.4f}", suggestion.reason, sample.where)
        rows.append([place, *times, sample.text or "", sample.speaker or "", "", *about])
    write_table(pd.DataFrame(rows, columns=columns), path)


def _doubt(P: np.ndarray) -> np.ndarray:
    """1 minus the lead of the likeliest label over the next, of probabilities (rows, k): 0…1."""
    second, first = np.sort(P, axis=1)[:, -2:].T
    return np.asarray(1 - (first - second))


def _distance(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance (n,) of every row (n, d) to the nearest of ``others`` (m, d)."""
    from sklearn.metrics import pairwise_distances_argmin_min

    return np.asarray(pairwise_distances_argmin_min(rows, others)[1])


def _reason(p: np.ndarray, labels: Sequence[str], like: int, unlike: bool) -> str:
    first, second = np.argsort(-p, kind="stable")[:2]
    reasons = [
        f"between {labels[first]} and {labels[second]} ({p[first]:.2f} / {p[second]:.2f})"
        if p[first] - p[second] < _WAVERS
        else f"probably {labels[first]} ({p[first]:.2f})"
    ]
    if like > 1:
        reasons.append(f"speaks for {like} that are alike")
    if unlike:
        reasons.append("unlike anything labelled")
    return "; ".join(reasons)
