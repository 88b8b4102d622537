"""Predictions of anybody's models in, one answer a row out: what ``affuse fuse`` and the service share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.errors import ConfigError, DataError
from affuse.evaluation.comparison import AUTO, check_adaptation, choice_of, compare_fusers
from affuse.evaluation.prediction_files import read_tables
from affuse.evaluation.protocol import Protocol, group_folds, rows_of
from affuse.fusion import registry
from affuse.registry import one_or_more

if TYPE_CHECKING:
    import pandas as pd

    from affuse.data.predictions import Predictions
    from affuse.fusion.named import NamedFuser
    from affuse.fusion.priors import Prior

__all__ = ["MOST_EXPLAINED", "FusedPredictions", "fuse_predictions", "fuse_tables", "methods_without_labels"]

MOST_EXPLAINED = 10
"""Modalities up to which shares are computed: exact ones ask for all subsets."""

# Their `learn` checks a parameter or takes the prior from the labels, which without any is uniform.
_CHECKS_ONLY = ("discounted", "product")
_OWN_COLUMNS = ("id", "label", "confidence", "conflict")
_FOLDS = 5


def methods_without_labels() -> list[str]:
    """Names of the fusers that need no true labels: nothing is learned, or only how frequent the labels are."""
    from affuse.fusion.estimator import Fuser

    return [name for name in registry.names() if name in _CHECKS_ONLY or registry.find(name).learn is Fuser.learn]


def _fitted_without_labels(name: str, n_modalities: int, n_classes: int) -> Any:
    """A rule that takes all labels for equally frequent. Raises ConfigError for a method that learns from labels."""
    fuser = registry.make(name)
    known = methods_without_labels()
    if name not in known:
        raise ConfigError(f"{name} learns from true labels; give --labels, or take one of {', '.join(known)}")
    silence = np.full((n_classes, n_modalities, n_classes), np.nan)
    return fuser.fit(silence, np.arange(n_classes))


@dataclass(frozen=True)
class FusedPredictions:
    """A fitted fuser and its answers for the rows of predictions; `fuse_tables` makes it.

    Parameters
    ----------
    fuser : Fuser
        Fitted.
    method : str
        Its name.
    predictions : Predictions
        What was fused: n rows of m modalities.
    P : array of shape (n, k)
        Fused probabilities; NaN where a row has no evidence.
    prior : Prior, optional
        The prior that the answers were put under (`under_prior`); None for that of the training labels.
    persons : sequence of (rows, fuser), optional
        The rows of every person with the fuser that is adapted to them (`adapted`).
    cross_validation : mapping
        What the method reaches on rows that it did not learn from, as ``cross_validated``; empty where that was not
        measured.

    Examples
    --------
    >>> from affuse.testing.tables import predictions
    >>> fused = fuse_tables(predictions(30), method="mean")
    >>> fused.P.shape
    (30, 3)
    >>> list(fused.to_frame().columns)[:4]
    ['id', 'anger', 'happiness', 'sadness']
    """

    fuser: Any
    method: str
    predictions: Predictions
    P: np.ndarray
    prior: Prior | None = None
    persons: Sequence[tuple[np.ndarray, Any]] | None = None
    cross_validation: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = ", ".join(self.predictions.modalities)
        return f"<FusedPredictions: {len(self.predictions)} rows of {names} fused by {self.method}>"

    @property
    def frequencies(self) -> np.ndarray:
        """Label frequencies (k,) that the answers start from."""
        if self.prior is not None:
            return np.asarray(self.prior.frequencies)
        from affuse.fusion.estimator import prior_of

        return prior_of(self.fuser, self.P.shape[1])

    def partial(self, P: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Answers when only some modalities speak, by the fuser that answers the whole row.

        Parameters
        ----------
        P : array of shape (n, m, k)
            Probabilities of the rows.
        keep : bool array of shape (m,)
            Modalities that speak.

        Returns
        -------
        array of shape (n, k)
            Under ``prior``, where there is one.
        """
        from affuse.fusion.relabel import partial_answer

        Q = np.full((len(P), self.P.shape[1]), np.nan)
        for rows, fuser in self.persons or [(np.arange(len(P)), self.fuser)]:
            Q[rows] = partial_answer(fuser, P[rows], keep)
        return Q if self.prior is None else _reweighted(Q, self.fuser, self.prior)

    def adapted(self) -> FusedPredictions:
        """The same rows, each group answered by the fuser for that person.

        Returns
        -------
        FusedPredictions

        Raises
        ------
        DataError
            If the fuser does not adapt.
        """
        if not getattr(self.fuser, "adapts", False):
            raise DataError(f"the fuser {self.method!r} does not adapt; fit one with affuse fuse --adapt person --save")
        P, groups = self.predictions.P, self.predictions.groups
        rows = [np.flatnonzero(groups == person) for person in np.unique(groups)]
        persons = [(own, self.fuser.adapt(P[own])) for own in rows]
        answers = np.full_like(self.P, np.nan)
        for own, fuser in persons:
            answers[own] = fuser.predict_proba(P[own])
        return replace(self, P=answers, persons=persons)

    def under_prior(self, prior: str | Prior) -> FusedPredictions:
        """The same answers under another prior, whose label frequencies replace those of the training labels.

        Parameters
        ----------
        prior : str or Prior
            A prior, its name, or a file of one. Its lexicon and rules need words, persons and times, which tables of
            predictions do not hold.

        Returns
        -------
        FusedPredictions

        Raises
        ------
        ConfigError
            If it is no prior, or is over other labels.
        """
        from affuse.fusion.priors import Prior

        found = Prior.find(prior, self.predictions.labels)
        plain = replace(self, prior=None)
        P = plain.partial(self.predictions.P, np.ones(len(self.predictions.modalities), dtype=bool))
        return replace(self, P=_reweighted(P, self.fuser, found), prior=found)

    def to_frame(self) -> pd.DataFrame:
        """One row an id: probabilities by label, label, confidence, conflict, and each modality's share.

        Returns
        -------
        pandas.DataFrame
            Cells without evidence are empty; shares in the log-odds are left out with more than 10 modalities.

        Raises
        ------
        DataError
            If a label has the name of another column.
        """
        import pandas as pd

        from affuse.fusion import conflict

        predictions, P = self.predictions, self.P
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
        columns |= {f"share_{name}": share for name, share in self._shares(best).items()}
        return pd.DataFrame(columns)

    def _shares(self, best: np.ndarray) -> dict[str, np.ndarray]:
        from affuse.fusion import present
        from affuse.fusion.explain import shares_of

        names = self.predictions.modalities
        if len(names) > MOST_EXPLAINED:
            return {}
        P = self.predictions.P
        shares = shares_of(lambda keep: self.partial(P, keep), present(P), self.frequencies, best)
        return dict(zip(names, shares.T, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """What was fused, by which method, how much evidence there was, and what it reaches where that was measured.

        Returns
        -------
        dict
            Plain values that JSON can hold.
        """
        from affuse.fusion import present

        predictions = self.predictions
        here = present(predictions.P)
        return {
            **({} if self.prior is None else {"prior": self.prior.describe()}),
            **({} if self.persons is None else {"adapted_to": len(self.persons)}),
            "method": self.method,
            "chosen": choice_of(self.fuser, predictions.modalities) or self.method,
            "rows": len(predictions),
            "labelled": int((predictions.targets >= 0).sum()),
            "without_evidence": int((~here.any(axis=1)).sum()),
            "modalities": {name: int(n) for name, n in zip(predictions.modalities, here.sum(axis=0), strict=True)},
            "labels": list(predictions.labels),
            **self.cross_validation,
        }

    def named(self) -> NamedFuser:
        """The fitted fuser with the names of its modalities and labels: what serves elsewhere.

        Returns
        -------
        NamedFuser
        """
        from affuse.fusion.named import NamedFuser

        return NamedFuser(self.fuser, self.predictions.modalities, self.predictions.labels, self.method)


def _reweighted(P: np.ndarray, fuser: Any, prior: Prior) -> np.ndarray:
    from affuse.fusion.estimator import prior_of
    from affuse.fusion.priors import reweight

    return reweight(P, prior_of(fuser, P.shape[1]), prior.frequencies)


def fuse_tables(
    predictions: Predictions | str | Path | Sequence[str | Path],
    labels: str | Path | None = None,
    *,
    method: str | None = None,
    fuser: str | Path | None = None,
    adapt: str = "none",
    prior: str | Prior | None = None,
    group: str | None = None,
    id_column: str | None = None,
    logits: bool = False,
    label_map: str | Path | None = None,
) -> FusedPredictions:
    """Fuse predictions of several models, joined by id; an id that a file lacks is missing evidence.

    Parameters
    ----------
    predictions : Predictions, or sequence of str or Path
        Predictions, or their files: one CSV, TSV or Parquet table a modality.
    labels : str or Path, optional
        Table of true labels by id, to learn from.
    method : str, optional
        Name of a fuser; by default "auto" where there are true labels, "product" otherwise.
    fuser : str or Path, optional
        Folder of a fitted fuser, which then fuses; no labels and no method are needed.
    adapt : {"none", "person"}
        With "person", groups are persons, and each one's shift is taken out without labels.
    prior : str or Prior, optional
        Prior of the answers; that of the training labels by default.
    group : str, optional
        Column of the labels that must not be split, such as the speaker.
    id_column : str, optional
        Column that names the rows; by default the first one named id, clip or name.
    logits : bool
        Whether the files hold logits instead of probabilities.
    label_map : str or Path, optional
        TOML file with new names of labels.

    Returns
    -------
    FusedPredictions
        Its ``to_frame`` holds the answers.

    Raises
    ------
    ConfigError
        If options contradict each other, or a method or prior is unknown.
    DataError
        If files do not fit together, or labels to learn from are missing.

    Examples
    --------
    >>> from affuse.testing.tables import write_predictions
    >>> files = write_predictions(Path())
    >>> fused = fuse_tables([files["face"], files["voice"]], files["labels"], group="speaker", method="log_pool")
    >>> fused.to_dict()["cross_validated"]["folds"]
    5
    >>> fused.to_frame()["label"].value_counts().sum()
    np.int64(60)
    """
    if fuser is not None and (labels is not None or method is not None):
        raise ConfigError("a fitted fuser brings what it has learned; leave out the labels and the method")
    check_adaptation(adapt)
    if isinstance(predictions, Sequence | Path):
        if adapt == "person" and group is None:
            raise ConfigError("--adapt person needs to know who each row is about; name the column by --group")
        how: dict[str, Any] = {"group": group, "id_column": id_column, "logits": logits, "label_map": label_map}
        predictions = read_tables(one_or_more(predictions), labels, **how)
    if fuser is None:
        fused = fuse_predictions(predictions, method, adapt == "person")
    else:
        fused = _by_fitted(Path(fuser), predictions)
        fused = fused.adapted() if adapt == "person" else fused
    if prior is not None:
        fused = fused.under_prior(prior)
    if fuser is None and len(predictions.labelled):
        fused = replace(fused, cross_validation=_cross_validated(fused))
    return fused


def fuse_predictions(predictions: Predictions, method: str | None = None, adapt: bool = False) -> FusedPredictions:
    """Fuse by ``method``: by default "auto" where some rows have true labels to learn from, the product otherwise.

    With ``adapt`` the groups are persons, and the shift of each in log-probability is taken out; see `AdaptiveFuser`.
    Raises DataError where rows to learn from are missing for that.
    """
    labelled = predictions.labelled
    if adapt and len(labelled) == 0:
        raise DataError("adapting to persons is learned from rows with true labels; give --labels and --group")
    if len(labelled) == 0:
        name = method or "product"
        fuser = _fitted_without_labels(name, len(predictions.modalities), len(predictions.labels))
    else:
        name = method or AUTO
        fuser = registry.make(name)
        if adapt:
            from affuse.fusion.adaptive import AdaptiveFuser

            fuser = AdaptiveFuser(fuser)
        fuser.fit(labelled.P, labelled.targets, groups=labelled.groups)
    fused = FusedPredictions(fuser, name, predictions, fuser.predict_proba(predictions.P))
    return fused.adapted() if adapt else fused


def _by_fitted(folder: Path, predictions: Predictions) -> FusedPredictions:
    from affuse.data.predictions import align
    from affuse.fusion.named import NamedFuser

    named = NamedFuser.read(folder)
    aligned = align(predictions, named.modalities, named.labels)
    return FusedPredictions(named.fuser, named.method, aligned, named.fuser.predict_proba(aligned.P))


def _cross_validated(fused: FusedPredictions) -> dict[str, Any]:
    """What the method reaches on rows that it did not learn from, beside every single modality."""
    from sklearn.base import clone

    rows = rows_of(fused.predictions)
    n_groups = len(np.unique(rows.groups))
    n_splits = min(_FOLDS, n_groups)
    if n_splits < 2:
        return {"cross_validated": None}
    protocol = Protocol(
        "cross-validation", fused.predictions.modalities, fused.predictions.labels, group_folds(rows, n_splits)
    )
    found = compare_fusers(protocol, {fused.method: clone(fused.fuser)}, fused.method).to_dict()
    kept = ("accuracy", "ci95", "ece", "best_single", "difference", "difference_ci95", "p")
    own = {key: found["methods"][fused.method][key] for key in kept}
    single = {name: {key: facts[key] for key in ("accuracy", "ci95", "ece")} for name, facts in found["single"].items()}
    return {"cross_validated": {"folds": n_splits, "groups": n_groups, **own, "single": single}}
