"""Reading and writing the file of a prior; every field is checked before anything uses it."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from affuse.errors import ConfigError
from affuse.files import replacing
from affuse.fusion.priors.phrases import PhraseIndex
from affuse.fusion.priors.rules import Rule
from affuse.labels import recognise

__all__ = ["MAX_LOG_ODDS", "MAX_RULES", "MAX_WEIGHT", "MAX_WORDS", "check_size", "parse", "parse_rule", "read", "write"]

MAX_WORDS = 100_000
"""Entries of a lexicon, and phrases of all rules together."""

MAX_RULES = 10_000

MAX_LOG_ODDS = 10.0
"""Largest log-odds of one entry, either way: 10 makes 1 in 100 into 99.6 in 100."""

MAX_WEIGHT = 100.0

_MAX_BYTES = 64 * 2**20
_MAX_NAME = 200  # characters
_TOP = ("name", "base", "frequencies", "context", "lexicon", "weights", "rules")
_WORD_KEYS = ("any", "all", "none")
_RULE_KEYS = (
    "name", "label", "probability", "words", "person", "context", "after", "before", "part", "add", "weight"
)  # fmt: skip


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Values of a TOML or JSON file, and its SHA-256. Raises ConfigError where it is neither, or cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_BYTES >> 20} MiB, which no prior is")
    try:
        text = content.decode("utf-8-sig")
        values = _json(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # both parsers' errors, and text that is not UTF-8
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise ConfigError(f"{path} is not a {kind} file: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a table with some of {', '.join(_TOP)}")
    return values, hashlib.sha256(content).hexdigest()


def _json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"the key {Counter(keys).most_common(1)[0][0]!r} stands there twice")
        return values

    return json.loads(text, object_pairs_hook=unique)


def write(values: Mapping[str, Any], path: Path) -> None:
    """Write values as JSON, whole or not at all. Raises ConfigError for another suffix than .json, OutputError."""
    if path.suffix.lower() != ".json":
        raise ConfigError(f"a prior is written as JSON; name the file {path.with_suffix('.json').name}")
    content = json.dumps(values, ensure_ascii=False, indent=2) + "\n"
    with replacing(path) as [part]:
        part.write_text(content, encoding="utf-8")


def parse(values: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The fields of a `Prior` that ``values`` hold: name, base, frequencies, contexts, lexicon, weights, rules.

    Raises ConfigError, beginning with the key, for anything unknown or out of range.
    """
    _check_keys(values, "the file", _TOP)
    fields: dict[str, Any] = {}
    if "name" in values:
        fields["name"] = _name(values["name"], "name")
    if "base" in values:
        fields["base"] = _name(values["base"], "base")
    if "frequencies" in values:
        fields["frequencies"] = _frequencies(values["frequencies"], "frequencies", labels)
    if "base" in fields and "frequencies" in fields:
        raise ConfigError("base: the file has [frequencies] of its own; leave one of them out")
    fields["contexts"] = {
        context: _context(value, f"context.{context}", labels)
        for context, value in _table(values.get("context", {}), "context").items()
    }
    fields["lexicon"] = _lexicon(values.get("lexicon", {}), labels)
    fields["weights"] = _weights(values.get("weights", {}), fields["lexicon"])
    rules = values.get("rules", [])
    if not isinstance(rules, list):
        raise ConfigError(f"rules: must be a list of tables ([[rules]]); got {_kind(rules)}")
    check_size(fields["lexicon"], rules)
    fields["rules"] = tuple(parse_rule(rule, f"rules[{i + 1}]", labels) for i, rule in enumerate(rules))
    _check_phrases(fields["rules"])
    return fields


def check_size(lexicon: Collection[Any], rules: Collection[Any]) -> None:
    """Raise ConfigError for more words or rules than are allowed."""
    for key, entries, most in (("lexicon", lexicon, MAX_WORDS), ("rules", rules, MAX_RULES)):
        if len(entries) > most:
            raise ConfigError(f"{key}: at most {most:,} entries; got {len(entries):,}")


def parse_rule(value: Any, key: str, labels: Sequence[str]) -> Rule:
    """A rule from one table. Raises ConfigError, beginning with ``key``."""
    table = _table(value, key)
    _check_keys(table, key, _RULE_KEYS)
    if not table.get("add"):
        raise ConfigError(f'{key}.add: a rule needs the log-odds that it adds, for example {{ "{labels[0]}" = 1.0 }}')
    words = table.get("words", {})
    said = _table(words, f"{key}.words") if isinstance(words, Mapping) else {"any": words}
    _check_keys(said, f"{key}.words", _WORD_KEYS)
    any_words, all_words, no_words = (_texts(said.get(how, []), f"{key}.words.{how}") for how in _WORD_KEYS)
    rule = Rule(
        name=_name(table.get("name", key), f"{key}.name"),
        add=_by_label(table["add"], f"{key}.add", labels, -MAX_LOG_ODDS, MAX_LOG_ODDS),
        label=tuple(_label(label, f"{key}.label", labels) for label in _texts(table.get("label", []), f"{key}.label")),
        probability=_by_label(table.get("probability", {}), f"{key}.probability", labels, 0.0, 1.0),
        any_words=any_words,
        all_words=all_words,
        no_words=no_words,
        person=_texts(table.get("person", []), f"{key}.person"),
        context=_texts(table.get("context", []), f"{key}.context"),
        after=_optional(table, "after", key),
        before=_optional(table, "before", key),
        part=_part(table["part"], f"{key}.part") if "part" in table else None,
        weight=_number(table.get("weight", 1.0), f"{key}.weight", 0.0, MAX_WEIGHT),
    )
    if not rule.needs:
        raise ConfigError(f"{key}: a rule needs a condition; what always holds belongs into [frequencies]")
    if rule.after is not None and rule.before is not None and rule.after >= rule.before:
        raise ConfigError(f"{key}: after must be less than before; got {rule.after:g} and {rule.before:g}")
    return rule


