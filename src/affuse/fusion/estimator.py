"""The base of all fusers: a scikit-learn classifier over P (n, m, k) in which a rule is one method."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from affuse.errors import DataError
from affuse.fusion.base import Array, Columns, Groups, Mask, check_probabilities, checked_blocks
from affuse.fusion.schema import Check

__all__ = ["Fuser", "check_fitted", "check_groups", "check_vector", "columns_of", "label_frequencies", "prior_of"]

_LONGEST_REPR = 700  # characters, as in scikit-learn


class Parameters:
    """What scikit-learn expects of an estimator's parameters, from the signature of ``__init__``.

    scikit-learn takes seconds to import and an analysis only predicts, so this class follows its conventions
    (https://scikit-learn.org/stable/developers/develop.html) without inheriting from it: `sklearn.base.clone`,
    pipelines, grid search and metadata routing work on it, and import scikit-learn when they are used.
    """

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return sorted(_defaults(cls))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Parameters
        ----------
        deep : bool
            Whether those of nested estimators are listed too, as ``outer__inner``.

        Returns
        -------
        dict of str to object
        """
        found: dict[str, Any] = {}
        for name in self._get_param_names():
            value = getattr(self, name)
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                found |= {f"{name}__{inner}": part for inner, part in value.get_params().items()}
            found[name] = value
        return found

    def set_params(self, **params: Any) -> Self:
        """Set parameters by name, those of nested estimators as ``outer__inner``.

        Parameters
        ----------
        **params
            New values.

        Returns
        -------
        Parameters
            The estimator itself.

        Raises
        ------
        ValueError
            As in scikit-learn, for a name that the estimator does not have.
        """
        names = self._get_param_names()
        nested: dict[str, dict[str, Any]] = {}
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if outer not in names:
                raise ValueError(f"Invalid parameter {outer!r} for estimator {self}. Valid parameters are: {names!r}.")
            if inner:
                nested.setdefault(outer, {})[inner] = value
            else:
                setattr(self, outer, value)
        for outer, inner_params in nested.items():
            getattr(self, outer).set_params(**inner_params)
        return self

    def __repr__(self) -> str:
        defaults = _defaults(type(self))
        changed = {k: repr(v) for k, v in self.get_params(deep=False).items() if repr(v) != repr(defaults[k])}
        text = f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in changed.items())})"
        half = _LONGEST_REPR // 2
        return text if len(text) <= _LONGEST_REPR else f"{text[:half]}...{text[-half:]}"

    def __sklearn_tags__(self) -> Any:
        tags: Any = _twin(self).__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.allow_nan = True
        return tags

    def get_metadata_routing(self) -> Any:
        """Which metadata (``groups``, ``sample_weight``) the methods ask for; see scikit-learn's metadata routing.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest
        """
        return _twin(self).get_metadata_routing()

    def set_fit_request(self, **requests: bool | str | None) -> Self:
        """Ask for metadata in `fit`, for example ``groups=True``; see scikit-learn's metadata routing.

        Parameters
        ----------
        **requests
            True, False or another name, by metadata.

        Returns
        -------
        Parameters
            The estimator itself.
        """
        _twin(self).set_fit_request(**requests)
        return self

    def set_score_request(self, **requests: bool | str | None) -> Self:
        """Ask for metadata in `score`, for example ``sample_weight=True``; see scikit-learn's metadata routing.

        Parameters
        ----------
        **requests
            True, False or another name, by metadata.

        Returns
        -------
        Parameters
            The estimator itself.
        """
        _twin(self).set_score_request(**requests)
        return self

    def _get_params_html(self, *args: Any, **kwargs: Any) -> Any:
        return _twin(self)._get_params_html(*args, **kwargs)

    def _repr_html_(self) -> str:
        return str(_twin(self)._html_repr())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        return {**_twin(self)._repr_mimebundle_(**kwargs), "text/plain": repr(self)}


