"""The files that pages are made from: templates, style sheets and scripts."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["asset", "template"]


def asset(name: str) -> str:
    """The text of a file in this package, such as "static/report.css"."""
    return files("affuse.report").joinpath(name).read_text(encoding="utf-8")


def template(name: str, **filters: Callable[..., str]) -> Template:
    """A template of "templates", which escapes what it is filled with, and refuses names that it is not given."""
    from jinja2 import Environment, StrictUndefined  # only pages need it

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(filters)
    return environment.from_string(asset(f"templates/{name}"))
