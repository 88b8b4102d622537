"""Predictions of anybody's models in, one answer a row out: what ``affuse fuse`` and the service share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from affuse.datasets.predictions import Predictions
    from affuse.evaluation.protocol import Rows

__all__ = [
    "AUTO",
    "MOST_EXPLAINED",
    "Fused",
    "facts",
    "fitted_without_labels",
    "fuse",
    "fused_table",
    "make",
    "measured",
    "method_names",
    "rows_of",
    "rules",
]

AUTO = "auto"
MOST_EXPLAINED = 10
"""Modalities up to which shares are computed: exact ones ask for all subsets."""

# Their `learn` checks a parameter or takes the prior from the labels, which without any is uniform.
_CHECKS_ONLY = ("discounted", "product")
_OWN_COLUMNS = ("id", "label", "confidence", "conflict")
_FOLDS = 5


def method_names() -> list[str]:
    """Names of all methods, those of third parties included."""
    from affuse.fusion import registry

    return registry.names()


def make(name: str, **parameters: Any) -> Any:
    """An unfitted fuser by name. Raises ConfigError, with the names there are, for an unknown one."""
    from affuse.fusion import registry

    return registry.make(name, **parameters)


def rules() -> list[str]:
    """Names of the methods that need no true labels: nothing is learned, or only how frequent the labels are."""
    from affuse.fusion import registry
    from affuse.fusion.estimator import Fuser

    return [name for name in registry.names() if name in _CHECKS_ONLY or registry.find(name).learn is Fuser.learn]


def fitted_without_labels(name: str, n_modalities: int, n_classes: int) -> Any:
    """A rule that takes all labels for equally frequent. Raises ConfigError for a method that learns from labels."""
    fuser = make(name)
    if name not in rules():
        raise ConfigError(f"{name} learns from true labels; give --labels, or take one of {', '.join(rules())}")
    silence = np.full((n_classes, n_modalities, n_classes), np.nan)
    return fuser.fit(silence, np.arange(n_classes))


@dataclass(frozen=True)
class Fused:
    """A fitted fuser, and what it answers for the rows of ``predictions``: probabilities (n, k)."""

    fuser: Any
    method: str
    predictions: Predictions
    P: np.ndarray


def fuse(predictions: Predictions, method: str | None = None) -> Fused:
    """Fuse by ``method``: by default "auto" where some rows have true labels to learn from, the product otherwise."""
    labelled = predictions.labelled
    if len(labelled) == 0:
        name = method or "product"
        fuser = fitted_without_labels(name, len(predictions.modalities), len(predictions.labels))
    else:
        name = method or AUTO
        fuser = make(name).fit(labelled.P, labelled.targets, groups=labelled.groups)
    return Fused(fuser, name, predictions, fuser.predict_proba(predictions.P))


def fused_table(fused: Fused) -> pd.DataFrame:
    """One row an id: probabilities by label, label, confidence, conflict, and each modality's share in the log-odds.

    Cells without evidence are empty; with more than `MOST_EXPLAINED` modalities there are no shares. Raises DataError
    where a label has the name of one of our columns.
    """
    import pandas as pd

    from affuse.fusion import conflict

    predictions, P = fused.predictions, fused.P
    clash = [label for label in predictions.labels if label in _OWN_COLUMNS]
    if clash:
        raise DataError(f"the label {clash[0]!r} is a column of the output; rename it with --map labels.toml")
    silent = np.isnan(P).any(axis=1)
    best = np.where(silent, 0, np.nan_to_num(P).argmax(axis=1))
    columns: dict[str, Any] = {"id": predictions.ids}
    columns |= {label: P[:, k] for k, label in enumerate(predictions.labels)}
    columns["label"] = [None if quiet else predictions.labels[k] for quiet, k in zip(silent, best, strict=True)]
    columns["confidence"] = P.max(axis=1)
    columns["conflict"] = conflict(predictions.P)
    columns |= {f"share_{name}": share for name, share in _shares(fused, best).items()}
    return pd.DataFrame(columns)


def _shares(fused: Fused, best: np.ndarray) -> dict[str, np.ndarray]:
    from affuse.fusion import shapley_shares

    names = fused.predictions.modalities
    if len(names) > MOST_EXPLAINED:
        return {}
    k = fused.P.shape[1]
    prior = np.asarray(getattr(fused.fuser, "prior_", np.full(k, 1 / k)))
    shares = shapley_shares(fused.predictions.P, fused.fuser.predict_proba, prior, best)
    return dict(zip(names, shares.T, strict=True))


def facts(fused: Fused) -> dict[str, Any]:
    """What was fused, by which method, and how much evidence there was."""
    from affuse.evaluation.comparison import choice_of
    from affuse.fusion import present

    predictions = fused.predictions
    here = present(predictions.P)
    return {
        "method": fused.method,
        "chosen": choice_of(fused.fuser, predictions.modalities) or fused.method,
        "rows": len(predictions),
        "labelled": int((predictions.targets >= 0).sum()),
        "without_evidence": int((~here.any(axis=1)).sum()),
        "modalities": {name: int(n) for name, n in zip(predictions.modalities, here.sum(axis=0), strict=True)},
        "labels": list(predictions.labels),
    }


def rows_of(predictions: Predictions) -> Rows:
    """The rows of predictions whose true label is known. Raises DataError where there are none."""
    from affuse.evaluation.protocol import Rows

    labelled = predictions.labelled
    if len(labelled) == 0:
        raise DataError("no row of the predictions has a true label")
    return Rows(labelled.P, labelled.targets, labelled.groups)


def measured(fused: Fused) -> dict[str, Any]:
    """What the method reaches on rows that it did not learn from, beside every single modality."""
    from sklearn.base import clone

    from affuse.evaluation.comparison import compare
    from affuse.evaluation.protocol import Protocol, group_folds

    rows = rows_of(fused.predictions)
    n_splits = min(_FOLDS, len(np.unique(rows.groups)))
    if n_splits < 2:
        return {"cross_validated": None}
    protocol = Protocol(
        "cross-validation", fused.predictions.modalities, fused.predictions.labels, group_folds(rows, n_splits)
    )
    found = compare(protocol, {fused.method: clone(fused.fuser)}, fused.method).to_dict()
    kept = ("accuracy", "ci95", "ece", "best_single", "difference", "difference_ci95", "p")
    own = {key: found["methods"][fused.method][key] for key in kept}
    single = {name: {key: facts[key] for key in ("accuracy", "ci95", "ece")} for name, facts in found["single"].items()}
    return {"cross_validated": {"folds": n_splits, "groups": len(np.unique(rows.groups)), **own, "single": single}}
