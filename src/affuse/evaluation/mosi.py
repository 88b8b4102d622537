"""CMU-MOSI for ``affuse compare``: transcripts and published features, each read by an expert fitted on train alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.data.splits import split_name
from affuse.errors import AssetError, DataError

if TYPE_CHECKING:
    from affuse.data.corpora import Dataset

__all__ = ["FEATURES", "HeldOut", "read_features", "read_held_out"]

FEATURES = ("text", "audio", "video")
_PARTS = {"train": "train", "dev": "holdout", "test": "test"}
_STRENGTH = 0.01  # of the regularised logistic regression on about a hundred standardised features


@dataclass(frozen=True)
class HeldOut:
    """Outputs of experts that were fitted on train, on rows that they never saw: P (n, m, 2), y (n,), videos (n,).

    ``encoder`` says in words what read the transcripts.
    """

    modalities: tuple[str, ...]
    labels: tuple[str, ...]
    P: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    encoder: str


def read_held_out(data: Path, split: str) -> HeldOut:
    """Answers of all experts on one split. Raises DataError where files are missing or do not fit.

    Parts that ``data`` lacks are looked for in the folder that AFFUSE_DATA names: the test part may lie elsewhere.
    """
    train, rows = _load(data, "train"), _load(data, split)
    (X, y, _), (X_new, *_) = read_features(data, "train"), read_features(data, split)
    transcript, encoder = _transcripts(train, rows)
    answers = {"transcript": transcript} | {name: _expert().fit(X[name], y).predict_proba(X_new[name]) for name in X}
    P = np.stack(list(answers.values()), axis=1)
    return HeldOut(tuple(answers), rows.labels.labels, P, rows.targets, rows.groups, encoder)


def read_features(data: Path, split: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Published features (n, d) by modality, labels (n,) and videos (n,) of one split. Raises DataError as above."""
    rows = _load(data, split)
    return {name: _features(data, split, name, len(rows)) for name in FEATURES}, rows.targets, rows.groups


def _roots(data: Path) -> list[Path]:
    second = os.environ.get("AFFUSE_DATA")
    return [data, *([Path(second)] if second else [])]


def _load(data: Path, split: str) -> Dataset:
    from affuse.data.corpora import load

    found = [root for root in _roots(data) if _place(root, f"{_PARTS[split_name(split)]}_utterances.csv")]
    return load("mosi", found[0] if found else data, split)


def _place(root: Path, name: str) -> Path | None:
    return next((path for path in (root / "mosi" / name, root / name) if path.is_file()), None)


def _features(data: Path, split: str, name: str, n: int) -> np.ndarray:
    file = f"{_PARTS[split_name(split)]}_{name}.npy"
    path = next((p for p in (_place(root, file) for root in _roots(data)) if p), None)
    if path is None:
        raise DataError(f"{data / 'mosi' / file} is missing")
    X = np.asarray(np.load(path, allow_pickle=False), dtype=float)
    if X.ndim != 2 or len(X) != n:
        raise DataError(f"{path} has the shape {X.shape}; its transcripts have {n} rows")
    return X


def _expert() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=1000))


def _transcripts(train: Dataset, rows: Dataset) -> tuple[np.ndarray, str]:
    """Answers (n, 2) of the shipped text expert, or of words counted on train where its weights are not installed."""
    try:
        return _shipped(rows), "the shipped text expert"
    except AssetError:
        return _words(train, rows.inputs), "TF-IDF and logistic regression, as the shipped text expert is not installed"


def _shipped(rows: Dataset) -> np.ndarray:
    from affuse.labels import SENTIMENT, restrict
    from affuse.packages import load_expert

    expert = load_expert("text", language=rows.language)
    return restrict(expert.sentiment(rows.inputs), SENTIMENT, rows.labels.labels)


def _words(train: Dataset, texts: Sequence[str]) -> np.ndarray:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    expert = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=3.0, max_iter=1000)
    )
    return np.asarray(expert.fit(list(train.inputs), train.targets).predict_proba(list(texts)))
