"""What a saved fuser may hold: types, shapes and ranges, by attribute.

A checksum says that a file is as it was written, not who wrote it. Whatever is read from disk is held against what the
class declares: its parameters by their annotations, what it has learned by `Fuser.learned`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = [
    "LEAST",
    "Check",
    "anything",
    "check_saved",
    "each",
    "facts",
    "flag",
    "flags",
    "frequencies",
    "fuser_over",
    "in_turn",
    "number",
    "numbers",
    "optional",
    "text",
]

Check = Callable[[Any], None]
"""Raises ValueError for a value that is not as it should be; the message goes on from "its attribute x"."""

MOST = 1e9
"""Greatest magnitude of a number that a fuser has learned; none comes near it, and products of such stay finite."""
LEAST = 1e-12
"""Least number where something above 0 is learned: temperatures, scales, frequencies that logarithms are taken of."""
_LARGEST = 100_000  # modalities times classes
# What scikit-learn keeps in every estimator whose metadata or output somebody has configured.
_FOREIGN = ("_metadata_request", "_sklearn_output_config", "_sklearn_version")


def anything(value: Any) -> None:
    """A value that is only looked at by people, or checked by its own class."""


def number(low: float = -MOST, high: float = MOST, infinite: bool = False) -> Check:
    """A number from ``low`` to ``high``, or also infinity."""

    def check(value: Any) -> None:
        real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not real or not (low <= value <= high or (infinite and value == math.inf)):
            raise ValueError(f"must be a number from {low:g} to {high:g}; got {_shown(value)}")

    return check


def flag(value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"must be true or false; got {_shown(value)}")


def text(value: Any) -> None:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"must be a text; got {_shown(value)}")


def facts(value: Any) -> None:
    """Numbers by name."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"must hold numbers by name; got {_shown(value)}")
    for found in value.values():
        number(infinite=True)(found)


def numbers(*shape: int, low: float = -MOST, high: float = MOST, whole: bool = False) -> Check:
    """An array of a shape, its numbers from ``low`` to ``high``."""

    def check(value: Any) -> None:
        kinds = "iu" if whole else "iuf"
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds or value.shape != shape:
            raise ValueError(f"must be an array of numbers of shape {shape}; got {_shown(value)}")
        if not ((value >= low) & (value <= high)).all():  # false for NaN as well
            raise ValueError(f"must hold numbers from {low:g} to {high:g}; got {_range(value)}")

    return check


def flags(*shape: int) -> Check:
    """An array of truth values."""

    def check(value: Any) -> None:
        if not isinstance(value, np.ndarray) or value.dtype != np.bool_ or value.shape != shape:
            raise ValueError(f"must be an array of truth values of shape {shape}; got {_shown(value)}")

    return check


def frequencies(k: int) -> Check:
    """An array of k frequencies that add up to 1."""

    def check(value: Any) -> None:
        numbers(k, low=0.0, high=1.0 + 1e-6)(value)
        if not abs(value.sum() - 1) < 1e-3:
            raise ValueError(f"must be frequencies that add up to 1; got a sum of {value.sum():g}")

    return check


def optional(check: Check) -> Check:
    """None, or what another check lets pass."""
    return lambda value: None if value is None else check(value)


def in_turn(checks: Sequence[Check]) -> Check:
    """A list whose values are let pass by one check each."""

    def check_all(values: Any) -> None:
        if not isinstance(values, list) or len(values) != len(checks):
            raise ValueError(f"must be a list of {len(checks)}; got {_shown(values)}")
        for check, value in zip(checks, values, strict=True):
            check(value)

    return check_all


def each(check: Check, n: int) -> Check:
    """A list of n values that a check lets pass."""
    return in_turn([check] * n)


def fuser_over(m: int, k: int) -> Check:
    """A fitted fuser of m modalities and k classes, or a pipeline around one."""

    def check(value: Any) -> None:
        if not callable(getattr(type(value), "predict_proba", None)):
            raise ValueError(f"must be a fuser; got {_shown(value)}")
        if _is_fuser(value):
            own = vars(value)
            found = own.get("n_modalities_"), np.size(own["classes_"]) if "classes_" in own else 0
            if found != (m, k):
                raise ValueError(f"must be a fuser of {m} modalities and {k} classes; got {found[0]} and {found[1]}")

    return check


# --- whole estimators -------------------------------------------------------------------------------------------------


def check_saved(value: Any) -> None:
    """Check what was read from disk, with all estimators inside.

    Parameters
    ----------
    value : object
        An estimator, or a collection that may hold some.

    Raises
    ------
    ValueError
        If an attribute is missing, is not one of the class, or is of another type, shape or range than declared.
    """
    for part in _parts(value):
        try:
            _check_estimator(part, fitted=part is value)
        except ValueError as error:
            raise ValueError(f"{type(part).__name__}: {error}") from None


