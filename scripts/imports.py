"""Which room of affuse imports which, read from the source by `ast`: for the architecture test and its picture."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "LAZY",
    "OWN_NAMES",
    "PACKAGE",
    "ROOMS",
    "Import",
    "house_imports",
    "imports",
    "lines_by_room",
    "modules",
    "room_imports",
    "room_of",
    "tree_of",
]

PACKAGE = Path(__file__).resolve().parent.parent / "src" / "affuse"

ROOMS = (
    "errors",
    "lazy",
    "timeline",
    "labels",
    "purpose",
    "registry",
    "progress",
    "files",
    "budget",
    "encryption",
    "tables",
    "weight_sets",
    "weights",
    "media",
    "experts",
    "packages",
    "loop",
    "fusion",
    "people",
    "features",
    "data",
    "results",
    "analyzer",
    "testing",
    "evaluation",
    "training",
    "federated",
    "exporting",
    "report",
    "batch",
    "service",
    "cli",
)
"""Rooms from the ground up: each imports only from those above it in this list.

Imports inside functions and for type checkers count as well, so that there is no circle at all.
"""

LAZY = {("cli", "training")}  # everything but training must work without torch
"""(room, room): allowed inside functions only, where it is loaded for the one call that needs it."""

OWN_NAMES = {"__version__"}
"""Names that the package itself holds without importing a room."""


@dataclass(frozen=True)
class Import:
    """One import statement: the dotted module, where it stands and whether it runs when its file is loaded."""

    module: str
    file: Path
    line: int
    at_load: bool

    @property
    def room(self) -> str:
        """The room that imports."""
        return room_of(self.file)

    @property
    def target(self) -> str:
        """The room that is imported."""
        return self.module.split(".")[1]

    def __str__(self) -> str:
        return f"{self.file.relative_to(PACKAGE)}:{self.line} imports {self.module}"


def room_of(file: Path) -> str:
    """The room of a file: the folder, or the module itself, directly in the package."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    """All modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


@cache
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a module, parsed once."""
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(file: Path, source: str | None = None) -> Iterator[Import]:
    """Every import of ``file``; ``from affuse import x`` counts as ``affuse.x``, relative ones become absolute."""
    tree = tree_of(file) if source is None else ast.parse(source, str(file))
    package = ("affuse", *file.relative_to(PACKAGE).parent.parts)
    lazy = {id(inner) for outer in ast.walk(tree) if _runs_later(outer) for inner in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names] if origin == "affuse" else [origin]
        else:
            continue
        for name in names:
            yield Import(name, file, node.lineno, id(node) not in lazy)


def _runs_later(node: ast.AST) -> bool:
    """Whether what is in ``node`` does not run when its file is loaded: functions, and what type checkers read."""
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def house_imports(file: Path, source: str | None = None) -> list[Import]:
    """The imports of ``file`` from affuse."""
    return [i for i in imports(file, source) if i.module.startswith("affuse.")]


def room_imports() -> Counter[tuple[str, str]]:
    """Number of import statements from one room (first) of another (second)."""
    found: Counter[tuple[str, str]] = Counter()
    for file in modules():
        if room_of(file) in ROOMS:
            found.update((i.room, i.target) for i in house_imports(file) if i.target in ROOMS and i.target != i.room)
    return found


def lines_by_room() -> dict[str, int]:
    """Lines of Python by room, without empty lines, comments and docstrings."""
    counts = dict.fromkeys(ROOMS, 0)
    for file in modules():
        if room_of(file) in counts:
            counts[room_of(file)] += _lines_of_code(file)
    return counts


def _lines_of_code(file: Path) -> int:
    tree = tree_of(file)
    text = file.read_text(encoding="utf-8").splitlines()
    lines = {n for n, line in enumerate(text, 1) if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node.value.value, str):  # a docstring, of whatever it stands below
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)
