"""What a search over ways to fuse may set, and what it may be for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["METRICS", "SPACES"]

_FLOOR = 1e-6  # of a probability under the logarithm

Space = Callable[[Any, int, int], dict[str, Any]]
"""Settings that a trial of Optuna asks for, given the number of modalities and a seed."""


def _log_pool(trial: Any, n_modalities: int, seed: int) -> dict[str, Any]:
    return {"shrinkage": trial.suggest_float("log_pool.shrinkage", 1.0, 1000.0, log=True)}


def _gated(trial: Any, n_modalities: int, seed: int) -> dict[str, Any]:
    return {"penalty": trial.suggest_float("gated.penalty", 0.1, 1000.0, log=True)}


def _optimized(trial: Any, n_modalities: int, seed: int) -> dict[str, Any]:
    return {"penalty": trial.suggest_float("optimized.penalty", 0.01, 100.0, log=True)}


def _discounted(trial: Any, n_modalities: int, seed: int) -> dict[str, Any]:
    return {"strength": trial.suggest_float("discounted.strength", 0.1, 10.0, log=True)}


def _weighted(trial: Any, n_modalities: int, seed: int) -> dict[str, Any]:
    return {"weights": [trial.suggest_float(f"weighted.weight_{j}", 0.01, 1.0) for j in range(n_modalities)]}


def _stacking(trial: Any, n_modalities: int, seed: int) -> dict[str, Any]:
    kind = trial.suggest_categorical("stacking.classifier", tuple(_CLASSIFIERS))
    return {"classifier": _CLASSIFIERS[kind](trial, seed)}


def _logistic(trial: Any, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=trial.suggest_float("stacking.logistic.C", 1e-3, 10.0, log=True), max_iter=2000)


def _forest(trial: Any, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    leaf = trial.suggest_int("stacking.forest.min_samples_leaf", 1, 50, log=True)
    return RandomForestClassifier(100, min_samples_leaf=leaf, random_state=seed)


def _svm(trial: Any, seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=trial.suggest_float("stacking.svm.C", 1e-2, 100.0, log=True)))


_CLASSIFIERS: dict[str, Callable[[Any, int], Any]] = {"logistic": _logistic, "forest": _forest, "svm": _svm}

SPACES: dict[str, Space] = {
    "log_pool": _log_pool,
    "gated": _gated,
    "optimized": _optimized,
    "discounted": _discounted,
    "weighted": _weighted,
    "stacking": _stacking,
}
"""Settings of each method that has any, asked of a trial of Optuna."""


def _accuracy(P: np.ndarray, y: np.ndarray) -> float:
    return float((P.argmax(axis=1) == y).mean())


def _log_loss(P: np.ndarray, y: np.ndarray) -> float:
    return float(-np.log(np.maximum(P[np.arange(len(y)), y], _FLOOR)).mean())


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"accuracy": _accuracy, "log_loss": _log_loss}
"""Measures of held-out rows that a search can be for."""