def _parts(value: Any) -> list[Any]:
    """The estimators in a value, the outer ones first."""
    if isinstance(value, Mapping):
        return [part for inner in value.values() for part in _parts(inner)]
    if isinstance(value, list | tuple):
        return [part for inner in value for part in _parts(inner)]
    if _is_fuser(value) or type(value).__module__.startswith("affuse."):
        return [value, *_parts(vars(value))]
    if hasattr(value, "get_params") and hasattr(value, "__dict__"):  # pipelines and the like of scikit-learn
        return _parts(vars(value))
    return []


def _is_fuser(value: Any) -> bool:
    """Whether a value is a `Fuser`, the module of which imports this one."""
    return callable(getattr(type(value), "learned", None))


def _check_estimator(estimator: Any, fitted: bool) -> None:
    own = vars(estimator)
    parameters = inspect.signature(type(estimator)).parameters
    _need(own, parameters)
    for name, parameter in parameters.items():
        _apply(_by_annotation(parameter.annotation), name, own[name])
    rest = {name: value for name, value in own.items() if name not in parameters and name not in _FOREIGN}
    if not _is_fuser(estimator):
        _check_names(estimator, rest)
    elif rest or fitted:  # what is inside may be a model to be fitted
        _check_learned(estimator, own, rest)


def _check_learned(fuser: Any, own: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
    _need(own, _OF_ALL)
    _apply(_labels, "classes_", own["classes_"])
    _apply(_count, "n_modalities_", own["n_modalities_"])
    m, k = own["n_modalities_"], len(own["classes_"])
    if m * k > _LARGEST:
        raise ValueError(f"it has {m} modalities and {k} classes, more than any fuser")
    _apply(frequencies(k), "prior_", own["prior_"])
    declared = _declared(fuser, m, k)
    _need(own, declared)
    for name, check in declared.items():
        _apply(check, name, own[name])
    further = {name: value for name, value in rest.items() if name not in {*declared, *_OF_ALL}}
    if further and type(fuser).__module__.startswith("affuse."):
        raise ValueError(f"it has no attribute {min(map(str, further))!r}")
    _check_names(fuser, further)


_OF_ALL = ("classes_", "n_modalities_", "prior_")


def _declared(fuser: Any, m: int, k: int) -> Mapping[str, Check]:
    """What a class declares, which may look at how many sets or labels it has learned for."""
    try:
        found: Mapping[str, Check] = fuser.learned(m, k)
        return found
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"what it has learned does not hold together ({error})") from error


def _need(own: Mapping[str, Any], names: Any) -> None:
    missing = [name for name in names if name not in own]
    if missing:
        raise ValueError(f"its attribute {missing[0]!r} is missing")


def _apply(check: Check, name: str, value: Any) -> None:
    try:
        check(value)
    except ValueError as error:
        raise ValueError(f"its attribute {name!r} {error}") from None


def _check_names(estimator: Any, attributes: Mapping[str, Any]) -> None:
    """Raise ValueError for what is no learned attribute, such as a value in the place of a method."""
    for name in attributes:
        learned = isinstance(name, str) and name.endswith("_") and not name.startswith("_")
        if not learned or hasattr(type(estimator), name):
            raise ValueError(f"it has no attribute {name!r}")


def _count(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"must be a whole number above 0; got {_shown(value)}")


def _labels(value: Any) -> None:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or len(value) == 0:
        raise ValueError(f"must be an array of labels; got {_shown(value)}")
    plain = value.tolist()
    if not all(isinstance(label, str | int | float | bool) and label == label for label in plain):
        raise ValueError(f"must be an array of labels; got {_shown(plain)}")
    if len(set(plain)) < len(plain):
        raise ValueError(f"must hold different labels; got {_shown(plain)}")


def _by_annotation(annotation: Any) -> Check:
    """The check of a parameter; what is no plain type is left to the class."""
    kinds = [kind.strip() for kind in str(getattr(annotation, "__name__", annotation)).split("|")]
    check = _PLAIN.get(kinds[0], anything)
    return optional(check) if kinds[1:] == ["None"] else check if len(kinds) == 1 else anything


def _array_like(value: Any) -> None:
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"must be numbers; got {_shown(value)}") from None
    if array.dtype.kind not in "iuf" or not (np.abs(array) <= MOST).all():
        raise ValueError(f"must be numbers; got {_shown(value)}")


_PLAIN: dict[str, Check] = {
    "float": number(infinite=True),
    "int": number(),
    "bool": flag,
    "str": text,
    "ArrayLike": _array_like,
}


def _shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _range(value: np.ndarray) -> str:
    return "NaN" if np.isnan(value).any() else f"{value.min():g} to {value.max():g}"
