"""What the site needs beside Sphinx: pages of the API, links that suit GitHub and the site, the language of a page."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference" / "generated"
PUBLIC_MODULES = ROOT / "tests" / "test_docstrings.py"

CARD = re.compile(r"\]\((?:\.\./)+src/affuse/assets/(?:fuser/)?(\w+)\.md")
"""A link to a model card as it works in the repository; the site shows the card as a page of its own."""

BESIDE = re.compile(r"\]\((?:\.\./)+(CONTRIBUTING|SECURITY|CHANGELOG)\.md")
"""A link to a page at the root of the repository, which the site shows as well."""

WITHOUT_TORCH = "This module needs ``pip install 'affuse[train]'``; the site was built without it.\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", point_to_pages)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("html-page-context", set_language)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def point_to_pages(app: Sphinx, page: str, source: list[str]) -> None:
    """Lead links that leave the folder of the documentation to the page of the site that shows the same."""
    up = "../" * page.count("/")
    text = CARD.sub(lambda found: f"]({up}cards/{found[1]}.md", source[0])
    source[0] = BESIDE.sub(lambda found: f"]({up}{found[1].lower()}.md", text)


def skip_member(app: Sphinx, kind: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn adds to every estimator for metadata routing."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def set_language(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Say to browsers and screen readers which pages are Chinese."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"


def public_modules() -> tuple[str, ...]:
    """The modules whose ``__all__`` is public, as the suite checks them."""
    for node in ast.parse(PUBLIC_MODULES.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "MODULES":
            return tuple(ast.literal_eval(node.value))
    raise LookupError(f"{PUBLIC_MODULES} has no MODULES")


def write_reference(app: Sphinx) -> None:
    """Write one page a public module; a name that several modules list stands where it is listed first."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    seen: set[Any] = set()
    names = public_modules()
    for name in names:
        path, text = REFERENCE / f"{name}.rst", page_of(name, seen)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:  # an unchanged page is not read again
            path.write_text(text, encoding="utf-8")
    for old in REFERENCE.glob("*.rst"):
        if old.stem not in names:
            old.unlink()


def page_of(name: str, seen: set[Any]) -> str:
    """The page of a module: what it is for, a table of its names, and each of them in full."""
    head = f"{name}\n{'=' * len(name)}\n\n"
    try:
        module = importlib.import_module(name)
    except ImportError:
        if importlib.util.find_spec("torch") is not None:
            raise
        return head + WITHOUT_TORCH
    parts = [head, f".. automodule:: {name}\n   :no-members:\n\n.. currentmodule:: {name}\n\n"]
    classes, functions, constants = sorted_names(module, seen)
    listed = [*classes, *functions]
    if listed:
        parts.append(".. autosummary::\n   :nosignatures:\n\n" + "".join(f"   {n}\n" for n in listed) + "\n")
    parts += [f".. autoclass:: {n}\n   :members:\n\n" for n in classes]
    parts += [f".. autofunction:: {n}\n\n" for n in functions]
    parts += [constant(n, getattr(module, n)) for n in constants]
    return "".join(parts)


def sorted_names(module: ModuleType, seen: set[Any]) -> tuple[list[str], list[str], list[str]]:
    """Classes, functions and constants of ``__all__`` that no module before has listed."""
    kinds: tuple[list[str], list[str], list[str]] = [], [], []
    for name in sorted(module.__all__):
        value = getattr(module, name)
        key = id(value) if inspect.isclass(value) or inspect.isroutine(value) else (id(value), name)
        if key in seen or name.startswith("__"):
            continue
        seen.add(key)
        kinds[0 if inspect.isclass(value) else 1 if inspect.isroutine(value) else 2].append(name)
    return kinds


def constant(name: str, value: Any) -> str:
    """The entry of a constant, with the string that stands below it in the source."""
    said = next(comments_on(name, value), "")
    shown = repr(value)
    lines = [f".. py:data:: {name}", *([f"   :value: {shown}"] if len(shown) < 100 else []), ""]
    return "\n".join([*lines, *(f"   {line}" for line in said.splitlines()), "\n"])


def comments_on(name: str, value: Any) -> Iterator[str]:
    """What the modules of affuse that hold a constant say about it."""
    for module, home in list(sys.modules.items()):
        if module.split(".")[0] == "affuse" and vars(home).get(name) is value:
            analyzer = ModuleAnalyzer.for_module(module)
            analyzer.analyze()
            found = analyzer.attr_docs.get(("", name))
            if found:
                yield "\n".join(found)
