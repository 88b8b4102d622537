"""Python on the pages compiles, and every name of affuse that a page names is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import PAGES, ROOT, blocks, prose

pytestmark = pytest.mark.skipif(not (ROOT / "CONTRIBUTING.md").is_file(), reason="not part of this source distribution")

CHECKED = [page for page in PAGES if page.name != "CHANGELOG.md"]
TORCH_ROOMS = ("affuse.fusion.networks", "affuse.training")


def modules_and_names(page: Path) -> Iterator[str]:
    """Dotted names of affuse in a page: imports and attributes of its Python, and code within its sentences."""
    for block in blocks(page):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "affuse":
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)
                elif isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "affuse")
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "affuse":
                    yield f"affuse.{node.attr}"
    yield from re.findall(r"`(affuse(?:\.\w+)+)(?:\([^`]*\))?`", prose(page))


def groups() -> set[str]:
    """Groups of entry points, which are written like modules."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        own = tomllib.load(file)["project"]["entry-points"]
    more = ("fusers", "corpora", "features", "languages", "networks", "formats")
    return {*own, *(f"affuse.{name}" for name in more)}


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.parametrize("page", CHECKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_of_affuse_are_there(page: Path) -> None:
    has_torch = importlib.util.find_spec("torch") is not None
    named = {name for name in modules_and_names(page) if has_torch or not name.startswith(TORCH_ROOMS)}
    missing = {name for name in named - groups() if not is_there(name)}
    assert not missing, ", ".join(sorted(missing))


def test_the_check_tells_right_from_wrong() -> None:
    assert is_there("affuse.fusion.MeanRule")
    assert is_there("affuse.analyze")
    assert not is_there("affuse.fusion.MeanRuler")
    assert not is_there("affuse.fusing")
