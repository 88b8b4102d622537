"""The published JSON Schema of an analysis."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

__all__ = ["schema"]


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that `Analysis.to_dict` and every STEM.json obey.

    Returns
    -------
    dict
        Draft 2020-12.

    Examples
    --------
    >>> schema()["title"]
    'affuse analysis'
    """
    text = files("affuse.report").joinpath("analysis.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
