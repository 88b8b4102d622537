"""Dataclasses from tables such as those of TOML: checked by pydantic, and wrong options told in one sentence."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from affuse.errors import ConfigError

__all__ = ["as_overrides", "as_table", "build", "with_values"]

T = TypeVar("T")

# What pydantic's types of errors expect, by the beginning of their names.
_EXPECTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "path": "a path",
    "tuple": "a list",
    "dict": "a table",
    "mapping": "a table",
    "dataclass": "a table",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}


def build(kind: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """A dataclass from a table; ``where`` is the table's own name.

    Raises ConfigError, naming the option, its table and near names, for an unknown option, a missing one or a value
    that does not fit. Options may have their former names, which ``renamed`` of a dataclass lists.
    """
    told = json.dumps(_known(kind, table, where), default=str)  # JSON knows lists and texts, as TOML does
    try:
        built: T = _adapter(cast(Any, kind)).validate_json(told, strict=True)
    except ValidationError as error:
        raise ConfigError(_sentence(error.errors(include_url=False)[0], where)) from None
    return built


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _known(kind: Any, table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``table`` with options under the names that they have now; raises ConfigError for an unknown one."""
    renamed: Mapping[str, str] = vars(kind).get("renamed", {})
    hints = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    changed = {}
    for key, value in table.items():
        name = renamed.get(key, key)
        if name not in known:
            near = difflib.get_close_matches(key, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
            raise ConfigError(f"unknown option {key!r} in {_place(where)}; {hint}")
        inner = next((a for a in (hints[name], *get_args(hints[name])) if dataclasses.is_dataclass(a)), None)
        deeper = inner is not None and isinstance(value, Mapping)
        changed[name] = _known(inner, value, f"{where}.{name}" if where else name) if deeper else value
    return changed


def _place(where: str) -> str:
    return f"[{where}]" if where else "the configuration"


def _sentence(error: Any, where: str) -> str:
    """One sentence from an error of pydantic."""
    *outer, last = error["loc"] or ("",)
    table = ".".join(map(str, [*([where] if where else []), *outer]))
    if error["type"] == "missing" and isinstance(last, str):
        return f"{_place(table)} needs the option {last!r}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    option = table if error["type"] == "missing" else ".".join(filter(None, (table, str(last))))
    return f"{option} must be {_expected(error)}; got {error['input']!r}"


def _expected(error: Any) -> str:
    if error["type"] in _BOUNDS:
        name, words = _BOUNDS[error["type"]]
        return f"{words} {error['ctx'][name]:g}"
    if error["type"] == "literal_error":
        return f"one of {error['ctx']['expected'].replace(' or ', ', ')}".replace("'", "")
    if error["type"] in ("missing", "too_long", "too_short"):
        return "a list of another length"
    return next((words for name, words in _EXPECTED.items() if error["type"].startswith(name)), error["msg"].lower())


def with_values(table: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of ``table`` with values set by dotted name, each written as in TOML; bare words are strings.

    Raises ConfigError for what is not NAME=VALUE.
    """
    changed = _copy(table)
    for override in overrides:
        name, sign, text = override.partition("=")
        keys = name.strip().split(".")
        if not sign or not all(keys):
            raise ConfigError(f"--set takes NAME=VALUE such as training.learning_rate=0.001; got {override!r}")
        place = changed
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {override}: {key} is no table")
        place[keys[-1]] = _value(text.strip())
    return changed


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Values by dotted name in the form that `with_values` takes; those that are None are left out."""
    # JSON writes texts, numbers and lists as TOML does, but for escaped pairs of surrogates.
    return [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value is not None]


def as_table(value: Any) -> Any:
    """What TOML can hold of a configuration; options that are None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs: Iterable[tuple[str, Any]] = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list | tuple):
        return [as_table(item) for item in value]
    else:
        return str(value) if isinstance(value, Path) else value
    return {key: as_table(item) for key, item in pairs if item is not None}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in table.items()}
