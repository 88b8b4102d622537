"""Predictions of anybody's models in, one answer a row out: what ``affuse fuse`` and the service share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.predictions import Predictions
    from affuse.evaluation.protocol import PredictionData
    from affuse.fusion.priors import Prior

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
    "under_prior",
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
    """A fitted fuser, and what it answers for the rows of ``predictions``: probabilities (n, k).

    ``prior`` is the one that the answers were put under (`under_prior`), None for that of the labels of `fit`;
    ``persons`` the rows of every person with the fuser that is adapted to them (`adapted`), None where nobody asked.
    """

    fuser: Any
    method: str
    predictions: Predictions
    P: np.ndarray
    prior: Prior | None = None
    persons: Sequence[tuple[np.ndarray, Any]] | None = None

    @property
    def frequencies(self) -> np.ndarray:
        """Label frequencies (k,) that the answers start from."""
        if self.prior is not None:
            return np.asarray(self.prior.frequencies)
        k = self.P.shape[1]
        return np.asarray(getattr(self.fuser, "prior_", np.full(k, 1 / k)))

    def partial(self, P: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Answers (n, k) under ``prior`` when of P (n, m, k) only ``keep`` (m,) speak; see `Fuser.partial_proba`."""
        from affuse.fusion.relabel import partial_answer

        Q = np.full((len(P), self.P.shape[1]), np.nan)
        for rows, fuser in self.persons or [(np.arange(len(P)), self.fuser)]:
            Q[rows] = partial_answer(fuser, P[rows], keep)
        return Q if self.prior is None else _reweighted(Q, self.fuser, self.prior)


def fuse(predictions: Predictions, method: str | None = None, adapt: bool = False) -> Fused:
    """Fuse by ``method``: by default "auto" where some rows have true labels to learn from, the product otherwise.

    With ``adapt`` the groups are persons, and the shift of each in log-probability is taken out; see `AdaptiveFuser`.
    Raises DataError where rows to learn from are missing for that.
    """
    labelled = predictions.labelled
    if adapt and len(labelled) == 0:
        raise DataError("adapting to persons is learned from rows with true labels; give --labels and --group")
    if len(labelled) == 0:
        name = method or "product"
        fuser = fitted_without_labels(name, len(predictions.modalities), len(predictions.labels))
    else:
        name = method or AUTO
        fuser = adaptive(make(name)) if adapt else make(name)
        fuser.fit(labelled.P, labelled.targets, groups=labelled.groups)
    fused = Fused(fuser, name, predictions, fuser.predict_proba(predictions.P))
    return adapted(fused) if adapt else fused


def adaptive(fuser: Any) -> Any:
    """An unfitted fuser as one that adapts to persons."""
    from affuse.fusion.adaptive import AdaptiveFuser

    return AdaptiveFuser(fuser)


def adapted(fused: Fused) -> Fused:
    """The same rows, each group's answered by the fuser for that person. Raises DataError where it does not adapt."""
    if not getattr(fused.fuser, "adapts", False):
        raise DataError(f"the fuser {fused.method!r} does not adapt; fit one with affuse fuse --adapt person --save")
    P, groups = fused.predictions.P, fused.predictions.groups
    rows = [np.flatnonzero(groups == person) for person in np.unique(groups)]
    persons = [(own, fused.fuser.adapt(P[own])) for own in rows]
    answers = np.full_like(fused.P, np.nan)
    for own, fuser in persons:
        answers[own] = fuser.predict_proba(P[own])
    return replace(fused, P=answers, persons=persons)


def under_prior(fused: Fused, prior: str | Prior) -> Fused:
    """The same answers under a named prior, a file of one, or a prior: its label frequencies replace those of `fit`.

    Its lexicon and rules need words, persons and times, which tables of predictions do not hold. Raises ConfigError
    for a prior that is none, or is over other labels.
    """
    from affuse.fusion.priors import Prior

    found = Prior.find(prior, fused.predictions.labels)
    plain = replace(fused, prior=None)
    P = plain.partial(fused.predictions.P, np.ones(len(fused.predictions.modalities), dtype=bool))
    return replace(fused, P=_reweighted(P, fused.fuser, found), prior=found)


def _reweighted(P: np.ndarray, fuser: Any, prior: Prior) -> np.ndarray:
    from affuse.fusion.priors import reweight

    k = P.shape[1]
    return reweight(P, getattr(fuser, "prior_", np.full(k, 1 / k)), prior.frequencies)


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
    from affuse.fusion import present
    from affuse.fusion.explain import shares_of

    names = fused.predictions.modalities
    if len(names) > MOST_EXPLAINED:
        return {}
    P = fused.predictions.P
    shares = shares_of(lambda keep: fused.partial(P, keep), present(P), fused.frequencies, best)
    return dict(zip(names, shares.T, strict=True))


def facts(fused: Fused) -> dict[str, Any]:
    """What was fused, by which method, and how much evidence there was."""
    from affuse.evaluation.comparison import choice_of
    from affuse.fusion import present

    predictions = fused.predictions
    here = present(predictions.P)
    prior = {} if fused.prior is None else {"prior": fused.prior.describe()}
    return {
        **prior,
        **({} if fused.persons is None else {"adapted_to": len(fused.persons)}),
        "method": fused.method,
        "chosen": choice_of(fused.fuser, predictions.modalities) or fused.method,
        "rows": len(predictions),
        "labelled": int((predictions.targets >= 0).sum()),
        "without_evidence": int((~here.any(axis=1)).sum()),
        "modalities": {name: int(n) for name, n in zip(predictions.modalities, here.sum(axis=0), strict=True)},
        "labels": list(predictions.labels),
    }


def rows_of(predictions: Predictions) -> PredictionData:
    """The rows of predictions whose true label is known. Raises DataError where there are none."""
    from affuse.evaluation.protocol import PredictionData

    labelled = predictions.labelled
    if len(labelled) == 0:
        raise DataError("no row of the predictions has a true label")
    return PredictionData(labelled.P, labelled.targets, labelled.groups)


def measured(fused: Fused) -> dict[str, Any]:
    """What the method reaches on rows that it did not learn from, beside every single modality."""
    from sklearn.base import clone

    from affuse.evaluation.comparison import compare_fusers
    from affuse.evaluation.protocol import Protocol, group_folds

    rows = rows_of(fused.predictions)
    n_splits = min(_FOLDS, len(np.unique(rows.groups)))
    if n_splits < 2:
        return {"cross_validated": None}
    protocol = Protocol(
        "cross-validation", fused.predictions.modalities, fused.predictions.labels, group_folds(rows, n_splits)
    )
    found = compare_fusers(protocol, {fused.method: clone(fused.fuser)}, fused.method).to_dict()
    kept = ("accuracy", "ci95", "ece", "best_single", "difference", "difference_ci95", "p")
    own = {key: found["methods"][fused.method][key] for key in kept}
    single = {name: {key: facts[key] for key in ("accuracy", "ci95", "ece")} for name, facts in found["single"].items()}
    return {"cross_validated": {"folds": n_splits, "groups": len(np.unique(rows.groups)), **own, "single": single}}