def _check_phrases(rules: Iterable[Rule]) -> None:
    phrases = {phrase for rule in rules for phrase in rule.words}
    if len(phrases) > MAX_WORDS:
        raise ConfigError(f"rules: at most {MAX_WORDS:,} different phrases; got {len(phrases):,}")
    for rule in rules:
        for phrase in rule.words:
            try:
                PhraseIndex([phrase])
            except ConfigError as error:
                raise ConfigError(f"the rule {rule.name!r}, words: {error}") from error


def _context(value: Any, key: str, labels: Sequence[str]) -> list[float]:
    table = _table(value, key)
    _check_keys(table, key, ("frequencies",))
    if "frequencies" not in table:
        raise ConfigError(f"{key}: needs a table [{key}.frequencies]")
    return _frequencies(table["frequencies"], f"{key}.frequencies", labels)


def _frequencies(value: Any, key: str, labels: Sequence[str]) -> list[float]:
    found = _by_label(value, key, labels, 0.0, 1e15)
    missing = [label for label in labels if label not in found]
    if missing:
        raise ConfigError(f"{key}: lacks {', '.join(missing)}; every label needs a number, 0 for never")
    if not any(found.values()):
        raise ConfigError(f"{key}: all are 0; at least one label must be possible")
    return [found[label] for label in labels]


def _lexicon(value: Any, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    table = _table(value, "lexicon")
    check_size(table, ())
    words = {
        word: _by_label(adds, f"lexicon.{word}", labels, -MAX_LOG_ODDS, MAX_LOG_ODDS) for word, adds in table.items()
    }
    try:
        PhraseIndex(tuple(words))
    except ConfigError as error:
        raise ConfigError(f"lexicon: {error}") from error
    return words


def _weights(value: Any, lexicon: Mapping[str, Any]) -> dict[str, float]:
    table = _table(value, "weights")
    foreign = [word for word in table if word not in lexicon]
    if foreign:
        raise ConfigError(f"weights.{foreign[0]}: the lexicon does not hold this word")
    return {word: _number(weight, f"weights.{word}", 0.0, MAX_WEIGHT) for word, weight in table.items()}


def _by_label(value: Any, key: str, labels: Sequence[str], low: float, high: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, number in _table(value, key).items():
        label = _label(name, f"{key}.{name}", labels)
        if label in found:
            raise ConfigError(f"{key}.{name}: {label} stands there twice")
        found[label] = _number(number, f"{key}.{name}", low, high)
    return found


def _label(name: str, key: str, labels: Sequence[str]) -> str:
    """The label that ``name`` is or means ("joy": happiness)."""
    meant = name if name in labels else recognise(name)
    if meant is None or meant not in labels:
        raise ConfigError(f"{key}: unknown label {name!r}; labels: {', '.join(labels)}")
    return meant


def _table(value: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: must be a table; got {_kind(value)}")
    return value


def _check_keys(table: Mapping[str, Any], key: str, known: Sequence[str]) -> None:
    unknown = [name for name in table if name not in known]
    if unknown:
        raise ConfigError(f"{key}: unknown key {unknown[0]!r}; known: {', '.join(known)}")


def _number(value: Any, key: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{key}: must be a number; got {_kind(value)}")
    if not low <= value <= high or not math.isfinite(value):  # False for NaN
        shown = f"{value:g}" if isinstance(value, float) else "a number outside"
        raise ConfigError(f"{key}: must lie between {low:g} and {high:g}; got {shown}")
    return float(value)


def _optional(table: Mapping[str, Any], name: str, key: str) -> float | None:
    return _number(table[name], f"{key}.{name}", 0.0, 1e9) if name in table else None


def _part(value: Any, key: str) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ConfigError(f"{key}: must be two shares of the recording, for example [0.9, 1.0]")
    first, last = (_number(share, key, 0.0, 1.0) for share in value)
    if first >= last:
        raise ConfigError(f"{key}: must begin before it ends; got {first:g} and {last:g}")
    return first, last


def _texts(value: Any, key: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(text, str) and text.strip() for text in values):
        raise ConfigError(f"{key}: must be a text or a list of texts, none of them empty")
    return tuple(values)


def _name(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_NAME or not value.isprintable():
        raise ConfigError(f"{key}: must be a text of 1 to {_MAX_NAME} printable characters")
    return value


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return kinds.get(type(value), type(value).__name__)