class Fuser(Parameters):
    """Base class of all fusers: a scikit-learn classifier over P of shape (n_samples, n_modalities, n_classes).

    A subclass writes `combine`, the fusion rule for a block of rows, and `learn` where it learns something. This class
    does the rest: it checks P, handles rows without evidence, names of labels, and long tables block by block. A fuser
    works in all tools of scikit-learn (clone, pipelines, grid search, cross-validation), without importing scikit-learn
    to predict.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Labels in the order of the columns of P.
    n_modalities_ : int
        Number of modalities in `fit`.
    prior_ : array of shape (n_classes,)
        Label frequencies in `fit`, each label counted once more so that none is 0. `predict` answers the most frequent
        one for rows without any evidence.

    Examples
    --------
    A rule that believes the modality with the greatest probability:

    >>> class MostCertain(Fuser):
    ...     def combine(self, P, here):
    ...         P = np.where(here[:, :, None], P, 0.0)
    ...         return P[np.arange(len(P)), P.max(axis=2).argmax(axis=1)]
    >>> P = np.array([[[0.9, 0.1], [0.4, 0.6]], [[0.5, 0.5], [0.2, 0.8]]])
    >>> MostCertain().fit(P, ["happy", "sad"]).predict(P)
    array(['happy', 'sad'], dtype='<U5')
    """

    _estimator_type = "classifier"
    adapts = False
    """Whether it has a method ``adapt`` that makes a fuser for one person or collection, from rows without labels."""

    def fit(self, P: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None) -> Self:
        """Learn from held-out answers of the experts and the right labels.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities on rows that the experts were not trained on; NaN where a modality is missing.
        y : array of shape (n_samples,)
            Columns of P (0 to n_classes - 1), or any n_classes distinct labels, which in sorted order are the columns.
        groups : array of shape (n_samples,), optional
            What inner cross-validation must not split, such as speakers or videos; rules without one ignore it.

        Returns
        -------
        Fuser
            The fuser itself.

        Raises
        ------
        DataError
            If shapes do not fit, or P does not hold probabilities.
        """
        P = check_probabilities(P)
        self.classes_, columns = columns_of(y, len(P), P.shape[2])
        self.n_modalities_ = P.shape[1]
        self.prior_ = label_frequencies(columns, P.shape[2])
        self.learn(P, columns, check_groups(groups, len(P), "P"))
        return self

    def learn(self, P: Array, y: Columns, groups: Groups) -> None:
        """Hook for subclasses: set learned attributes, whose names end in ``_``. By default nothing is learned.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Checked probabilities, NaN where a modality is missing.
        y : array of int of shape (n_samples,)
            Columns of the right labels.
        groups : array of shape (n_samples,) or None
            What inner cross-validation must not split.
        """

    def learned(self, m: int, k: int) -> Mapping[str, Check]:
        """Hook for subclasses: what `learn` sets, by attribute, as checks of a fuser that is read from disk.

        Parameters
        ----------
        m : int
            Number of modalities.
        k : int
            Number of classes.

        Returns
        -------
        mapping of str to callable
            Functions of `affuse.fusion.schema`, which raise ValueError for what `learn` cannot have set. A class of
            another package that declares nothing may hold any attribute whose name ends in ``_``.
        """
        return {}

    def combine(self, P: Array, here: Mask) -> Array:
        """Hook for subclasses: the fusion rule, for one block of rows.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Checked probabilities, NaN where a modality is missing.
        here : array of bool of shape (n_samples, n_modalities)
            Which modality is present in which row.

        Returns
        -------
        array of shape (n_samples, n_classes)
            Rows that sum to 1. Rows without any modality may hold anything: `predict_proba` makes them NaN.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it combines")

    def predict_proba(self, P: ArrayLike) -> Array:
        """Fused probabilities.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.

        Returns
        -------
        array of shape (n_samples, n_classes)
            NaN for rows without any modality.
        """
        check_fitted(self)
        P = np.asarray(P)
        fused = np.empty((len(P), len(self.classes_)))
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            answers = self.combine(block, here)
            answers[~here.any(axis=1)] = np.nan
            fused[rows] = answers
        return fused

    def predict(self, P: ArrayLike) -> NDArray[Any]:
        """Most probable labels; of equally probable labels the first column.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.

        Returns
        -------
        array of shape (n_samples,)
            Labels as in `fit`; the most frequent label of `fit` for rows without any modality.
        """
        check_fitted(self)
        P = np.asarray(P)
        columns = np.empty(len(P), dtype=np.intp)
        fallback = self.prior_.argmax()
        for rows, block, here in checked_blocks(P, self.n_modalities_, len(self.classes_)):
            answers = self.combine(block, here).argmax(axis=1)
            answers[~here.any(axis=1)] = fallback
            columns[rows] = answers
        return np.asarray(self.classes_[columns])

    def partial_proba(self, P: ArrayLike, keep: ArrayLike) -> Array:
        """Fused probabilities when only some modalities of every row are used.

        A fuser that chooses a model by which modalities are present overrides this, so that the model stays the one
        that answers the whole row. The shares of the modalities in an answer (`shapley_shares`) are computed from it.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.
        keep : array of bool of shape (n_modalities,)
            Which modalities are used.

        Returns
        -------
        array of shape (n_samples, n_classes)
            NaN for rows without any modality that is used.
        """
        check_fitted(self)
        P = np.array(P, dtype=float)
        P[:, ~np.asarray(keep, dtype=bool)] = np.nan
        return self.predict_proba(P)

    def describe_choice(self, modalities: Sequence[str]) -> str | None:
        """What answers a row in which all modalities are present, of a fuser that chooses while it learns.

        Parameters
        ----------
        modalities : sequence of str
            Names of the modalities.

        Returns
        -------
        str or None
            Such as "only voice" or the name of a family of fusers; None for fusers that do not choose.
        """
        return None

    def score(self, P: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy of `predict`.

        Parameters
        ----------
        P : array of shape (n_samples, n_modalities, n_classes)
            Class probabilities; NaN where a modality is missing.
        y : array of shape (n_samples,)
            The right labels.
        sample_weight : array of shape (n_samples,), optional
            How much each row counts.

        Returns
        -------
        float
        """
        right = np.asarray(self.predict(P) == np.asarray(y), dtype=float)
        return float(np.average(right, weights=None if sample_weight is None else np.asarray(sample_weight)))


