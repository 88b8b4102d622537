"""The state of a fitted estimator as values of JSON and named arrays, and back.

Plain values stand as they are; everything else is an object with a single key that says what it is:

=================  =====================================================================================
``{"float": s}``   a number that JSON lacks: "nan", "inf", "-inf"
``{"tuple": v}``   as are "set" and "frozenset"; ``{"dict": [[key, value], …]}`` keeps keys of any kind
``{"array": n}``   the array ``n`` of the file of arrays; ``{"scalar": n}`` a NumPy scalar, kept as one
``{"objects": v}`` an array of Python objects, as (shape, values)
``{"object": v}``  an estimator of affuse or of a registered package, as (class, parameters and learned state)
``{"foreign": n}`` what only scikit-learn can write, ``n`` of the file of skops
=================  =====================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["Decoder", "Encoder", "class_name"]

_COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def class_name(kind: type) -> str:
    """A class as "module.Class"."""
    return f"{kind.__module__}.{kind.__qualname__}"


class Encoder:
    """Writes values; ``arrays`` and ``foreign`` hold by name what JSON cannot.

    Parameters
    ----------
    is_ours: whether an object is an estimator whose attributes are its whole state.

    Examples
    --------
    >>> encoder = Encoder(is_ours=lambda value: False)
    >>> encoder.encode((1, float("inf")))
    {'tuple': [1, {'float': 'inf'}]}
    """

    def __init__(self, is_ours: Callable[[Any], bool]) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.foreign: dict[str, Any] = {}
        self._is_ours = is_ours

    def encode(self, value: Any) -> Any:
        """``value`` as JSON holds it."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if type(value) is list:
            return [self.encode(part) for part in value]
        if type(value) is dict:
            return {"dict": [[self.encode(key), self.encode(part)] for key, part in value.items()]}
        for name, kind in _COLLECTIONS.items():
            if type(value) is kind:
                return {name: [self.encode(part) for part in value]}
        if type(value) is np.ndarray:
            return self._encode_array(value)
        if isinstance(value, np.generic) and value.dtype != object:
            return {"scalar": self._keep(self.arrays, np.asarray(value))}
        if self._is_ours(value):
            return {"object": [class_name(type(value)), self.encode(dict(vars(value)))]}
        return {"foreign": self._keep(self.foreign, value)}

    def _encode_array(self, value: np.ndarray) -> dict[str, Any]:
        if value.dtype.hasobject:
            return {"objects": [list(value.shape), [self.encode(part) for part in value.ravel()]]}
        return {"array": self._keep(self.arrays, value)}

    @staticmethod
    def _keep(place: dict[str, Any], value: Any) -> str:
        name = str(len(place))
        place[name] = value
        return name


class Decoder:
    """Reads what `Encoder` wrote.

    Parameters
    ----------
    arrays, foreign: what the state refers to, by name.
    find: the class of a name, for every name that may be built; raises what it likes for others.
    """

    def __init__(self, arrays: Mapping[str, Any], foreign: Mapping[str, Any], find: Callable[[str], type]) -> None:
        self._find = find
        self._readers: dict[str, Callable[[Any], Any]] = {
            "float": lambda text: float(_checked(text, str)),
            "dict": lambda pairs: {self.decode(key): self.decode(value) for key, value in pairs},
            "array": lambda name: arrays[name],
            "scalar": lambda name: arrays[name][()],
            "objects": self._objects,
            "object": self._object,
            "foreign": lambda name: foreign[name],
        }

    def decode(self, value: Any) -> Any:
        """The value that was encoded. Raises ValueError, TypeError or KeyError where it is not well-formed."""
        if isinstance(value, list):
            return [self.decode(part) for part in value]
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()  # ValueError for any other number of keys
        if kind in _COLLECTIONS:
            return _COLLECTIONS[kind](self.decode(_checked(content, list)))
        return self._readers[kind](content)

    def _objects(self, content: Any) -> np.ndarray:
        shape, values = content
        array = np.empty(len(values), dtype=object)
        for i, part in enumerate(_checked(values, list)):
            array[i] = self.decode(part)
        return array.reshape(shape)

    def _object(self, content: Any) -> Any:
        name, state = _checked(content, list)
        found: Any = object.__new__(self._find(_checked(name, str)))
        found.__dict__.update(_checked(self.decode(state), dict))
        return found


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value
