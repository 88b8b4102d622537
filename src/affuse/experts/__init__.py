"""Experts: each reads one modality of a recording and answers with probabilities; found by entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from affuse.errors import ConfigError

__all__ = ["DEFAULT_EXPERTS", "expert_names", "make_expert"]

DEFAULT_EXPERTS = {"face": "face", "voice": "voice", "text": "text"}
"""Name of the expert that reads each modality unless told otherwise."""

_GROUP = "affuse.experts"


def expert_names() -> list[str]:
    """Names of all installed experts, those of third parties included."""
    return sorted(entry_points(group=_GROUP).names)


def make_expert(name: str, **options: Any) -> Any:
    """Make the expert registered under ``name`` with ``options``. Raises ConfigError for an unknown one."""
    found = entry_points(group=_GROUP, name=name)
    if not found:
        raise ConfigError(
            f"unknown expert {name!r}; installed: {', '.join(expert_names())}, or give the folder of a trained one"
        )
    (point,) = tuple(found)[:1]
    return point.load()(**options)