def check_fitted(estimator: Any) -> None:
    """Raise scikit-learn's NotFittedError where `fit` has not been called: no attribute of its ends in ``_``."""
    if any(name.endswith("_") and not name.startswith("__") for name in vars(estimator)):
        return
    from sklearn.exceptions import NotFittedError

    raise NotFittedError(
        f"This {type(estimator).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before "
        "using this estimator."
    )


def _defaults(kind: type) -> dict[str, Any]:
    """Parameters of ``__init__`` and their defaults."""
    if getattr(kind, "__init__") is object.__init__:  # noqa: B009 - mypy distrusts the attribute of an unknown class
        return {}
    return {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }


def _twin(estimator: Any) -> Any:
    """The same estimator, its state shared, as one that inherits from scikit-learn's own classes."""
    from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

    kind = type(estimator)
    own = {name: getattr(kind, name) for name in _METHODS if hasattr(kind, name)}
    base = ClassifierMixin if "predict" in own else TransformerMixin if "transform" in own else object
    bases = (BaseEstimator,) if base is object else (base, BaseEstimator)
    space = {**own, "__module__": kind.__module__, "__doc__": kind.__doc__}
    twin: Any = object.__new__(type(kind.__name__, bases, space))
    twin.__dict__ = estimator.__dict__
    return twin


# What scikit-learn reads signatures of.
_METHODS = ("__init__", "fit", "predict", "predict_proba", "transform", "score")


def columns_of(y: ArrayLike, n: int, k: int) -> tuple[NDArray[Any], Columns]:
    """Labels of the k columns (k,) and the column of every row (n,).

    Raises DataError where y does not fit P (n, m, k).
    """
    y = np.asarray(y)
    if y.shape != (n,):
        raise DataError(f"P has {n} rows, but y has {len(y) if y.ndim == 1 else f'the shape {y.shape}'}")
    if n == 0:
        raise DataError("fit needs at least one row; got none")
    if y.dtype.kind in "iub" and y.min() >= 0 and y.max() < k:
        return np.arange(k), y.astype(np.intp)
    labels, columns = np.unique(y, return_inverse=True)
    if len(labels) != k:
        raise DataError(
            f"P has {k} classes, but y holds {len(labels)} distinct labels: {', '.join(map(str, labels[:20]))}"
        )
    return labels, columns.astype(np.intp)


def prior_of(fuser: Any, k: int) -> Array:
    """Label frequencies (k,) under which a fitted fuser, or a pipeline around one, answers; even ones where unknown."""
    return np.asarray(getattr(fuser, "prior_", np.full(k, 1 / k)), dtype=float)


def label_frequencies(columns: Columns, k: int) -> Array:
    """Share of every column (k,), with one row more each so that none is zero (Laplace's rule of succession)."""
    counts = np.bincount(columns, minlength=k) + 1.0
    return np.asarray(counts / counts.sum())


def check_vector(values: ArrayLike, length: int, name: str, what: str) -> Array:
    """``values`` as non-negative floats (length,), or DataError that gives both numbers."""
    vector = np.asarray(values, dtype=float)
    if vector.shape != (length,):
        raise DataError(f"{name} must hold one number for each of {length} {what}; got the shape {vector.shape}")
    if not (np.isfinite(vector).all() and (vector >= 0).all() and vector.any()):
        raise DataError(f"{name} must be at least 0 and not all 0; got {vector.tolist()}")
    return vector


def check_groups(groups: ArrayLike | None, n: int, table: str) -> Groups:
    """Groups (n,) as an array, or None. Raises DataError where they do not fit the n rows of what ``table`` names."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise DataError(f"{table} has {n} rows, but groups has the shape {groups.shape}")
    return groups
